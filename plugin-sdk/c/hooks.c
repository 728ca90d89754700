#include "hooks.h"

/* Of plugsock.c: what the host lends to an exported function. */
struct plugsock_request *plugsock_lent(plugsock_handler_types_borrow_request_t socket);

__attribute__((weak)) bool verify_request(struct plugsock_request *unused) {
    (void)unused;
    return true;
}

__attribute__((weak)) void handle_error(const plugsock_handler_types_server_info_t *server,
                                        const exports_plugsock_handler_server_hooks_failure_t *failure) {
    (void)server;
    (void)failure;
}

__attribute__((weak)) void handle_timeout(const plugsock_handler_types_server_info_t *unused) {
    (void)unused;
}

__attribute__((weak)) void service_actions(const plugsock_handler_types_server_info_t *unused) {
    (void)unused;
}

bool exports_plugsock_handler_server_hooks_verify_request(
    exports_plugsock_handler_server_hooks_borrow_request_t socket) {
    bool is_served = verify_request(plugsock_lent(socket));
    plugsock_handler_types_request_drop_borrow(socket);
    return is_served;
}

void exports_plugsock_handler_server_hooks_handle_error(
    exports_plugsock_handler_server_hooks_server_info_t *server,
    exports_plugsock_handler_server_hooks_failure_t *failure) {
    handle_error(server, failure);
}

void exports_plugsock_handler_server_hooks_handle_timeout(
    exports_plugsock_handler_server_hooks_server_info_t *server) {
    handle_timeout(server);
}

void exports_plugsock_handler_server_hooks_service_actions(
    exports_plugsock_handler_server_hooks_server_info_t *server) {
    service_actions(server);
}
