/* Answers with a packet's length. */
#include <stdio.h>

#include "plugsock.h"

const char *handle(struct plugsock_request *request) {
    static char packet[64 * 1024];
    char reply[32];
    snprintf(reply, sizeof reply, "%zu bytes", plugsock_read(request, packet, sizeof packet));
    plugsock_puts(request, reply);
    return request->error;
}
