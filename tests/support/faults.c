/*
 * Stands between a program and the file calls of its C library, for the fault tests: LD_PRELOAD it.
 *
 * Only files below CAIRN_FAULTS_FOLDER (an absolute path) count. Calls that change or sync them are numbered from 1.
 *   CAIRN_FAULTS=kill:N      the N-th call ends the process by SIGKILL; a write is half done then
 *   CAIRN_FAULTS=eio:N       the N-th call fails with EIO
 *   CAIRN_FAULTS=enospc:N    the N-th call, and every later one that needs room, fails with ENOSPC
 *   CAIRN_FAULTS=short:N     the N-th call, if it is a write, does half of its work
 *   CAIRN_FAULTS=sync:N      the N-th sync fails with EIO; other calls have no number
 *   CAIRN_FAULTS_COUNT=FILE  where the number of calls is written when the process ends
 *   CAIRN_FAULTS_LOG=FILE    what was called, in order, as tests/support/faults.rs reads it; also what is written to stdout
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAX_FDS = 65536 };
enum fault { NONE, KILL, FAIL, FULL, SHORT, FAIL_SYNC };
enum call { WRITES, SYNCS, OTHER };
enum verdict { GO, REFUSE, HALF, HALF_THEN_DIE };

static const char *folder;
static size_t folder_len;
static const char *count_file;
static enum fault fault = NONE;
static unsigned long fault_at, call_count;
static int log_fd = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* Files below the folder that are open: their inode, and for a folder its path. */
static uint64_t inodes[MAX_FDS];
static char *folders[MAX_FDS];

#define REAL(type, name, ...)                                                \
    static type (*real)(__VA_ARGS__);                                        \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("CAIRN_FAULTS");
    static const struct { const char *name; enum fault fault; } kinds[] = {
        {"kill:", KILL}, {"eio:", FAIL}, {"enospc:", FULL}, {"short:", SHORT}, {"sync:", FAIL_SYNC}};
    for (size_t i = 0; name && i < sizeof kinds / sizeof kinds[0]; i++)
        if (!strncmp(name, kinds[i].name, strlen(kinds[i].name))) {
            fault = kinds[i].fault;
            fault_at = strtoul(name + strlen(kinds[i].name), NULL, 10);
        }
    count_file = getenv("CAIRN_FAULTS_COUNT");
    const char *log = getenv("CAIRN_FAULTS_LOG");
    if (log) log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    folder = getenv("CAIRN_FAULTS_FOLDER");
    folder_len = folder ? strlen(folder) : 0;
}

__attribute__((destructor)) static void end(void) {
    char text[32];
    if (!count_file) return;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, count_file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int len = snprintf(text, sizeof text, "%lu", call_count);
    if (fd >= 0 && syscall(SYS_write, fd, text, len) == len) syscall(SYS_close, fd);
}

static int watched(const char *path) {
    return folder && path && !strncmp(path, folder, folder_len) && (path[folder_len] == '/' || !path[folder_len]);
}

static int is_open(int fd) { return fd >= 0 && fd < MAX_FDS && inodes[fd]; }

/* Appends to the log. The lock is held. Strings carry no end. */
static void record(char what, uint64_t inode, uint64_t at, const void *a, size_t a_len, const void *b, size_t b_len) {
    if (log_fd < 0) return;
    unsigned char head[25];
    uint32_t lens[2] = {(uint32_t)a_len, (uint32_t)b_len};
    head[0] = (unsigned char)what;
    memcpy(head + 1, &inode, 8);
    memcpy(head + 9, &at, 8);
    memcpy(head + 17, lens, 8);
    const void *parts[] = {head, a, b};
    size_t part_lens[] = {sizeof head, a_len, b_len};
    for (int i = 0; i < 3; i++)
        for (size_t done = 0; done < part_lens[i];) {
            long n = syscall(SYS_write, log_fd, (const char *)parts[i] + done, part_lens[i] - done);
            if (n <= 0) abort();
            done += (size_t)n;
        }
}

static void record_path(char what, const char *path, const char *other) {
    record(what, 0, 0, path, strlen(path), other ? other : "", other ? strlen(other) : 0);
}

/* Counts a call and says what becomes of it; sets errno for one that is refused. The lock is held. */
static enum verdict judge(enum call call) {
    if (fault == FAIL_SYNC && call != SYNCS) return GO;
    call_count++;
    int now = call_count == fault_at;
    switch (fault) {
    case KILL:
        if (!now) return GO;
        if (call == WRITES) return HALF_THEN_DIE;
        kill(getpid(), SIGKILL);
        for (;;) pause();
    case FAIL:
    case FAIL_SYNC:
        errno = EIO;
        return now ? REFUSE : GO;
    case FULL:
        errno = ENOSPC;
        return fault_at && call_count >= fault_at && call == WRITES ? REFUSE : GO;
    case SHORT:
        return now && call == WRITES ? HALF : GO;
    default:
        return GO;
    }
}

static size_t half_of(size_t len) { return len > 1 ? len / 2 : len; }

/* --- opening and closing */

static int note_open(int fd, const char *path, int created, int truncated) {
    struct stat info;
    if (fd < 0 || fd >= MAX_FDS || fstat(fd, &info)) return fd;
    inodes[fd] = info.st_ino;
    if (S_ISDIR(info.st_mode)) {
        free(folders[fd]);
        folders[fd] = strdup(path);
    }
    if (created) record('c', info.st_ino, 0, path, strlen(path), "", 0);
    else if (truncated) record('t', info.st_ino, 0, "", 0, "", 0);
    return fd;
}

static int open_watched(int (*real)(const char *, int, ...), const char *path, int flags, mode_t mode) {
    if (!watched(path)) return real(path, flags, mode);
    pthread_mutex_lock(&lock);
    int created = (flags & O_CREAT) && access(path, F_OK);
    int fd = -1;
    if (!(created || flags & O_TRUNC) || judge(created ? WRITES : OTHER) != REFUSE) {
        fd = note_open(real(path, flags, mode), path, created, flags & O_TRUNC);
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

#define OPEN(name)                                                           \
    int name(const char *path, int flags, ...) {                             \
        REAL(int, #name, const char *, int, ...);                            \
        va_list rest;                                                        \
        va_start(rest, flags);                                               \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                        \
        return open_watched(real, path, flags, mode);                        \
    }
OPEN(open)
OPEN(open64)

int close(int fd) {
    REAL(int, "close", int);
    pthread_mutex_lock(&lock);
    if (is_open(fd)) {
        inodes[fd] = 0;
        free(folders[fd]);
        folders[fd] = NULL;
    }
    pthread_mutex_unlock(&lock);
    return real(fd);
}

/* --- writing */

ssize_t write(int fd, const void *data, size_t len) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (!is_open(fd) && !(fd == STDOUT_FILENO && log_fd >= 0)) return real(fd, data, len);
    pthread_mutex_lock(&lock);
    ssize_t done = -1;
    if (!is_open(fd)) {
        done = real(fd, data, len);
        if (done > 0) record('k', 0, 0, data, (size_t)done, "", 0);
    } else {
        enum verdict verdict = judge(WRITES);
        if (verdict != REFUSE) {
            done = real(fd, data, verdict == GO ? len : half_of(len));
            if (verdict == HALF_THEN_DIE) kill(getpid(), SIGKILL);
            if (done > 0) record('w', inodes[fd], (uint64_t)lseek(fd, 0, SEEK_CUR) - (uint64_t)done, data, (size_t)done, "", 0);
        }
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

static ssize_t pwrite_watched(ssize_t (*real)(int, const void *, size_t, off_t), int fd, const void *data, size_t len, off_t at) {
    if (!is_open(fd)) return real(fd, data, len, at);
    pthread_mutex_lock(&lock);
    ssize_t done = -1;
    enum verdict verdict = judge(WRITES);
    if (verdict != REFUSE) {
        done = real(fd, data, verdict == GO ? len : half_of(len), at);
        if (verdict == HALF_THEN_DIE) kill(getpid(), SIGKILL);
        if (done > 0) record('w', inodes[fd], (uint64_t)at, data, (size_t)done, "", 0);
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t at) {
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    return pwrite_watched(real, fd, data, len, at);
}

ssize_t pwrite64(int fd, const void *data, size_t len, off_t at) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off_t);
    return pwrite_watched(real, fd, data, len, at);
}

#define TRUNCATE(name)                                                       \
    int name(int fd, off_t len) {                                            \
        REAL(int, #name, int, off_t);                                        \
        if (!is_open(fd)) return real(fd, len);                              \
        pthread_mutex_lock(&lock);                                           \
        int result = judge(OTHER) == REFUSE ? -1 : real(fd, len);            \
        if (!result) record('t', inodes[fd], (uint64_t)len, "", 0, "", 0);   \
        int error = errno;                                                   \
        pthread_mutex_unlock(&lock);                                         \
        errno = error;                                                       \
        return result;                                                       \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

/* --- making durable */

#define SYNC(name)                                                           \
    int name(int fd) {                                                       \
        REAL(int, #name, int);                                               \
        if (!is_open(fd)) return real(fd);                                   \
        pthread_mutex_lock(&lock);                                           \
        int result = judge(SYNCS) == REFUSE ? -1 : real(fd);                 \
        if (!result && folders[fd]) record_path('d', folders[fd], NULL);     \
        else if (!result) record('s', inodes[fd], 0, "", 0, "", 0);          \
        int error = errno;                                                   \
        pthread_mutex_unlock(&lock);                                         \
        errno = error;                                                       \
        return result;                                                       \
    }
SYNC(fsync)
SYNC(fdatasync)

/* --- names */

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    if (!watched(from)) return real(from, to);
    pthread_mutex_lock(&lock);
    int result = judge(OTHER) == REFUSE ? -1 : real(from, to);
    if (!result) record_path('r', from, to);
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    if (!watched(path)) return real(path);
    pthread_mutex_lock(&lock);
    int result = judge(OTHER) == REFUSE ? -1 : real(path);
    if (!result) record_path('u', path, NULL);
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    if (!watched(path)) return real(path, mode);
    pthread_mutex_lock(&lock);
    int result = judge(OTHER) == REFUSE ? -1 : real(path, mode);
    if (!result) record_path('m', path, NULL);
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}
