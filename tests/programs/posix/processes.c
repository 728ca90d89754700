#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "posix.h"

extern char **environ;

static void last(void) {
    printf("last\n");
}

static void but_one(void) {
    printf("but one\n");
}

/* Ends with status 3, once all is written that was to be. */
static void exits(int argc, char **argv) {
    CHECK(atexit(last) == 0 && atexit(but_one) == 0);
    printf("buffered ");
    exit(3);
}

/* Ends with status 255 at once. */
static void exits_at_once(int argc, char **argv) {
    atexit(last);
    printf("lost");
    _Exit(255);
}

/* Has `words` 1 to 1000 as further arguments. */
static void many_arguments(int argc, char **argv) {
    char word[100];
    CHECK(argc == 1002 && argv[argc] == NULL);
    for (int i = 1; i <= 1000; i++) {
        sprintf(word, "word %d \xc3\xa4 of a thousand that are given to one program", i);
        CHECK(strcmp(argv[i + 1], word) == 0);
    }
}

/* Has variables `WORD1` to `WORD1000`. */
static void many_variables(int argc, char **argv) {
    char name[20], value[100];
    int count = 0;
    for (int i = 1; i <= 1000; i++) {
        sprintf(name, "WORD%d", i);
        sprintf(value, "word %d \xc3\xa4 = of a thousand", i);
        CHECK(getenv(name) && strcmp(getenv(name), value) == 0);
    }
    for (char **each = environ; *each; each++)
        count++;
    CHECK(count >= 1000);
    CHECK(setenv("WORD1", "other", 1) == 0 && strcmp(getenv("WORD1"), "other") == 0);
    CHECK(setenv("WORD2", "other", 0) == 0 && strcmp(getenv("WORD2"), "other") != 0);
    CHECK(unsetenv("WORD3") == 0 && !getenv("WORD3"));
}

static void time_goes_on(int argc, char **argv) {
    struct timespec before, after, resolution, nap = {.tv_nsec = 20000000};
    CHECK(clock_getres(CLOCK_MONOTONIC, &resolution) == 0 && resolution.tv_sec == 0);
    CHECK(clock_gettime(CLOCK_MONOTONIC, &before) == 0);
    CHECK(nanosleep(&nap, NULL) == 0 && usleep(1000) == 0);
    CHECK(clock_gettime(CLOCK_MONOTONIC, &after) == 0);
    CHECK((after.tv_sec - before.tv_sec) * 1e9 + after.tv_nsec - before.tv_nsec >= 21e6);
    CHECK(clock_gettime(CLOCK_REALTIME, &after) == 0 && time(NULL) - after.tv_sec <= 1);
    CHECK(after.tv_sec > 1700000000);
    nap = before;
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &nap, NULL) == 0);
    struct tm *utc = gmtime(&(time_t){86400});
    CHECK(utc->tm_year == 70 && utc->tm_mday == 2);
}

static void is_random(int argc, char **argv) {
    char some[256] = {0}, others[256] = {0}, none[256] = {0};
    CHECK(getentropy(some, 256) == 0 && getentropy(others, 256) == 0);
    CHECK(memcmp(some, others, 256) != 0 && memcmp(some, none, 256) != 0);
    FAILS(getentropy(some, 257), EIO);
}

static void has_memory(int argc, char **argv) {
    /* Compilers know that malloc itself leaves errno alone. */
    void *(*volatile allocate)(size_t) = malloc;
    char *much = allocate(64 << 20);
    CHECK(much);
    much[0] = much[(64 << 20) - 1] = 1;
    free(much);
    errno = 0;
    CHECK(!allocate(3u << 30) && errno == ENOMEM);
    CHECK((much = calloc(1 << 20, 16)) && much[12345678] == 0);
}

static jmp_buf place;

static void deep(int depth) {
    if (depth == 0)
        longjmp(place, 7);
    deep(depth - 1);
}

static void jumps_far(int argc, char **argv) {
    volatile int count = 0;
    for (int i = 0; i < 1000; i++)
        switch (setjmp(place)) {
        case 0:
            count++;
            deep(20);
            break;
        case 7:
            count++;
            break;
        default:
            CHECK(0);
        }
    CHECK(count == 2000);
}

static volatile sig_atomic_t signalled;

static void on_signal(int signal) {
    signalled = signal;
}

static void raises_to_itself(int argc, char **argv) {
    CHECK(signal(SIGINT, SIG_IGN) != SIG_ERR && raise(SIGINT) == 0);
    CHECK(signal(SIGINT, on_signal) == SIG_IGN && raise(SIGINT) == 0 && signalled == SIGINT);
    CHECK(sched_yield() == 0);
}

static void prints_numbers(int argc, char **argv) {
    char text[100];
    CHECK(snprintf(text, sizeof text, "%5.2f|%-4d|%04x|%lld|%e", 3.14159, 42, 255, 1LL << 40, 12345.678) == 42);
    CHECK(strcmp(text, " 3.14|42  |00ff|1099511627776|1.234568e+04") == 0);
    CHECK(strtod("0x1.8p3", NULL) == 12 && strtoul("777", NULL, 8) == 511);
}

const struct test processes[] = {
    {"exits", exits},
    {"exits_at_once", exits_at_once},
    {"many_arguments", many_arguments},
    {"many_variables", many_variables},
    {"time_goes_on", time_goes_on},
    {"is_random", is_random},
    {"has_memory", has_memory},
    {"jumps_far", jumps_far},
    {"raises_to_itself", raises_to_itself},
    {"prints_numbers", prints_numbers},
    {0},
};
