/* Preloaded into a host: brings about what a test cannot do to a machine. A file that the test writes to, beside
 * this library under the name `faults`, says what; it is mapped, so that it is seen at once and also where no file may be opened any more. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct faults {
    int64_t clock_offset;   /* seconds that the wall clock is ahead */
    int64_t no_threads;     /* no thread can be made */
    int64_t no_forks;       /* no process can be forked; so many who try are killed if it is negative */
    int64_t no_files;       /* the system has no more files for connections */
    int64_t accepts;        /* how often one was asked for while there were none */
    int64_t stop_helpers;   /* a helper process stops before it begins */
    int64_t replaces_sockets; /* what is bound to a path is renamed at once, and a link to PATH.victim put there */
};

static struct faults none;
static volatile struct faults *faults = &none;

__attribute__((constructor)) static void map(void) {
    Dl_info library;
    char path[PATH_MAX];
    const char *end = dladdr(&none, &library) ? strrchr(library.dli_fname, '/') : NULL;
    if (!end)
        return;
    snprintf(path, sizeof path, "%.*s/faults", (int)(end - library.dli_fname), library.dli_fname);
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return;
    void *mapped = mmap(NULL, sizeof none, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED)
        faults = mapped;
    close(file);
    if (faults->stop_helpers && getenv("PLUGSOCK_HELPER_PROCESS"))
        raise(SIGSTOP);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int clock_gettime(clockid_t clock, struct timespec *now) {
    static __typeof__(&clock_gettime) real;
    if (!real)
        real = REAL(clock_gettime);
    int result = real(clock, now);
    if (result == 0 && clock == CLOCK_REALTIME)
        now->tv_sec += faults->clock_offset;
    return result;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument) {
    return faults->no_threads ? EAGAIN : REAL(pthread_create)(thread, attributes, run, argument);
}

pid_t fork(void) {
    if (faults->no_forks < 0) {
        __atomic_add_fetch(&faults->no_forks, 1, __ATOMIC_SEQ_CST);
        kill(getpid(), SIGKILL);
    }
    if (faults->no_forks) {
        errno = EAGAIN;
        return -1;
    }
    return REAL(fork)();
}

int accept4(int listener, struct sockaddr *address, socklen_t *length, int flags) {
    if (faults->no_files) {
        __atomic_add_fetch(&faults->accepts, 1, __ATOMIC_SEQ_CST);
        errno = ENFILE;
        return -1;
    }
    return REAL(accept4)(listener, address, length, flags);
}

int bind(int socket, const struct sockaddr *address, socklen_t length) {
    int result = REAL(bind)(socket, address, length);
    if (result == 0 && faults->replaces_sockets && address->sa_family == AF_UNIX) {
        const char *path = ((const struct sockaddr_un *)address)->sun_path;
        char away[256], victim[256];
        snprintf(away, sizeof away, "%s.away", path);
        snprintf(victim, sizeof victim, "%s.victim", path);
        if (*path && (rename(path, away) || symlink(victim, path)))
            abort();
    }
    return result;
}
