/* What C programs expect of a system and WASI's C library does not have: other processes, temporary files, and the tag
   that longjmp throws. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>

__asm__(".tagtype __c_longjmp i32\n"
        ".globl __c_longjmp\n"
        "__c_longjmp:\n");

FILE *tmpfile(void) {
    errno = ENOTSUP;
    return NULL;
}

char *tmpnam(char *name) {
    return NULL;
}

int system(const char *command) {
    errno = ENOTSUP;
    return command ? -1 : 0;
}

FILE *popen(const char *command, const char *mode) {
    errno = ENOTSUP;
    return NULL;
}

int pclose(FILE *file) {
    errno = ENOTSUP;
    return -1;
}
