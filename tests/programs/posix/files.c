#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "posix.h"

static void write_file(const char *path, const char *text) {
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    CHECK(file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text) && close(file) == 0);
}

static void expect_file(const char *path, const char *text) {
    char data[100];
    int file = open(path, O_RDONLY);
    CHECK(file >= 0 && read(file, data, sizeof data) == (ssize_t)strlen(text));
    CHECK(memcmp(data, text, strlen(text)) == 0 && close(file) == 0);
}

static void opens_as_asked(int argc, char **argv) {
    FAILS(open("/data/none", O_RDONLY), ENOENT);
    write_file("/data/file", "text");
    FAILS(open("/data/file", O_WRONLY | O_CREAT | O_EXCL, 0644), EEXIST);
    FAILS(open("/data/file", O_RDONLY | O_DIRECTORY), ENOTDIR);
    FAILS(open("/data/file/below", O_RDONLY), ENOTDIR);
    FAILS(open("/data", O_WRONLY), EISDIR);
    FAILS(open("/data/file/", O_RDONLY), ENOTDIR);
    CHECK(close(open("/data/file", O_WRONLY | O_TRUNC)) == 0);
    expect_file("/data/file", "");
}

static void rights_of_a_descriptor(int argc, char **argv) {
    char byte;
    write_file("/data/file", "text");
    int reads = open("/data/file", O_RDONLY), writes = open("/data/file", O_WRONLY);
    FAILS(write(reads, "x", 1), EBADF);
    FAILS(read(writes, &byte, 1), EBADF);
    CHECK((fcntl(reads, F_GETFL) & O_ACCMODE) == O_RDONLY);
    CHECK((fcntl(writes, F_GETFL) & O_ACCMODE) == O_WRONLY);
}

static void appends(int argc, char **argv) {
    write_file("/data/file", "one");
    int file = open("/data/file", O_RDWR | O_APPEND);
    CHECK(fcntl(file, F_GETFL) & O_APPEND);
    CHECK(lseek(file, 0, SEEK_SET) == 0 && write(file, "two", 3) == 3);
    CHECK(lseek(file, 0, SEEK_CUR) == 6);
    FILE *stream = fopen("/data/file", "a");
    CHECK(stream && fputs("three", stream) >= 0 && fclose(stream) == 0);
    expect_file("/data/file", "onetwothree");
}

static void appends_when_told_later(int argc, char **argv) {
    write_file("/data/file", "one");
    int file = open("/data/file", O_WRONLY);
    CHECK(fcntl(file, F_SETFL, O_APPEND) == 0);
    CHECK(write(file, "two", 3) == 3);
    expect_file("/data/file", "onetwo");
}

static void positions_stay(int argc, char **argv) {
    char data[3];
    write_file("/data/file", "abcdef");
    int file = open("/data/file", O_RDWR);
    CHECK(lseek(file, 1, SEEK_SET) == 1);
    CHECK(pread(file, data, 3, 3) == 3 && memcmp(data, "def", 3) == 0);
    CHECK(pwrite(file, "XY", 2, 4) == 2);
    CHECK(lseek(file, 0, SEEK_CUR) == 1);
    CHECK(read(file, data, 3) == 3 && memcmp(data, "bcd", 3) == 0);
    CHECK(pread(file, data, 3, 100) == 0);
    expect_file("/data/file", "abcdXY");
}

static void seeks(int argc, char **argv) {
    char data[8];
    int file = open("/data/file", O_RDWR | O_CREAT, 0644);
    CHECK(lseek(file, 5, SEEK_SET) == 5 && write(file, "x", 1) == 1);
    CHECK(lseek(file, -1, SEEK_END) == 5);
    FAILS(lseek(file, -10, SEEK_CUR), EINVAL);
    CHECK(lseek(file, 0, SEEK_SET) == 0);
    CHECK(read(file, data, 8) == 6 && memcmp(data, "\0\0\0\0\0x", 6) == 0);
    CHECK(read(file, data, 8) == 0);
}

static void truncates(int argc, char **argv) {
    struct stat status;
    write_file("/data/file", "abcdef");
    int file = open("/data/file", O_RDWR);
    CHECK(ftruncate(file, 2) == 0 && ftruncate(file, 4) == 0);
    CHECK(fstat(file, &status) == 0 && status.st_size == 4);
    char data[4];
    CHECK(read(file, data, 4) == 4 && memcmp(data, "ab\0\0", 4) == 0);
    CHECK(truncate("/data/file", 1) == 0 && stat("/data/file", &status) == 0 && status.st_size == 1);
    FAILS(ftruncate(file, -1), EINVAL);
}

static void streams_seek(int argc, char **argv) {
    FILE *file = fopen("/data/file", "w+");
    CHECK(file && fputs("one\ntwo\n", file) >= 0);
    CHECK(fseek(file, 4, SEEK_SET) == 0 && ftell(file) == 4 && fgetc(file) == 't');
    rewind(file);
    CHECK(fgetc(file) == 'o' && fseek(file, -1, SEEK_END) == 0 && fgetc(file) == '\n' && fgetc(file) == EOF);
    CHECK(fseek(file, 0, SEEK_SET) == 0 && fputc('O', file) == 'O' && fclose(file) == 0);
    expect_file("/data/file", "One\ntwo\n");
}

static void renames(int argc, char **argv) {
    write_file("/data/a", "a");
    write_file("/data/b", "b");
    CHECK(rename("/data/a", "/data/b") == 0);
    expect_file("/data/b", "a");
    FAILS(access("/data/a", F_OK), ENOENT);
    FAILS(rename("/data/none", "/data/c"), ENOENT);
    CHECK(mkdir("/data/full", 0755) == 0 && mkdir("/data/empty", 0755) == 0);
    write_file("/data/full/file", "");
    FAILS(rename("/data/empty", "/data/full"), ENOTEMPTY);
    FAILS(rename("/data/b", "/data/empty"), EISDIR);
    FAILS(rename("/data/empty", "/data/b"), ENOTDIR);
    CHECK(rename("/data/full", "/data/empty") == 0);
    expect_file("/data/empty/file", "");
}

static void removes(int argc, char **argv) {
    CHECK(mkdir("/data/folder", 0755) == 0);
    FAILS(mkdir("/data/folder", 0755), EEXIST);
    FAILS(mkdir("/data/none/folder", 0755), ENOENT);
    write_file("/data/folder/file", "");
    FAILS(rmdir("/data/folder"), ENOTEMPTY);
    FAILS(rmdir("/data/folder/file"), ENOTDIR);
    FAILS(unlink("/data/folder"), EISDIR);
    FAILS(unlink("/data/none"), ENOENT);
    CHECK(unlink("/data/folder/file") == 0 && remove("/data/folder") == 0);
    FAILS(access("/data/folder", F_OK), ENOENT);
}

static void removed_is_still_open(int argc, char **argv) {
    char data[4];
    write_file("/data/file", "text");
    int file = open("/data/file", O_RDONLY);
    CHECK(unlink("/data/file") == 0);
    CHECK(read(file, data, 4) == 4 && memcmp(data, "text", 4) == 0);
}

static void follows_links(int argc, char **argv) {
    struct stat status;
    char target[100];
    write_file("/data/file", "text");
    CHECK(symlink("file", "/data/link") == 0);
    FAILS(symlink("file", "/data/link"), EEXIST);
    CHECK(readlink("/data/link", target, sizeof target) == 4 && memcmp(target, "file", 4) == 0);
    CHECK(readlink("/data/link", target, 2) == 2 && memcmp(target, "fi", 2) == 0);
    FAILS(readlink("/data/file", target, 2), EINVAL);
    expect_file("/data/link", "text");
    CHECK(lstat("/data/link", &status) == 0 && S_ISLNK(status.st_mode));
    CHECK(stat("/data/link", &status) == 0 && S_ISREG(status.st_mode));
    FAILS(open("/data/link", O_RDONLY | O_NOFOLLOW), ELOOP);
    CHECK(symlink("none", "/data/dangling") == 0);
    FAILS(stat("/data/dangling", &status), ENOENT);
    CHECK(unlink("/data/link") == 0);
    expect_file("/data/file", "text");
}

static void does_not_escape(int argc, char **argv) {
    CHECK(open("/data/../etc/passwd", O_RDONLY) == -1);
    CHECK(open("/etc/passwd", O_RDONLY) == -1);
    if (symlink("../../../../../../etc/passwd", "/data/out") == 0)
        CHECK(open("/data/out", O_RDONLY) == -1);
    CHECK(symlink("/etc/passwd", "/data/absolute") == -1 || open("/data/absolute", O_RDONLY) == -1);
}

static void links(int argc, char **argv) {
    struct stat one, other;
    write_file("/data/file", "text");
    CHECK(link("/data/file", "/data/other") == 0);
    CHECK(stat("/data/file", &one) == 0 && stat("/data/other", &other) == 0);
    CHECK(one.st_ino == other.st_ino && one.st_dev == other.st_dev && one.st_nlink == 2);
    FAILS(link("/data/file", "/data/other"), EEXIST);
}

static void has_times(int argc, char **argv) {
    struct stat status;
    write_file("/data/file", "text");
    struct timespec times[] = {{1, 2}, {1234567890, 123456789}};
    CHECK(utimensat(AT_FDCWD, "/data/file", times, 0) == 0);
    CHECK(stat("/data/file", &status) == 0);
    CHECK(status.st_atim.tv_sec == 1 && status.st_atim.tv_nsec == 2);
    CHECK(status.st_mtim.tv_sec == 1234567890 && status.st_mtim.tv_nsec == 123456789);
    struct timespec later[] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};
    int file = open("/data/file", O_RDWR);
    CHECK(futimens(file, later) == 0 && fstat(file, &status) == 0);
    CHECK(status.st_atim.tv_sec == 1 && status.st_mtim.tv_sec > 1700000000);
}

static void lists(int argc, char **argv) {
    char path[40], seen[300] = {0};
    struct dirent *entry;
    int count = 0, dots = 0;
    for (int i = 0; i < 300; i++) {
        sprintf(path, "/data/entry%03d", i);
        write_file(path, "");
    }
    DIR *directory = opendir("/data");
    CHECK(directory);
    for (int round = 1; round <= 2; round++) {
        while (errno = 0, (entry = readdir(directory))) {
            int number;
            if (sscanf(entry->d_name, "entry%d", &number) == 1) {
                CHECK(entry->d_type == DT_REG && entry->d_ino != 0);
                seen[number]++;
                count++;
            } else
                dots += strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
        }
        CHECK(errno == 0 && count == 300 * round && dots == 2 * round);
        rewinddir(directory);
    }
    for (int i = 0; i < 300; i++)
        CHECK(seen[i] == 2);
    CHECK(closedir(directory) == 0);
}

static void lists_while_it_removes(int argc, char **argv) {
    char path[300];
    struct dirent *entry;
    for (int i = 0; i < 300; i++) {
        sprintf(path, "/data/entry%03d", i);
        write_file(path, "");
    }
    DIR *directory = opendir("/data");
    CHECK(directory);
    while ((entry = readdir(directory))) {
        sprintf(path, "/data/%s", entry->d_name);
        if (entry->d_type == DT_REG)
            CHECK(unlink(path) == 0);
    }
    CHECK(closedir(directory) == 0 && rmdir("/data/none") == -1);
}

static void takes_odd_names(int argc, char **argv) {
    char longest[300];
    const char *names[] = {" a b ", "gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80", "a\nb", "\\", "-", "...", "a\"'*?$b", "\x01\x7f"};
    for (int i = 0; i < 8; i++) {
        char path[100];
        sprintf(path, "/data/%s", names[i]);
        write_file(path, names[i]);
        expect_file(path, names[i]);
    }
    int found = 0;
    struct dirent *entry;
    DIR *directory = opendir("/data");
    while ((entry = readdir(directory)))
        for (int i = 0; i < 8; i++)
            found += strcmp(entry->d_name, names[i]) == 0;
    CHECK(found == 8);
    memset(longest, 'n', sizeof longest);
    memcpy(longest, "/data/", 6);
    longest[6 + 255] = 0;
    write_file(longest, "");
    longest[6 + 255] = 'n';
    longest[6 + 256] = 0;
    FAILS(open(longest, O_RDONLY), ENAMETOOLONG);
    FAILS(open("", O_RDONLY), ENOENT);
}

static void tells_of_files(int argc, char **argv) {
    struct stat status;
    write_file("/data/file", "text");
    CHECK(stat("/data", &status) == 0 && S_ISDIR(status.st_mode));
    CHECK(mkdir("/data/folder", 0755) == 0);
    CHECK(stat("/data/./folder/../file", &status) == 0 && S_ISREG(status.st_mode) && status.st_size == 4);
    CHECK(access("/data/file", R_OK | W_OK) == 0);
    FAILS(access("/data/none", F_OK), ENOENT);
    int folder = open("/data", O_RDONLY | O_DIRECTORY);
    CHECK(folder >= 0 && fstatat(folder, "file", &status, 0) == 0 && status.st_size == 4);
    int file = openat(folder, "file", O_RDONLY);
    CHECK(file >= 0);
    FAILS(openat(file, "below", O_RDONLY), ENOTDIR);
    CHECK(fsync(file) == 0 && fdatasync(file) == 0);
}

static void only_reads(int argc, char **argv) {
    struct stat status;
    expect_file("/ro/file", "read only\n");
    CHECK(open("/ro/file", O_WRONLY) == -1);
    CHECK(open("/ro/new", O_WRONLY | O_CREAT, 0644) == -1);
    CHECK(mkdir("/ro/new", 0755) == -1 && unlink("/ro/file") == -1 && rename("/ro/file", "/ro/new") == -1);
    CHECK(rename("/ro/file", "/data/file") == -1 && link("/ro/file", "/data/file") == -1);
    CHECK(stat("/ro/file", &status) == 0 && status.st_size == 10);
    int file = open("/ro/file", O_RDONLY);
    CHECK(ftruncate(file, 0) == -1);
    expect_file("/ro/file", "read only\n");
}

static void changes_directory(int argc, char **argv) {
    char path[100];
    CHECK(mkdir("/data/below", 0755) == 0);
    CHECK(chdir("/data/below") == 0 && strcmp(getcwd(path, sizeof path), "/data/below") == 0);
    write_file("file", "text");
    expect_file("/data/below/file", "text");
    CHECK(chdir("..") == 0);
    expect_file("below/file", "text");
    FAILS(chdir("none"), ENOENT);
    errno = 0;
    CHECK(!getcwd(path, 3) && errno == ERANGE);
}

/* The directory is granted as `.`, as `/`, or one is below another. */
static void reads_relative(int argc, char **argv) {
    expect_file("file", "read only\n");
    expect_file("./file", "read only\n");
    expect_file("below/inner", "inner\n");
}

static void reads_from_root(int argc, char **argv) {
    expect_file("/file", "read only\n");
    expect_file("/below/inner", "inner\n");
    expect_file("file", "read only\n");
    DIR *root = opendir("/");
    CHECK(root && readdir(root) && closedir(root) == 0);
}

static void reads_the_innermost(int argc, char **argv) {
    expect_file("/outer/file", "read only\n");
    expect_file("/outer/below/new", "another\n");
    FAILS(open("/outer/below/inner", O_RDONLY), ENOENT);
}

const struct test files[] = {
    {"opens_as_asked", opens_as_asked},
    {"rights_of_a_descriptor", rights_of_a_descriptor},
    {"appends", appends},
    {"appends_when_told_later", appends_when_told_later},
    {"positions_stay", positions_stay},
    {"seeks", seeks},
    {"truncates", truncates},
    {"streams_seek", streams_seek},
    {"renames", renames},
    {"removes", removes},
    {"removed_is_still_open", removed_is_still_open},
    {"follows_links", follows_links},
    {"does_not_escape", does_not_escape},
    {"links", links},
    {"has_times", has_times},
    {"lists", lists},
    {"lists_while_it_removes", lists_while_it_removes},
    {"takes_odd_names", takes_odd_names},
    {"tells_of_files", tells_of_files},
    {"only_reads", only_reads},
    {"changes_directory", changes_directory},
    {"reads_relative", reads_relative},
    {"reads_from_root", reads_from_root},
    {"reads_the_innermost", reads_the_innermost},
    {0},
};
