/*
 * The heap, bounded and measured. All that this program and mbedTLS allocate goes through here, by
 * the linker's --wrap: Debian's mbedTLS is built without MBEDTLS_PLATFORM_MEMORY. On a device give
 * mbedTLS a fixed arena by mbedtls_memory_buffer_alloc_init and read its peak there.
 */
#ifndef FLEETWARD_HEAP_H
#define FLEETWARD_HEAP_H

#include <stddef.h>

/* More is refused, as a small device would. */
#ifndef HEAP_BYTES_MAX
#define HEAP_BYTES_MAX (96 * 1024)
#endif

/* The most that was in use at once. */
size_t heap_peak_bytes(void);

#endif
