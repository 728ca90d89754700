/* Tests of what C programs expect of POSIX, one a function. The client sends `one\ntwo\nthree` and has then said all;
   a test that prints "quiet" gets it only after that. `/data` is for the test alone and empty, `/ro` has `file`, and
   may not be written. A test that returns has passed. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct test {
    const char *name;
    void (*run)(int argc, char **argv);
};

extern const struct test streams[], files[], processes[];

/* A failure is told on the connection, as far as there is one, and in the log. */
void fail(const char *what, int line);

#define CHECK(condition) ((condition) ? (void)0 : fail(#condition, __LINE__))
#define FAILS(call, error) (errno = 0, CHECK((call) == -1), CHECK(errno == (error)))

#define INPUT "one\ntwo\nthree"
