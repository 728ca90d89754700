#include <unistd.h>

#include "posix.h"

void fail(const char *what, int line) {
    fprintf(stderr, "line %d: %s (%s)\n", line, what, strerror(errno));
    dprintf(1, "line %d: %s\n", line, what);
    _Exit(1);
}

/* Runs the test that the first argument names; without one, lists all. */
int main(int argc, char **argv) {
    const struct test *suites[] = {streams, files, processes};
    for (int i = 0; i < 3; i++)
        for (const struct test *test = suites[i]; test->name; test++) {
            if (argc < 2)
                puts(test->name);
            else if (strcmp(argv[1], test->name) == 0) {
                test->run(argc, argv);
                puts("ok");
                return 0;
            }
        }
    return argc < 2 ? 0 : 2;
}
