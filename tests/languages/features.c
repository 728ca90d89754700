/* Does what the first words of its client ask for, by all that the contract has besides reading and writing, and
 * answers with the same bytes otherwise. The hooks say that they were called. */
#include "hooks.h"

#include <stdio.h>
#include <string.h>

/* An address in words. */
static const char *in_words(const plugsock_handler_types_address_t *address) {
    static char words[2][32];
    static int turn;
    turn = !turn;
    if (address->tag == PLUGSOCK_HANDLER_TYPES_ADDRESS_IP &&
        address->val.ip.tag == WASI_SOCKETS_NETWORK_IP_SOCKET_ADDRESS_IPV4) {
        const wasi_sockets_network_ipv4_socket_address_t *ip = &address->val.ip.val.ipv4;
        snprintf(words[turn], sizeof words[turn], "%d.%d.%d.%d:%d", ip->address.f0, ip->address.f1,
                 ip->address.f2, ip->address.f3, ip->port);
        return words[turn];
    }
    return "another";
}

/* Waits for the client and a timer at once, until the client's end. */
static const char *tick(struct plugsock_request *request) {
    plugsock_handler_types_error_t error;
    plugsock_handler_types_own_input_stream_t input;
    plugsock_handler_types_own_output_stream_t output;
    if (!plugsock_handler_types_method_request_rfile(request->socket, &input, &error) ||
        !plugsock_handler_types_method_request_wfile(request->socket, &output, &error))
        return "there are no streams";
    wasi_io_streams_borrow_input_stream_t reader = wasi_io_streams_borrow_input_stream(input);
    wasi_io_streams_borrow_output_stream_t writer = wasi_io_streams_borrow_output_stream(output);
    for (;;) {
        wasi_io_poll_own_pollable_t client = wasi_io_streams_method_input_stream_subscribe(reader);
        wasi_io_poll_own_pollable_t timer = wasi_clocks_monotonic_clock_subscribe_duration(20 * 1000 * 1000);
        wasi_io_poll_borrow_pollable_t pollables[] = {wasi_io_poll_borrow_pollable(client),
                                                      wasi_io_poll_borrow_pollable(timer)};
        wasi_io_poll_list_borrow_pollable_t list = {.ptr = pollables, .len = 2};
        handler_list_u32_t ready;
        wasi_io_poll_poll(&list, &ready);
        bool is_tick = ready.ptr[0] == 1;
        handler_list_u32_free(&ready);
        wasi_io_poll_pollable_drop_own(client);
        wasi_io_poll_pollable_drop_own(timer);

        handler_list_u8_t data = {.ptr = (uint8_t *)"tick\n", .len = 5};
        wasi_io_streams_stream_error_t failure;
        if (!is_tick && !wasi_io_streams_method_input_stream_read(reader, 4096, &data, &failure))
            return failure.tag == WASI_IO_STREAMS_STREAM_ERROR_CLOSED ? NULL : "it cannot be read";
        if (!wasi_io_streams_method_output_stream_blocking_write_and_flush(writer, &data, &failure))
            return "it cannot be written";
        if (!is_tick)
            handler_list_u8_free(&data);
    }
}

/* Waits for the drain and the client at once. */
static const char *wait(struct plugsock_request *request) {
    bool is_draining = plugsock_handler_types_method_request_is_draining(request->socket);
    plugsock_puts(request, is_draining ? "draining\n" : "serving\n");
    plugsock_handler_types_error_t error;
    plugsock_handler_types_own_input_stream_t input;
    if (!plugsock_handler_types_method_request_rfile(request->socket, &input, &error))
        return "there is no stream";
    wasi_io_poll_borrow_pollable_t client = wasi_io_poll_borrow_pollable(
        wasi_io_streams_method_input_stream_subscribe(wasi_io_streams_borrow_input_stream(input)));
    wasi_io_poll_borrow_pollable_t drain = wasi_io_poll_borrow_pollable(
        plugsock_handler_types_method_request_subscribe_drain(request->socket));
    wasi_io_poll_borrow_pollable_t pollables[] = {client, drain};
    wasi_io_poll_list_borrow_pollable_t list = {.ptr = pollables, .len = 2};
    handler_list_u32_t ready;
    wasi_io_poll_poll(&list, &ready);
    bool is_over = wasi_io_poll_method_pollable_ready(drain) &&
                   plugsock_handler_types_method_request_is_draining(request->socket);
    plugsock_puts(request, is_over ? "bye\n" : "hello\n");
    return request->error;
}

static const char *who(struct plugsock_request *request) {
    char line[128];
    plugsock_handler_types_server_info_t server;
    plugsock_handler_types_address_t client;
    plugsock_handler_types_method_request_server(request->socket, &server);
    plugsock_handler_types_method_request_client_address(request->socket, &client);
    snprintf(line, sizeof line, "%s %.*s %d %s", in_words(&server.server_address), (int)server.concurrency.len,
             (const char *)server.concurrency.ptr, (int)server.generation, in_words(&client));
    plugsock_puts(request, line);
    return request->error;
}

static const char *send_to(struct plugsock_request *request, const char *text) {
    unsigned a, b, c, d, port;
    if (sscanf(text, "%u.%u.%u.%u:%u", &a, &b, &c, &d, &port) != 5)
        return "that is no address";
    plugsock_handler_types_address_t address = {
        .tag = PLUGSOCK_HANDLER_TYPES_ADDRESS_IP,
        .val.ip = {.tag = WASI_SOCKETS_NETWORK_IP_SOCKET_ADDRESS_IPV4,
                   .val.ipv4 = {.port = port, .address = {a, b, c, d}}},
    };
    handler_list_u8_t data = {.ptr = (uint8_t *)"hello", .len = 5};
    plugsock_handler_types_error_t error;
    if (plugsock_handler_types_method_request_send_to(request->socket, &data, &address, &error))
        plugsock_puts(request, "sent");
    else if (error.tag == PLUGSOCK_HANDLER_TYPES_ERROR_NOT_PERMITTED)
        plugsock_puts(request, "the server was not granted this");
    return request->error;
}

const char *handle(struct plugsock_request *request) {
    static char data[8192];
    size_t length = plugsock_read(request, data, sizeof data - 1);
    if (strcmp(data, "fail") == 0)
        return "as the client wished";
    if (strcmp(data, "tick") == 0)
        return tick(request);
    if (strcmp(data, "wait") == 0)
        return wait(request);
    if (strcmp(data, "who") == 0)
        return who(request);
    if (strncmp(data, "send-to ", 8) == 0)
        return send_to(request, data + 8);
    plugsock_write(request, data, length);
    return request->error;
}

bool verify_request(struct plugsock_request *request) {
    char data[6];
    return !plugsock_is_datagram(request) || plugsock_read(request, data, sizeof data) < sizeof data ||
           memcmp(data, "refuse", sizeof data) != 0;
}

void handle_error(const plugsock_handler_types_server_info_t *server,
                  const exports_plugsock_handler_server_hooks_failure_t *failure) {
    static const char *const phases[] = {"verify", "setup", "handle", "finish"};
    printf("handle_error: %s %s %d: %.*s\n", phases[failure->phase], in_words(&failure->client_address),
           (int)server->generation, (int)failure->message.len, (const char *)failure->message.ptr);
}

void handle_timeout(const plugsock_handler_types_server_info_t *server) {
    printf("handle_timeout: %.*s\n", (int)server->concurrency.len, (const char *)server->concurrency.ptr);
}

void service_actions(const plugsock_handler_types_server_info_t *server) {
    printf("service_actions: %.*s\n", (int)server->concurrency.len, (const char *)server->concurrency.ptr);
}
