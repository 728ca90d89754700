/* Request handlers for Plugsock in C: socketserver's handler class as three functions.
 *
 * Define `handle`, and `setup` and `finish` where you need them. One instance of the component serves one
 * request, so a handler's state may lie in static variables. `handler.h` has the contract itself. */
#ifndef PLUGSOCK_H
#define PLUGSOCK_H

#include "handler.h"

/* The request being served. */
struct plugsock_request {
    /* For the functions of `handler.h`; valid until the handler's function returns. */
    plugsock_handler_types_borrow_request_t socket;
    /* Why the last operation failed, in words; NULL if it did not. */
    const char *error;
};

/* The handler, which you define: NULL if all went well, otherwise why not, in words. After an error in
 * `setup` nothing runs any more, after one in `handle` only `finish`. */
const char *setup(struct plugsock_request *request);
const char *handle(struct plugsock_request *request);
const char *finish(struct plugsock_request *request);

/* Reads what comes, up to `size` bytes. 0: the end, or an error. */
size_t plugsock_read(struct plugsock_request *request, void *data, size_t size);

/* Reads up to and with a newline, the end, or `size - 1` bytes, and ends it with a zero; its length. */
size_t plugsock_read_line(struct plugsock_request *request, char *line, size_t size);

/* Writes all of it. What is written to a datagram's sender goes out as one datagram after `finish`. */
bool plugsock_write(struct plugsock_request *request, const void *data, size_t size);
bool plugsock_puts(struct plugsock_request *request, const char *text);

/* Sends at once; where there are datagrams, as one of its own. */
bool plugsock_send(struct plugsock_request *request, const void *data, size_t size);

/* Whether the request is one packet, and not a connection. */
bool plugsock_is_datagram(struct plugsock_request *request);

#endif
