#include "plugsock.h"

#include <stdlib.h>
#include <string.h>

/* What was received and not read yet. */
static handler_list_u8_t input;
static size_t input_read;

/* The reply to a datagram. */
static handler_list_u8_t reply;

static struct plugsock_request request;

__attribute__((weak)) const char *setup(struct plugsock_request *unused) {
    (void)unused;
    return NULL;
}

__attribute__((weak)) const char *finish(struct plugsock_request *unused) {
    (void)unused;
    return NULL;
}

/* Remembers why an operation failed. */
static bool fail(plugsock_handler_types_error_t *error) {
    static const char *const words[] = {
        [PLUGSOCK_HANDLER_TYPES_ERROR_CLOSED] = "the connection is closed",
        [PLUGSOCK_HANDLER_TYPES_ERROR_TIMED_OUT] = "timed out",
        [PLUGSOCK_HANDLER_TYPES_ERROR_RESET] = "the client reset the connection",
        [PLUGSOCK_HANDLER_TYPES_ERROR_MESSAGE_TOO_LARGE] = "the datagram is too large for its transport",
        [PLUGSOCK_HANDLER_TYPES_ERROR_NO_REPLY_ADDRESS] =
            "the client's socket has no name, so it cannot be answered",
        [PLUGSOCK_HANDLER_TYPES_ERROR_NOT_PERMITTED] = "the server was not granted this",
        [PLUGSOCK_HANDLER_TYPES_ERROR_UNSUPPORTED] = "this server type has no such operation",
    };
    static char other[256];
    if (error->tag == PLUGSOCK_HANDLER_TYPES_ERROR_OTHER) {
        size_t length = error->val.other.len < sizeof other ? error->val.other.len : sizeof other - 1;
        memcpy(other, error->val.other.ptr, length);
        other[length] = 0;
        request.error = other;
    } else {
        request.error = words[error->tag];
    }
    plugsock_handler_types_error_free(error);
    return false;
}

static void discard_input(void) {
    handler_list_u8_free(&input);
    input.len = input_read = 0;
}

/* Has something to read in `input`, unless the end or an error came. */
static bool fill(size_t wanted) {
    if (input_read < input.len)
        return true;
    discard_input();
    uint32_t max = wanted < 8192 ? 8192 : wanted < 1024 * 1024 ? wanted : 1024 * 1024;
    plugsock_handler_types_error_t error;
    if (!plugsock_handler_types_method_request_recv(request.socket, max, &input, &error))
        return fail(&error);
    return input.len > 0;
}

size_t plugsock_read(struct plugsock_request *r, void *data, size_t size) {
    r->error = NULL;
    if (size == 0 || !fill(size))
        return 0;
    size_t length = input.len - input_read < size ? input.len - input_read : size;
    memcpy(data, input.ptr + input_read, length);
    input_read += length;
    return length;
}

size_t plugsock_read_line(struct plugsock_request *r, char *line, size_t size) {
    r->error = NULL;
    size_t length = 0;
    while (length + 1 < size && fill(1)) {
        line[length++] = input.ptr[input_read++];
        if (line[length - 1] == '\n')
            break;
    }
    if (size > 0)
        line[length] = 0;
    return length;
}

bool plugsock_send(struct plugsock_request *r, const void *data, size_t size) {
    r->error = NULL;
    handler_list_u8_t list = {.ptr = (uint8_t *)data, .len = size};
    plugsock_handler_types_error_t error;
    return plugsock_handler_types_method_request_send(r->socket, &list, &error) || fail(&error);
}

bool plugsock_write(struct plugsock_request *r, const void *data, size_t size) {
    if (!plugsock_is_datagram(r))
        return size == 0 || plugsock_send(r, data, size);
    r->error = NULL;
    uint8_t *longer = realloc(reply.ptr, reply.len + size + 1);
    if (longer == NULL) {
        r->error = "out of memory";
        return false;
    }
    memcpy(longer + reply.len, data, size);
    reply.ptr = longer;
    reply.len += size;
    return true;
}

bool plugsock_puts(struct plugsock_request *r, const char *text) {
    return plugsock_write(r, text, strlen(text));
}

bool plugsock_is_datagram(struct plugsock_request *r) {
    /* Asked once: the host would have to make all of the server's names again. */
    static enum { UNKNOWN, STREAM, DATAGRAM } kind;
    if (kind == UNKNOWN) {
        plugsock_handler_types_server_info_t server;
        plugsock_handler_types_method_request_server(r->socket, &server);
        kind = server.server_type == PLUGSOCK_HANDLER_TYPES_SERVER_TYPE_UDP ||
                       server.server_type == PLUGSOCK_HANDLER_TYPES_SERVER_TYPE_UNIX_DATAGRAM
                   ? DATAGRAM
                   : STREAM;
        plugsock_handler_types_server_info_free(&server);
    }
    return kind == DATAGRAM;
}

/* Runs a function of the handler. A borrowed request must be dropped before the component's function returns. */
static bool run(const char *(*function)(struct plugsock_request *),
                exports_plugsock_handler_request_handler_borrow_request_t socket, handler_string_t *err) {
    request.socket = socket;
    request.error = NULL;
    const char *error = function(&request);
    if (error != NULL)
        handler_string_dup(err, error);
    plugsock_handler_types_request_drop_borrow(socket);
    return error == NULL;
}

static const char *finish_and_reply(struct plugsock_request *r) {
    const char *error = finish(r);
    if (reply.len > 0 && !plugsock_send(r, reply.ptr, reply.len) && error == NULL)
        error = r->error;
    return error;
}

static const char *begin(struct plugsock_request *r) {
    /* The host may let one instance serve several requests in turn. */
    discard_input();
    reply.len = 0;
    return setup(r);
}

bool exports_plugsock_handler_request_handler_setup(
    exports_plugsock_handler_request_handler_borrow_request_t socket, handler_string_t *err) {
    return run(begin, socket, err);
}

bool exports_plugsock_handler_request_handler_handle(
    exports_plugsock_handler_request_handler_borrow_request_t socket, handler_string_t *err) {
    return run(handle, socket, err);
}

bool exports_plugsock_handler_request_handler_finish(
    exports_plugsock_handler_request_handler_borrow_request_t socket, handler_string_t *err) {
    return run(finish_and_reply, socket, err);
}
