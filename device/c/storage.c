#include "storage.h"
#include "say.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* There is one writer, so one name is enough for what is not finished. */
#define UNFINISHED "unfinished"

static enum outcome broken(const char *what, const char *name)
{
    say("%s %s: %s; operator: see that the state folder can be written", what, name,
        strerror(errno));
    return BROKEN;
}

enum outcome storage_open(struct storage *storage, const char *path)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd;

    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return broken("cannot make", path);
    storage->folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (storage->folder < 0)
        return broken("cannot open", path);
    /* Held until the process ends: two devices in one folder would lose each other's keys. */
    fd = openat(storage->folder, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || fcntl(fd, F_SETLK, &lock) != 0)
        return broken("cannot lock", path);
    return storage_remove(storage, UNFINISHED);
}

enum outcome storage_read(const struct storage *storage, const char *name, char *out, size_t size,
                          size_t *length)
{
    size_t have = 0;
    ssize_t got;
    int fd = openat(storage->folder, name, O_RDONLY | O_CLOEXEC);

    *length = 0;
    out[0] = '\0';
    if (fd < 0)
        return errno == ENOENT ? DONE : broken("cannot open", name);
    do {
        got = read(fd, out + have, size - have);
        if (got > 0)
            have += (size_t)got;
    } while (have < size && (got > 0 || (got < 0 && errno == EINTR)));
    (void)close(fd);
    if (got < 0)
        return broken("cannot read", name);
    if (have == size) {
        say("%s is too large to be ours, and is passed over", name);
        out[0] = '\0';
        return DONE;
    }
    out[have] = '\0';
    *length = have;
    return DONE;
}

enum outcome storage_write(const struct storage *storage, const char *name, const char *bytes,
                           size_t length)
{
    size_t written = 0;
    int fd;

    if (length >= STORED_BYTES_MAX) {
        say("%s would be too large", name);
        return BROKEN;
    }
    fd = openat(storage->folder, UNFINISHED, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return broken("cannot make", name);
    while (written < length) {
        ssize_t step = write(fd, bytes + written, length - written);

        if (step < 0 && errno != EINTR)
            break;
        if (step > 0)
            written += (size_t)step;
    }
    if (written < length || fsync(fd) != 0) {
        (void)close(fd);
        return broken("cannot write", name);
    }
    (void)close(fd);
    if (renameat(storage->folder, UNFINISHED, storage->folder, name) != 0)
        return broken("cannot rename", name);
    return fsync(storage->folder) == 0 ? DONE : broken("cannot write", name);
}

enum outcome storage_remove(const struct storage *storage, const char *name)
{
    if (unlinkat(storage->folder, name, 0) != 0)
        return errno == ENOENT ? DONE : broken("cannot remove", name);
    return fsync(storage->folder) == 0 ? DONE : broken("cannot remove", name);
}
