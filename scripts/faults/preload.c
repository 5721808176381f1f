/* Counts the calls of a process that change files below one folder, and kills the process at one of them.

Loaded with LD_PRELOAD (see preload.py), which puts these functions in front of those of the C library. Each is its
system call, with a look before and after. Nothing is counted until a process calls faults_arm, and nothing in its
children: a fork has another pid. Calls that the C library makes of itself, such as the write behind fwrite, do not
pass here.
*/

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { OPEN, WRITE, TRUNCATE, RENAME, UNLINK, LINK, MKDIR, RMDIR, SYNC };
static const char *const KINDS[] = {"open", "write", "truncate", "rename", "unlink", "link", "mkdir", "rmdir", "sync"};

enum when { NEVER, BEFORE, MIDDLE, AFTER };
static const char *const WHEN[] = {"", "before", "middle", "after"};

struct call {
    enum kind kind;
    enum when dies; /* the process, of this call */
    long size;      /* of what is written, or of the file that is cut */
    int is_ours;    /* it is below the store of a process that is armed */
    char path[PATH_MAX], other[PATH_MAX];
};

static pid_t armed;
static char store[PATH_MAX];
static int trace;
static unsigned kinds;             /* a bit for each that counts */
static char ending[NAME_MAX + 1]; /* of the paths that count */
static long number;
static enum when moment;
static double part;
static atomic_long calls;

/* From now on note the calls of this process below `folder` in an open file, and kill it at the `at`-th of some kinds.

   on: how the paths of these calls end.
   of_write: how much of a write is done before a kill in the middle of it, between 0 and 1. */
void faults_arm(const char *folder, int notes, unsigned of_kinds, const char *on, long at, int when, double of_write)
{
    snprintf(store, sizeof store, "%s", folder);
    snprintf(ending, sizeof ending, "%s", on);
    trace = notes, kinds = of_kinds, number = at, moment = when, part = of_write;
    calls = 0;
    armed = getpid();
}

/* Write the absolute path of `name`, or of an open file where that is NULL; return whether it is below the store. */
static int resolve(char *path, int folder, const char *name)
{
    char entry[64];
    size_t length = 0;
    if (!name || name[0] != '/') {
        if (folder == AT_FDCWD)
            snprintf(entry, sizeof entry, "/proc/self/cwd");
        else
            snprintf(entry, sizeof entry, "/proc/self/fd/%d", folder);
        ssize_t read = readlink(entry, path, PATH_MAX - 1);
        if (read < 0)
            return 0;
        length = read;
        path[length] = 0;
    }
    if (name)
        snprintf(path + length, PATH_MAX - length, "%s%s", length ? "/" : "", name);
    size_t whole = strlen(store);
    return !strncmp(path, store, whole) && (path[whole] == '/' || !path[whole]);
}

static int counts(const struct call *call)
{
    size_t whole = strlen(call->path), last = strlen(ending);
    return call->is_ours && kinds >> call->kind & 1 && whole >= last && !strcmp(call->path + whole - last, ending);
}

static void note(const struct call *call, enum when when, long result)
{
    char line[2 * PATH_MAX + 100];
    int length = snprintf(line, sizeof line, "%s\t%s\t%ld\t%ld\t%s\t%s\n", WHEN[when], KINDS[call->kind], call->size,
                          result, call->path, call->other);
    syscall(SYS_write, trace, line, length);
}

static void die(void)
{
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;)
        pause();
}

/* Look at a call that is about to be made, and die where it is the one to die before. */
static void begin(struct call *call, enum kind kind, int folder, const char *name, long size)
{
    int error = errno;
    call->kind = kind, call->size = size, call->dies = NEVER, call->other[0] = 0;
    call->is_ours = armed && armed == getpid() && resolve(call->path, folder, name);
    if (counts(call) && atomic_fetch_add(&calls, 1) + 1 == number) {
        call->dies = moment == MIDDLE && kind != WRITE ? AFTER : moment;
        if (call->dies == BEFORE) {
            note(call, BEFORE, -1);
            die();
        }
    }
    errno = error;
}

/* Note a call that was made, and die where it is the one; return its result. */
static long end(const struct call *call, long result)
{
    int error = errno;
    if (call->is_ours)
        note(call, call->dies, result);
    if (call->dies)
        die();
    errno = error;
    return result;
}

/* How much is written of `size` bytes: all, or at least one and not all where the process dies in the middle. */
static size_t written(const struct call *call, size_t size)
{
    if (call->dies != MIDDLE || size < 2)
        return size;
    return 1 + (size_t)(part * (size - 2));
}

ssize_t write(int file, const void *data, size_t size)
{
    struct call call;
    begin(&call, WRITE, file, NULL, size);
    return end(&call, syscall(SYS_write, file, data, written(&call, size)));
}

ssize_t pwrite(int file, const void *data, size_t size, off_t offset)
{
    struct call call;
    begin(&call, WRITE, file, NULL, size);
    return end(&call, syscall(SYS_pwrite64, file, data, written(&call, size), offset));
}
ssize_t pwrite64(int, const void *, size_t, off_t) __attribute__((alias("pwrite")));

ssize_t writev(int file, const struct iovec *data, int count)
{
    struct call call;
    begin(&call, WRITE, file, NULL, count);
    return end(&call, syscall(SYS_writev, file, data, (int)written(&call, count)));
}

ssize_t pwritev(int file, const struct iovec *data, int count, off_t offset)
{
    struct call call;
    begin(&call, WRITE, file, NULL, count);
    return end(&call, syscall(SYS_pwritev, file, data, (int)written(&call, count), offset, 0));
}
ssize_t pwritev64(int, const struct iovec *, int, off_t) __attribute__((alias("pwritev")));

static int open_at(int folder, const char *name, int flags, int mode)
{
    struct call call = {.is_ours = 0};
    int changes = flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR);
    if (changes)
        begin(&call, OPEN, folder, name, !!(flags & O_TRUNC));
    int file = syscall(SYS_openat, folder, name, flags, mode);
    return changes ? end(&call, file) : file;
}

#define MODE(flags)                                                                                                    \
    int mode = 0;                                                                                                      \
    if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) {                                                         \
        va_list more;                                                                                                  \
        va_start(more, flags);                                                                                         \
        mode = va_arg(more, int);                                                                                      \
        va_end(more);                                                                                                  \
    }

int open(const char *name, int flags, ...)
{
    MODE(flags)
    return open_at(AT_FDCWD, name, flags, mode);
}
int open64(const char *, int, ...) __attribute__((alias("open")));

int openat(int folder, const char *name, int flags, ...)
{
    MODE(flags)
    return open_at(folder, name, flags, mode);
}
int openat64(int, const char *, int, ...) __attribute__((alias("openat")));

int ftruncate(int file, off_t size)
{
    struct call call;
    begin(&call, TRUNCATE, file, NULL, size);
    return end(&call, syscall(SYS_ftruncate, file, size));
}
int ftruncate64(int, off_t) __attribute__((alias("ftruncate")));

int truncate(const char *name, off_t size)
{
    struct call call;
    begin(&call, TRUNCATE, AT_FDCWD, name, size);
    return end(&call, syscall(SYS_truncate, name, size));
}
int truncate64(const char *, off_t) __attribute__((alias("truncate")));

int renameat2(int folder, const char *name, int new_folder, const char *new_name, unsigned flags)
{
    struct call call;
    begin(&call, RENAME, folder, name, 0);
    if (call.is_ours)
        resolve(call.other, new_folder, new_name);
    return end(&call, syscall(SYS_renameat2, folder, name, new_folder, new_name, flags));
}

int renameat(int folder, const char *name, int new_folder, const char *new_name)
{
    return renameat2(folder, name, new_folder, new_name, 0);
}

int rename(const char *name, const char *new_name)
{
    return renameat2(AT_FDCWD, name, AT_FDCWD, new_name, 0);
}

int linkat(int folder, const char *name, int new_folder, const char *new_name, int flags)
{
    struct call call;
    begin(&call, LINK, new_folder, new_name, 0);
    return end(&call, syscall(SYS_linkat, folder, name, new_folder, new_name, flags));
}

int link(const char *name, const char *new_name)
{
    return linkat(AT_FDCWD, name, AT_FDCWD, new_name, 0);
}

int unlinkat(int folder, const char *name, int flags)
{
    struct call call;
    begin(&call, flags & AT_REMOVEDIR ? RMDIR : UNLINK, folder, name, 0);
    return end(&call, syscall(SYS_unlinkat, folder, name, flags));
}

int unlink(const char *name)
{
    return unlinkat(AT_FDCWD, name, 0);
}

int rmdir(const char *name)
{
    return unlinkat(AT_FDCWD, name, AT_REMOVEDIR);
}

int mkdirat(int folder, const char *name, mode_t mode)
{
    struct call call;
    begin(&call, MKDIR, folder, name, 0);
    return end(&call, syscall(SYS_mkdirat, folder, name, mode));
}

int mkdir(const char *name, mode_t mode)
{
    return mkdirat(AT_FDCWD, name, mode);
}

int fsync(int file)
{
    struct call call;
    begin(&call, SYNC, file, NULL, 0);
    return end(&call, syscall(SYS_fsync, file));
}

int fdatasync(int file)
{
    struct call call;
    begin(&call, SYNC, file, NULL, 0);
    return end(&call, syscall(SYS_fdatasync, file));
}
