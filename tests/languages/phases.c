/* Fails in the phase that the first line names, or starts TLS and answers with the same bytes. */
#include <stdio.h>
#include <string.h>

#include "plugsock.h"

static char line[32];

static const char *fail_in(const char *phase) {
    return strcmp(line, phase) == 0 ? "as asked" : NULL;
}

static const char *start_tls(struct plugsock_request *request) {
    static const char *const protocols[] = {"echo", NULL};
    static char data[64 * 1024];
    line[strcspn(line, "\n")] = 0;
    const char *identity = line[strlen("STARTTLS")] == ' ' ? line + strlen("STARTTLS ") : NULL;
    plugsock_puts(request, "go ahead\n");
    const struct plugsock_tls *tls = plugsock_start_tls(request, identity, protocols);
    if (tls == NULL)
        return request->error;
    plugsock_puts(request, "tls ");
    plugsock_puts(request, tls->protocol);
    plugsock_puts(request, " ");
    plugsock_puts(request, tls->cipher_suite);
    plugsock_puts(request, " ");
    plugsock_puts(request, tls->server_name != NULL ? tls->server_name : "-");
    plugsock_puts(request, " ");
    plugsock_puts(request, tls->alpn != NULL ? tls->alpn : "-");
    plugsock_puts(request, "\n");
    if (tls->client_names[0] != NULL) {
        const char *const *last = tls->client_names;
        while (last[1] != NULL)
            last++;
        size_t length = 0;
        for (size_t i = 0; i < tls->client_certificates.len; i++)
            length += tls->client_certificates.ptr[i].len;
        snprintf(data, sizeof data, "client %zu %zu %s\n", tls->client_certificates.len, length, *last);
        plugsock_puts(request, data);
    }
    for (size_t length; (length = plugsock_read(request, data, sizeof data)) > 0;)
        plugsock_write(request, data, length);
    return request->error;
}

const char *setup(struct plugsock_request *request) {
    plugsock_read_line(request, line, sizeof line);
    return fail_in("setup\n");
}

const char *handle(struct plugsock_request *request) {
    if (strncmp(line, "STARTTLS", strlen("STARTTLS")) == 0)
        return start_tls(request);
    plugsock_puts(request, "handle\n");
    return fail_in("handle\n");
}

const char *finish(struct plugsock_request *request) {
    plugsock_puts(request, "finish\n");
    return fail_in("finish\n");
}
