/* A say in how the server runs: the methods of socketserver.BaseServer that a subclass overrides, as functions. Define
 * those that you need; each call gets an instance of the component of its own. */
#ifndef PLUGSOCK_HOOKS_H
#define PLUGSOCK_HOOKS_H

#include "plugsock.h"

/* Whether to serve the request. A datagram can be read here, and will be read again by the handler; a stream cannot be
 * read or written yet. */
bool verify_request(struct plugsock_request *request);

/* A request failed. */
void handle_error(const plugsock_handler_types_server_info_t *server,
                  const exports_plugsock_handler_server_hooks_failure_t *failure);

/* The server's `timeout` passed without a request. */
void handle_timeout(const plugsock_handler_types_server_info_t *server);

/* Runs between requests, at least about twice a second. */
void service_actions(const plugsock_handler_types_server_info_t *server);

#endif
