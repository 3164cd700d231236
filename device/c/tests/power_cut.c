/*
 * Preloaded: the power goes at step POWER_CUT_AT of what is done to the storage, a write half
 * done. The steps are those of storage.c: open for writing, write, fsync, rename, unlink.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CUT 77

static long steps;
static int stored = -1;

/* True if the power goes now. */
static int is_cut(void)
{
    const char *at = getenv("POWER_CUT_AT");

    steps++;
    return at != NULL && steps == strtol(at, NULL, 10);
}

static void step(void)
{
    if (is_cut())
        _exit(CUT);
}

int openat(int folder, const char *name, int flags, ...)
{
    mode_t mode = 0;
    int fd;

    if (flags & O_CREAT) {
        va_list rest;

        va_start(rest, flags);
        mode = va_arg(rest, mode_t);
        va_end(rest);
        step();
    }
    fd = (int)syscall(SYS_openat, folder, name, flags, mode);
    if (flags & O_TRUNC)
        stored = fd;
    return fd;
}

ssize_t write(int fd, const void *bytes, size_t length)
{
    if (fd == stored && is_cut()) {
        (void)syscall(SYS_write, fd, bytes, length / 2);
        _exit(CUT);
    }
    return syscall(SYS_write, fd, bytes, length);
}

int close(int fd)
{
    if (fd == stored)
        stored = -1;
    return (int)syscall(SYS_close, fd);
}

int fsync(int fd)
{
    step();
    return (int)syscall(SYS_fsync, fd);
}

int renameat(int from, const char *old, int to, const char *new)
{
    step();
    return (int)syscall(SYS_renameat2, from, old, to, new, 0);
}

int unlinkat(int folder, const char *name, int flags)
{
    step();
    return (int)syscall(SYS_unlinkat, folder, name, flags);
}
