#include "heap.h"

#include <stdint.h>
#include <stdlib.h>

/* Before each block: how large it is. As wide as the strictest alignment. */
#define HEAD 16

static size_t used, peak;

size_t heap_peak_bytes(void)
{
    return peak;
}

/* Names that the linker gives; nobody else calls them. */
void *__real_calloc(size_t count, size_t size);
void __real_free(void *block);
void *__wrap_calloc(size_t count, size_t size);
void __wrap_free(void *block);

void *__wrap_calloc(size_t count, size_t size)
{
    size_t bytes;
    unsigned char *block;

    if (size != 0 && count > HEAP_BYTES_MAX / size)
        return NULL;
    bytes = count * size;
    if (bytes > HEAP_BYTES_MAX - used)
        return NULL;
    block = __real_calloc(1, HEAD + bytes);
    if (block == NULL)
        return NULL;
    *(size_t *)(void *)block = bytes;
    used += bytes;
    if (used > peak)
        peak = used;
    return block + HEAD;
}

void __wrap_free(void *block)
{
    unsigned char *whole = block;

    if (whole == NULL)
        return;
    whole -= HEAD;
    used -= *(size_t *)(void *)whole;
    __real_free(whole);
}
