/* Fails in the phase that the first line names. */
#include <string.h>

#include "plugsock.h"

static char line[32];

static const char *fail_in(const char *phase) {
    return strcmp(line, phase) == 0 ? "as asked" : NULL;
}

const char *setup(struct plugsock_request *request) {
    plugsock_read_line(request, line, sizeof line);
    return fail_in("setup\n");
}

const char *handle(struct plugsock_request *request) {
    plugsock_puts(request, "handle\n");
    return fail_in("handle\n");
}

const char *finish(struct plugsock_request *request) {
    plugsock_puts(request, "finish\n");
    return fail_in("finish\n");
}
