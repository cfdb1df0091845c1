// Records what a process writes below a folder, in the order in which it comes back from the kernel.
// For LD_PRELOAD. POWERCUT_BELOW names the folder, POWERCUT_LOG the file to which records are appended.
// A record: op, padding to 4, lengths of two paths (u32), inode (u64), offset (i64), length (u32), and these.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct head {
    char op, padding[3];
    uint32_t path, other;
    uint64_t inode;
    int64_t offset;
    uint32_t length, zero;
};

static const char *below, *log_name;

static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }

#define NEXT(name) ((__typeof__(&name))next(#name))

__attribute__((constructor)) void begin_preloaded(void) { /* a fork calls it again: tests/forked.py */
    below = getenv("POWERCUT_BELOW");
    log_name = getenv("POWERCUT_LOG");
}

static void record(char op, const char *path, const char *other, uint64_t inode, int64_t offset,
                   const void *data, size_t length) {
    struct head head = {op, "", strlen(path), strlen(other), inode, offset, length, 0};
    struct iovec parts[] = {{&head, sizeof head},
                            {(void *)path, head.path},
                            {(void *)other, head.other},
                            {(void *)data, length}};
    // opened anew each time: a process may close descriptors that it does not know
    int file = NEXT(open)(log_name, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (file < 0 || writev(file, parts, 4) < 0) abort();
    NEXT(close)(file);
}

// the absolute path of a name, without following the name itself; NULL where it is not below the folder
static const char *whole(int folder, const char *name, char *buffer) {
    char link[64], parent[PATH_MAX];
    if (!below || !log_name) return NULL;
    if (name[0] == '/') {
        snprintf(buffer, PATH_MAX, "%s", name);
    } else {
        if (folder == AT_FDCWD) {
            if (!getcwd(parent, sizeof parent)) return NULL;
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
            ssize_t size = readlink(link, parent, sizeof parent - 1);
            if (size < 0) return NULL;
            parent[size] = 0;
        }
        snprintf(buffer, PATH_MAX, "%.2000s/%.2000s", parent, name);
    }
    size_t size = strlen(below);
    return strncmp(buffer, below, size) || (buffer[size] && buffer[size] != '/') ? NULL : buffer;
}

// the inode of an open file below the folder, 0 of any other
static uint64_t inside(int file) {
    char link[64], path[PATH_MAX];
    struct stat there;
    if (!below || !log_name) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    size_t length = strlen(below);
    if (strncmp(path, below, length) || path[length] != '/') {
        if (strcmp(path, below)) return 0;
    }
    return fstat(file, &there) ? 0 : there.st_ino;
}

static int opened(int file, int folder, const char *name, int flags, int was_there) {
    char buffer[PATH_MAX];
    struct stat there;
    int error = errno;
    const char *path = file < 0 ? NULL : whole(folder, name, buffer);
    if (path && !fstat(file, &there)) {
        if (!was_there && S_ISREG(there.st_mode)) record('c', path, "", there.st_ino, 0, "", 0);
        if (was_there && flags & O_TRUNC) record('t', path, "", there.st_ino, 0, "", 0);
    }
    errno = error;
    return file;
}

static int is_there(int folder, const char *name) {
    struct stat there;
    int error = errno, answer = !fstatat(folder, name, &there, 0);
    errno = error;
    return answer;
}

#define OPEN(function, ...)                                                                       \
    mode_t mode = 0;                                                                              \
    if (flags & (O_CREAT | __O_TMPFILE)) {                                                        \
        va_list rest;                                                                             \
        va_start(rest, flags);                                                                    \
        mode = va_arg(rest, mode_t);                                                              \
        va_end(rest);                                                                             \
    }                                                                                             \
    int exists = flags & O_CREAT ? is_there(folder, name) : 1;                                    \
    return opened(NEXT(function)(__VA_ARGS__, flags, mode), folder, name, flags, exists);

int open(const char *name, int flags, ...) {
    int folder = AT_FDCWD;
    OPEN(open, name)
}
int open64(const char *name, int flags, ...) {
    int folder = AT_FDCWD;
    OPEN(open64, name)
}
int openat(int folder, const char *name, int flags, ...) { OPEN(openat, folder, name) }
int openat64(int folder, const char *name, int flags, ...) { OPEN(openat64, folder, name) }

static ssize_t written(int file, const void *data, ssize_t size, int64_t offset) {
    int error = errno;
    uint64_t inode = size > 0 ? inside(file) : 0;
    if (inode) {
        if (offset < 0) offset = lseek(file, 0, SEEK_CUR) - size;
        record('w', "", "", inode, offset, data, size);
    }
    errno = error;
    return size;
}

ssize_t write(int file, const void *data, size_t size) {
    return written(file, data, NEXT(write)(file, data, size), -1);
}
ssize_t pwrite(int file, const void *data, size_t size, off_t offset) {
    return written(file, data, NEXT(pwrite)(file, data, size, offset), offset);
}
ssize_t pwrite64(int file, const void *data, size_t size, off64_t offset) {
    return written(file, data, NEXT(pwrite64)(file, data, size, offset), offset);
}

static int changed(int answer, char op, int file, int64_t size) {
    int error = errno;
    uint64_t inode = answer ? 0 : inside(file);
    if (inode) record(op, "", "", inode, size, "", 0);
    errno = error;
    return answer;
}

int ftruncate(int file, off_t size) { return changed(NEXT(ftruncate)(file, size), 't', file, size); }
int ftruncate64(int file, off64_t size) {
    return changed(NEXT(ftruncate64)(file, size), 't', file, size);
}
int fsync(int file) { return changed(NEXT(fsync)(file), 's', file, 0); }
int fdatasync(int file) { return changed(NEXT(fdatasync)(file), 's', file, 0); }

static int named(int answer, char op, int folder, const char *name, int other_folder,
                 const char *other) {
    char first[PATH_MAX], second[PATH_MAX];
    struct stat there;
    int error = errno;
    const char *path = answer ? NULL : whole(folder, name, first);
    const char *target = path && other ? whole(other_folder, other, second) : NULL;
    if (path) {
        const char *living = target ? target : path;
        uint64_t inode = op == 'm' && !lstat(living, &there) ? there.st_ino : 0;
        record(op, path, target ? target : "", inode, 0, "", 0);
    }
    errno = error;
    return answer;
}

#define HERE AT_FDCWD
int mkdir(const char *name, mode_t mode) {
    return named(NEXT(mkdir)(name, mode), 'm', HERE, name, 0, NULL);
}
int mkdirat(int folder, const char *name, mode_t mode) {
    return named(NEXT(mkdirat)(folder, name, mode), 'm', folder, name, 0, NULL);
}
int unlink(const char *name) { return named(NEXT(unlink)(name), 'u', HERE, name, 0, NULL); }
int rmdir(const char *name) { return named(NEXT(rmdir)(name), 'u', HERE, name, 0, NULL); }
int unlinkat(int folder, const char *name, int flags) {
    return named(NEXT(unlinkat)(folder, name, flags), 'u', folder, name, 0, NULL);
}
int rename(const char *old, const char *new) {
    return named(NEXT(rename)(old, new), 'r', HERE, old, HERE, new);
}
int renameat(int from, const char *old, int to, const char *new) {
    return named(NEXT(renameat)(from, old, to, new), 'r', from, old, to, new);
}
int link(const char *old, const char *new) {
    return named(NEXT(link)(old, new), 'l', HERE, old, HERE, new);
}
int linkat(int from, const char *old, int to, const char *new, int flags) {
    return named(NEXT(linkat)(from, old, to, new, flags), 'l', from, old, to, new);
}
