/*
 * Preloaded: the wall clock stands at WRONG_CLOCK, seconds since 1970, as on a device without a
 * battery. The monotonic clock goes on.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static time_t wrong(void)
{
    const char *text = getenv("WRONG_CLOCK");

    return text == NULL ? 0 : (time_t)strtoll(text, NULL, 10);
}

time_t time(time_t *out)
{
    if (out != NULL)
        *out = wrong();
    return wrong();
}

int clock_gettime(clockid_t clock, struct timespec *out)
{
    if (clock != CLOCK_REALTIME)
        return (int)syscall(SYS_clock_gettime, clock, out);
    out->tv_sec = wrong();
    out->tv_nsec = 0;
    return 0;
}
