/*
 * What time it is, on a device that may not know.
 *
 * Many devices begin in 1970 at each start. So the plane's word, the date of its answers over a
 * verified connection, counts before the device's own clock; and there is a floor that no start
 * goes below: the time this program was built, or the latest time the plane has proven since.
 */
#ifndef FLEETWARD_CLOCK_H
#define FLEETWARD_CLOCK_H

#include "storage.h"

#include <stdint.h>

struct clock {
    /* Seconds since 1970. It is not before this. */
    int64_t floor;
    /* The floor as it was last written. */
    int64_t written;
    /* What the plane said, and when by the monotonic clock in milliseconds; 0: nothing yet. */
    int64_t told;
    int64_t told_at_ms;
};

enum outcome clock_open(struct clock *clock, const struct storage *storage);

/* Seconds since 1970, the best that is known. */
int64_t clock_now(const struct clock *clock);

/* The plane says what time it is. */
void clock_hear(struct clock *clock, int64_t seconds);

/* Something that the plane has signed is valid from here on: it is not earlier. */
void clock_raise(struct clock *clock, int64_t seconds);

/* Writes the floor if it has moved by an hour: flash wears out. */
enum outcome clock_keep(struct clock *clock, const struct storage *storage);

/* Milliseconds since the device started, or since any other moment. */
int64_t monotonic_ms(void);

/* Seconds since 1970 of a civil date in UTC. */
int64_t seconds_of(int year, int month, int day, int hour, int minute, int second);

/* `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7); 0 for anything else. */
int64_t seconds_of_http_date(const char *text);

#endif
