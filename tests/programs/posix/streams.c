#include <fcntl.h>
#include <poll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "posix.h"

int __wasilibc_fd_renumber(int from, int to);

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

/* Has the client speak. */
static void quiet(void) {
    CHECK(write(1, "quiet\n", 6) == 6);
}

static void expect_input(void) {
    char data[100];
    size_t length = 0;
    ssize_t more;
    while ((more = read(0, data + length, sizeof data - length)) > 0)
        length += more;
    CHECK(more == 0);
    CHECK(length == strlen(INPUT) && memcmp(data, INPUT, length) == 0);
}

static void reads_to_end(int argc, char **argv) {
    char byte;
    expect_input();
    CHECK(read(0, &byte, 1) == 0);
    CHECK(read(0, &byte, 1) == 0);
}

static void fgets_at_end(int argc, char **argv) {
    char line[100];
    CHECK(fgets(line, sizeof line, stdin) && strcmp(line, "one\n") == 0);
    CHECK(fgets(line, 3, stdin) && strcmp(line, "tw") == 0);
    CHECK(fgets(line, sizeof line, stdin) && strcmp(line, "o\n") == 0);
    CHECK(fgets(line, sizeof line, stdin) && strcmp(line, "three") == 0);
    CHECK(feof(stdin) && !ferror(stdin));
    CHECK(!fgets(line, sizeof line, stdin));
    CHECK(fgetc(stdin) == EOF);
}

static void getline_at_end(int argc, char **argv) {
    char *line = NULL;
    size_t size = 0;
    CHECK(getline(&line, &size, stdin) == 4);
    CHECK(getline(&line, &size, stdin) == 4);
    CHECK(getline(&line, &size, stdin) == 5 && strcmp(line, "three") == 0);
    CHECK(getline(&line, &size, stdin) == -1 && feof(stdin));
}

static void ungetc_reads_again(int argc, char **argv) {
    CHECK(fgetc(stdin) == 'o');
    CHECK(ungetc('O', stdin) == 'O');
    CHECK(fgetc(stdin) == 'O' && fgetc(stdin) == 'n');
    while (fgetc(stdin) != EOF)
        ;
    CHECK(ungetc('x', stdin) == 'x' && !feof(stdin));
    CHECK(fgetc(stdin) == 'x' && fgetc(stdin) == EOF);
}

static void scanf_reads_words(int argc, char **argv) {
    char word[10];
    int end;
    for (int i = 0; i < 3; i++)
        CHECK(scanf("%9s%n", word, &end) == 1);
    CHECK(strcmp(word, "three") == 0);
    CHECK(scanf("%9s", word) == EOF);
}

static void has_no_position(int argc, char **argv) {
    char byte;
    FAILS(lseek(0, 0, SEEK_CUR), ESPIPE);
    FAILS(lseek(1, 1, SEEK_SET), ESPIPE);
    FAILS(fseek(stdin, 0, SEEK_SET), ESPIPE);
    FAILS(ftell(stdout), ESPIPE);
    FAILS(pread(0, &byte, 1, 0), ESPIPE);
    FAILS(pwrite(1, "x", 1, 0), ESPIPE);
    expect_input();
}

static void is_no_file(int argc, char **argv) {
    struct stat status;
    for (int descriptor = 0; descriptor < 3; descriptor++) {
        CHECK(!isatty(descriptor));
        CHECK(fstat(descriptor, &status) == 0);
        CHECK(!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode));
    }
    CHECK((fcntl(0, F_GETFL) & O_NONBLOCK) == 0);
}

static void buffers_keep_the_order(int argc, char **argv) {
    static char buffer[100];
    CHECK(setvbuf(stdout, buffer, _IOFBF, sizeof buffer) == 0);
    printf("b");
    CHECK(write(1, "a", 1) == 1);
    CHECK(fflush(stdout) == 0);
    CHECK(dprintf(1, "%s", "c") == 1);
    CHECK(setvbuf(stdout, NULL, _IONBF, 0) == 0);
    printf("d");
    CHECK(write(1, "e\n", 2) == 2);
}

static void scatters_and_gathers(int argc, char **argv) {
    char first[4], second[20], *all = second;
    struct iovec parts[] = {{NULL, 0}, {first, 4}, {second, sizeof second}};
    /* A read of a stream may be a short one. */
    ssize_t length = readv(0, parts, 3);
    CHECK(length >= 4 && memcmp(first, "one\n", 4) == 0);
    all += length - 4;
    while ((length = read(0, all, second + sizeof second - all)) > 0)
        all += length;
    CHECK(all - second == 9 && memcmp(second, "two\nthree", 9) == 0);
    struct iovec words[] = {{"ab", 2}, {"", 0}, {"c\n", 2}};
    CHECK(writev(1, words, 3) == 4);
}

static void writes_a_megabyte(int argc, char **argv) {
    static char data[1 << 20];
    memset(data, 'x', sizeof data);
    size_t sent = 0;
    while (sent < sizeof data) {
        ssize_t more = write(1, data + sent, sizeof data - sent);
        CHECK(more > 0);
        sent += more;
    }
}

static void poll_times_out(int argc, char **argv) {
    struct pollfd input = {.fd = 0, .events = POLLIN};
    double start = now();
    CHECK(poll(&input, 1, 100) == 0);
    CHECK(now() - start >= 0.1 && now() - start < 30);
    CHECK(poll(&input, 1, 0) == 0);
    quiet();
    CHECK(poll(&input, 1, -1) == 1 && (input.revents & POLLIN));
    expect_input();
    CHECK(poll(&input, 1, -1) == 1 && (input.revents & (POLLIN | POLLHUP)));
}

static void poll_sees_room(int argc, char **argv) {
    struct pollfd both[] = {{.fd = 0, .events = POLLIN}, {.fd = 1, .events = POLLOUT}};
    CHECK(poll(both, 2, -1) == 1);
    CHECK(both[0].revents == 0 && both[1].revents == POLLOUT);
    quiet();
    expect_input();
}

static void poll_ignores_negatives(int argc, char **argv) {
    struct pollfd none[] = {{.fd = -1, .events = POLLIN}};
    double start = now();
    CHECK(poll(none, 1, 50) == 0 && now() - start >= 0.05);
}

static void select_times_out(int argc, char **argv) {
    fd_set readable;
    struct timeval wait = {.tv_usec = 50000};
    FD_ZERO(&readable);
    FD_SET(0, &readable);
    CHECK(select(1, &readable, NULL, NULL, &wait) == 0 && !FD_ISSET(0, &readable));
    quiet();
    FD_SET(0, &readable);
    CHECK(select(1, &readable, NULL, NULL, NULL) == 1 && FD_ISSET(0, &readable));
    expect_input();
}

static void does_not_block(int argc, char **argv) {
    char byte;
    struct pollfd input = {.fd = 0, .events = POLLIN};
    CHECK(fcntl(0, F_SETFL, O_NONBLOCK) == 0);
    CHECK(fcntl(0, F_GETFL) & O_NONBLOCK);
    FAILS(read(0, &byte, 1), EAGAIN);
    quiet();
    CHECK(poll(&input, 1, -1) == 1);
    CHECK(read(0, &byte, 1) == 1 && byte == 'o');
    CHECK(fcntl(0, F_SETFL, 0) == 0);
    CHECK((fcntl(0, F_GETFL) & O_NONBLOCK) == 0);
    while (read(0, &byte, 1) == 1)
        ;
}

static void fgetc_does_not_block(int argc, char **argv) {
    CHECK(fcntl(0, F_SETFL, O_NONBLOCK) == 0);
    errno = 0;
    CHECK(fgetc(stdin) == EOF && ferror(stdin) && !feof(stdin) && errno == EAGAIN);
    clearerr(stdin);
    quiet();
    CHECK(fcntl(0, F_SETFL, 0) == 0);
    CHECK(fgetc(stdin) == 'o');
}

static void output_does_not_block(int argc, char **argv) {
    CHECK(fcntl(1, F_SETFL, O_NONBLOCK) == 0);
    CHECK(fcntl(1, F_GETFL) & O_NONBLOCK);
    CHECK(write(1, "a\n", 2) == 2);
    CHECK(fcntl(1, F_SETFL, 0) == 0);
}

static void sockets_peek(int argc, char **argv) {
    char data[3];
    CHECK(recv(0, data, 3, MSG_PEEK) == 3 && memcmp(data, "one", 3) == 0);
    CHECK(recv(0, data, 2, 0) == 2 && memcmp(data, "on", 2) == 0);
    CHECK(recv(0, data, 1, 0) == 1 && data[0] == 'e');
    CHECK(read(0, data, 3) == 3 && memcmp(data, "\ntw", 3) == 0);
}

static void sockets_send(int argc, char **argv) {
    CHECK(send(1, "sent\n", 5, 0) == 5);
}

static void sockets_shut_down(int argc, char **argv) {
    expect_input();
    CHECK(write(1, "ok\n", 3) == 3);
    CHECK(shutdown(1, SHUT_WR) == 0);
    FAILS(write(1, "x", 1), EPIPE);
    _Exit(0);
}

static void closed_is_bad(int argc, char **argv) {
    char byte;
    CHECK(close(0) == 0);
    FAILS(read(0, &byte, 1), EBADF);
    FAILS(close(0), EBADF);
    FAILS(write(77, "x", 1), EBADF);
    FAILS(lseek(77, 0, SEEK_CUR), EBADF);
}

static void closed_output_is_bad(int argc, char **argv) {
    CHECK(write(1, "ok\n", 3) == 3);
    CHECK(close(1) == 0);
    FAILS(write(1, "x", 1), EBADF);
    _Exit(0);
}

static void file(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    CHECK(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

static void file_becomes_input(int argc, char **argv) {
    char line[10];
    file("/data/input", "from a file\n");
    int opened = open("/data/input", O_RDONLY);
    CHECK(opened > 2 && __wasilibc_fd_renumber(opened, 0) == 0);
    CHECK(fgets(line, sizeof line, stdin) && strcmp(line, "from a fi") == 0);
    FAILS(close(opened), EBADF);
}

static void client_becomes_another(int argc, char **argv) {
    file("/data/file", "");
    int other = open("/data/file", O_RDWR);
    CHECK(other > 2 && __wasilibc_fd_renumber(1, other) == 0);
    FAILS(write(1, "x", 1), EBADF);
    CHECK(write(other, "ok\n", 3) == 3);
    _Exit(0);
}

static void input_becomes_another(int argc, char **argv) {
    char data[3];
    file("/data/file", "");
    int other = open("/data/file", O_RDWR);
    CHECK(other > 2 && __wasilibc_fd_renumber(0, other) == 0);
    CHECK(read(other, data, 3) == 3 && memcmp(data, "one", 3) == 0);
    FAILS(read(0, data, 1), EBADF);
}

static void input_is_reopened(int argc, char **argv) {
    char line[20];
    file("/data/input", "from a file\n");
    CHECK(freopen("/data/input", "r", stdin));
    CHECK(fgets(line, sizeof line, stdin) && strcmp(line, "from a file\n") == 0);
}

static void output_is_reopened(int argc, char **argv) {
    char line[20];
    CHECK(dprintf(1, "ok\n") == 3);
    CHECK(freopen("/data/output", "w", stdout));
    CHECK(printf("to a file") == 9 && fclose(stdout) == 0);
    FILE *written = fopen("/data/output", "r");
    CHECK(written && fgets(line, sizeof line, written) && strcmp(line, "to a file") == 0);
    _Exit(0);
}

static void descriptor_is_a_stream(int argc, char **argv) {
    char line[10];
    FILE *input = fdopen(0, "r"), *output = fdopen(1, "w");
    CHECK(input && output && fileno(input) == 0 && fileno(output) == 1);
    CHECK(fgets(line, sizeof line, input) && fputs(line, output) >= 0 && fflush(output) == 0);
}

const struct test streams[] = {
    {"reads_to_end", reads_to_end},
    {"fgets_at_end", fgets_at_end},
    {"getline_at_end", getline_at_end},
    {"ungetc_reads_again", ungetc_reads_again},
    {"scanf_reads_words", scanf_reads_words},
    {"has_no_position", has_no_position},
    {"is_no_file", is_no_file},
    {"buffers_keep_the_order", buffers_keep_the_order},
    {"scatters_and_gathers", scatters_and_gathers},
    {"writes_a_megabyte", writes_a_megabyte},
    {"poll_times_out", poll_times_out},
    {"poll_sees_room", poll_sees_room},
    {"poll_ignores_negatives", poll_ignores_negatives},
    {"select_times_out", select_times_out},
    {"does_not_block", does_not_block},
    {"fgetc_does_not_block", fgetc_does_not_block},
    {"output_does_not_block", output_does_not_block},
    {"sockets_peek", sockets_peek},
    {"sockets_send", sockets_send},
    {"sockets_shut_down", sockets_shut_down},
    {"closed_is_bad", closed_is_bad},
    {"closed_output_is_bad", closed_output_is_bad},
    {"file_becomes_input", file_becomes_input},
    {"client_becomes_another", client_becomes_another},
    {"input_becomes_another", input_becomes_another},
    {"input_is_reopened", input_is_reopened},
    {"output_is_reopened", output_is_reopened},
    {"descriptor_is_a_stream", descriptor_is_a_stream},
    {0},
};
