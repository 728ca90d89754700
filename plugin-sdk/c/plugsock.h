/* Request handlers for Plugsock in C: socketserver's handler class as three functions.
 *
 * Define `handle`, and `setup` and `finish` where you need them. One instance of the component serves one
 * request, so a handler's state may lie in static variables. `handler.h` has the contract itself, with sending to others,
 * streams that are waited for together with timers, and the drain; `hooks.h` has a say in how the server runs, `state.h`
 * what outlives the request. */
#ifndef PLUGSOCK_H
#define PLUGSOCK_H

/* Not the one beside this file: who has hooks has another. */
#include <handler.h>

/* The request being served. */
struct plugsock_request {
    /* For the functions of `handler.h`; valid until the handler's function returns. */
    plugsock_handler_types_borrow_request_t socket;
    /* Why the last operation failed, in words; NULL if it did not. */
    const char *error;
    /* What TLS failed of last: PLUGSOCK_HANDLER_TYPES_TLS_ERROR_..., or -1 if it did not. */
    int tls_error;
    /* The alert that ended the handshake, by its name in RFC 8446; NULL without one. */
    const char *tls_alert;
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

/* How a connection is protected. */
struct plugsock_tls {
    /* "TLSv1.2" or "TLSv1.3", and the cipher suite by its name at IANA. */
    const char *protocol, *cipher_suite;
    /* What the client asked for (SNI), and what both agreed on (ALPN); NULL without one. */
    const char *server_name, *alpn;
    /* Whether an earlier session was resumed. */
    bool resumed;
    /* The client's certificate, which was verified, and what it sent to verify it by, in DER. */
    handler_list_list_u8_t client_certificates;
    /* Whom that certificate is for; NULL is after the last. */
    const char *const *client_names;
};

/* Protects the connection by TLS, as its server; from here on all that is read and written is protected. NULL, with
 * the reason in `error` and `tls_error`, if that failed: the connection is over then, except after NO_IDENTITY and
 * ALREADY_PROTECTED.
 *
 * `identity` names one of the server's certificates; with NULL it is the one for the name that the client asks for.
 * `alpn` are the application protocols that the handler speaks, with NULL after the last; or NULL. */
const struct plugsock_tls *plugsock_start_tls(struct plugsock_request *request, const char *identity,
                                              const char *const *alpn);

/* How the connection is protected; NULL if it is not. The last answer is valid until the next. */
const struct plugsock_tls *plugsock_tls(struct plugsock_request *request);

#endif
