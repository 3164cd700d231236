/*
 * Small files that survive a power cut at any moment: after it, a file holds what it held before
 * or what was written, whole, and never a mixture.
 *
 * On another system this is the file to write anew: two flash sectors with a sequence number and a
 * checksum do as well as a file system.
 */
#ifndef FLEETWARD_STORAGE_H
#define FLEETWARD_STORAGE_H

#include "outcome.h"

#include <stddef.h>

/* No file is larger, its terminating zero included. */
#define STORED_BYTES_MAX 4096

struct storage {
    int folder;
};

/* Opens the folder for one device at a time; makes it where it is missing. */
enum outcome storage_open(struct storage *storage, const char *path);

/*
 * Reads a file and ends it with a zero. DONE with *length 0: there is none, which is also what a
 * file comes to that has not room in `out`.
 */
enum outcome storage_read(const struct storage *storage, const char *name, char *out, size_t size,
                          size_t *length);

/* When it returns DONE the file is durable, its name too. */
enum outcome storage_write(const struct storage *storage, const char *name, const char *bytes,
                           size_t length);

/* When it returns DONE the file is gone for good. One that is not there is no error. */
enum outcome storage_remove(const struct storage *storage, const char *name);

#endif
