/* Answers with the same bytes: standard input and output are the connection. */
#include <unistd.h>

int main(void) {
    static char data[64 * 1024];
    ssize_t length;
    while ((length = read(STDIN_FILENO, data, sizeof data)) > 0) {
        for (ssize_t written = 0, more; written < length; written += more) {
            more = write(STDOUT_FILENO, data + written, length - written);
            if (more < 0)
                return 1;
        }
    }
    return length < 0;
}
