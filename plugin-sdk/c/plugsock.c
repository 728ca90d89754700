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

/* Says more of a failure. Only who uses TLS sets it, so that the linker leaves TLS out of all other handlers; were it
 * static, the compiler would see what it may be, and call that. */
void (*plugsock_explain)(void);

/* Appends to a text as much as there is room for. */
static void append(char *text, size_t size, const void *more, size_t length) {
    size_t used = strlen(text);
    if (length > size - used - 1)
        length = size - used - 1;
    memcpy(text + used, more, length);
    text[used + length] = 0;
}

static const char *words_of(const plugsock_handler_types_error_t *error) {
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
    if (error->tag != PLUGSOCK_HANDLER_TYPES_ERROR_OTHER)
        return words[error->tag];
    other[0] = 0;
    append(other, sizeof other, error->val.other.ptr, error->val.other.len);
    return other;
}

/* Remembers why an operation failed. */
static bool fail(plugsock_handler_types_error_t *error) {
    request.error = words_of(error);
    plugsock_handler_types_error_free(error);
    if (plugsock_explain != NULL)
        plugsock_explain();
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

static const char *const tls_words[] = {
    [PLUGSOCK_HANDLER_TYPES_TLS_ERROR_HANDSHAKE_FAILED] = "the TLS handshake failed: ",
    [PLUGSOCK_HANDLER_TYPES_TLS_ERROR_CERTIFICATE_REFUSED] = "the client's certificate is refused: ",
    [PLUGSOCK_HANDLER_TYPES_TLS_ERROR_CLOSED_WITHOUT_NOTICE] =
        "the client closed the connection without notice, so that its data may be cut short",
    [PLUGSOCK_HANDLER_TYPES_TLS_ERROR_UNPROTECTED_BYTES] =
        "the client sent data in the clear where TLS was to begin",
    [PLUGSOCK_HANDLER_TYPES_TLS_ERROR_NO_IDENTITY] = "the server has no certificate for this: ",
    [PLUGSOCK_HANDLER_TYPES_TLS_ERROR_ALREADY_PROTECTED] = "the connection is protected already",
};

/* Remembers why the connection is not protected. */
static void *fail_tls(plugsock_handler_types_tls_error_t *error) {
    static char alert[64], words[512];
    const handler_string_t *message = NULL;
    words[0] = alert[0] = 0;
    request.tls_error = error->tag;
    request.tls_alert = NULL;
    request.error = words;
    switch (error->tag) {
    case PLUGSOCK_HANDLER_TYPES_TLS_ERROR_HANDSHAKE_FAILED:
        message = &error->val.handshake_failed.message;
        if (error->val.handshake_failed.alert.is_some) {
            const handler_string_t *name = &error->val.handshake_failed.alert.val;
            append(alert, sizeof alert, name->ptr, name->len);
            request.tls_alert = alert;
        }
        break;
    case PLUGSOCK_HANDLER_TYPES_TLS_ERROR_CERTIFICATE_REFUSED:
        message = &error->val.certificate_refused;
        break;
    case PLUGSOCK_HANDLER_TYPES_TLS_ERROR_NO_IDENTITY:
        message = &error->val.no_identity;
        break;
    case PLUGSOCK_HANDLER_TYPES_TLS_ERROR_CONNECTION:
        request.error = words_of(&error->val.connection);
        break;
    }
    if (request.error == words)
        append(words, sizeof words, tls_words[error->tag], strlen(tls_words[error->tag]));
    if (message != NULL)
        append(words, sizeof words, message->ptr, message->len);
    if (request.tls_alert != NULL) {
        append(words, sizeof words, " (", 2);
        append(words, sizeof words, alert, strlen(alert));
        append(words, sizeof words, ")", 1);
    }
    plugsock_handler_types_tls_error_free(error);
    return NULL;
}

static void explain_by_tls(void) {
    plugsock_handler_types_tls_error_t error;
    if (plugsock_handler_types_method_request_tls_error(request.socket, &error))
        fail_tls(&error);
}

/* As C has strings; takes the memory. */
char *plugsock_terminated(handler_string_t *string) {
    char *text = realloc(string->len > 0 ? string->ptr : NULL, string->len + 1);
    if (text == NULL)
        abort();
    text[string->len] = 0;
    return text;
}

/* As C has strings; takes the memory. */
static const struct plugsock_tls *described(plugsock_handler_types_tls_info_t *info) {
    static struct plugsock_tls tls;
    free((void *)tls.protocol);
    free((void *)tls.cipher_suite);
    free((void *)tls.server_name);
    free((void *)tls.alpn);
    /* The generated function frees the list, and none of what is in it. */
    for (size_t i = 0; i < tls.client_certificates.len; i++)
        handler_list_u8_free(&tls.client_certificates.ptr[i]);
    handler_list_list_u8_free(&tls.client_certificates);
    for (const char *const *name = tls.client_names; name != NULL && *name != NULL; name++)
        free((void *)*name);
    free((void *)tls.client_names);

    handler_list_string_t *names = &info->client_names;
    const char **client_names = malloc((names->len + 1) * sizeof *client_names);
    if (client_names == NULL)
        abort();
    for (size_t i = 0; i < names->len; i++)
        client_names[i] = plugsock_terminated(&names->ptr[i]);
    client_names[names->len] = NULL;
    if (names->len > 0)
        free(names->ptr);
    tls = (struct plugsock_tls){
        .protocol = plugsock_terminated(&info->protocol),
        .cipher_suite = plugsock_terminated(&info->cipher_suite),
        .server_name = info->server_name.is_some ? plugsock_terminated(&info->server_name.val) : NULL,
        .alpn = info->alpn.is_some ? plugsock_terminated(&info->alpn.val) : NULL,
        .resumed = info->resumed,
        .client_certificates = info->client_certificates,
        .client_names = client_names,
    };
    return &tls;
}

static handler_string_t borrowed(const char *text) {
    return (handler_string_t){.ptr = (uint8_t *)text, .len = strlen(text)};
}

const struct plugsock_tls *plugsock_tls(struct plugsock_request *r) {
    plugsock_explain = explain_by_tls;
    plugsock_handler_types_tls_info_t info;
    return plugsock_handler_types_method_request_tls(r->socket, &info) ? described(&info) : NULL;
}

const struct plugsock_tls *plugsock_start_tls(struct plugsock_request *r, const char *identity,
                                              const char *const *alpn) {
    plugsock_explain = explain_by_tls;
    r->error = NULL;
    plugsock_handler_types_tls_error_t error;
    if (input_read < input.len) {
        /* Nothing that the client said in the clear may count as protected. */
        error.tag = PLUGSOCK_HANDLER_TYPES_TLS_ERROR_ALREADY_PROTECTED;
        if (plugsock_tls(r) == NULL) {
            discard_input();
            plugsock_handler_types_error_t unused;
            if (!plugsock_handler_types_method_request_shutdown(
                    r->socket, PLUGSOCK_HANDLER_TYPES_SHUTDOWN_HOW_BOTH, &unused))
                plugsock_handler_types_error_free(&unused);
            error.tag = PLUGSOCK_HANDLER_TYPES_TLS_ERROR_UNPROTECTED_BYTES;
        }
        return fail_tls(&error);
    }
    handler_string_t name = borrowed(identity != NULL ? identity : "");
    handler_list_string_t protocols = {.ptr = NULL, .len = 0};
    for (; alpn != NULL && alpn[protocols.len] != NULL; protocols.len++) {
        handler_string_t *longer = realloc(protocols.ptr, (protocols.len + 1) * sizeof *longer);
        if (longer == NULL)
            abort();
        longer[protocols.len] = borrowed(alpn[protocols.len]);
        protocols.ptr = longer;
    }
    plugsock_handler_types_tls_info_t info;
    bool is_protected = plugsock_handler_types_method_request_start_tls(
        r->socket, identity != NULL ? &name : NULL, &protocols, &info, &error);
    free(protocols.ptr);
    return is_protected ? described(&info) : fail_tls(&error);
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

struct plugsock_request *plugsock_lent(plugsock_handler_types_borrow_request_t socket) {
    request = (struct plugsock_request){.socket = socket, .tls_error = -1};
    return &request;
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
    r->tls_error = -1;
    r->tls_alert = NULL;
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
