#include "clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FLOOR "clock"
#define FLOOR_STEP 3600

/* Set by the Makefile: seconds since 1970 at which this program was built. */
#ifndef BUILD_TIME
#define BUILD_TIME 0
#endif

enum outcome clock_open(struct clock *clock, const struct storage *storage)
{
    char text[24];
    size_t length;
    enum outcome outcome = storage_read(storage, FLOOR, text, sizeof text, &length);

    /* A file that is damaged is as good as none. */
    clock->floor = outcome == DONE ? strtoll(text, NULL, 10) : 0;
    if (clock->floor < (int64_t)BUILD_TIME)
        clock->floor = (int64_t)BUILD_TIME;
    clock->written = clock->floor;
    clock->told = 0;
    clock->told_at_ms = 0;
    return outcome;
}

int64_t clock_now(const struct clock *clock)
{
    int64_t own = (int64_t)time(NULL);

    if (clock->told != 0)
        return clock->told + (monotonic_ms() - clock->told_at_ms) / 1000;
    return own > clock->floor ? own : clock->floor;
}

void clock_hear(struct clock *clock, int64_t seconds)
{
    clock->told = seconds;
    clock->told_at_ms = monotonic_ms();
    clock_raise(clock, seconds);
}

void clock_raise(struct clock *clock, int64_t seconds)
{
    if (seconds > clock->floor)
        clock->floor = seconds;
}

enum outcome clock_keep(struct clock *clock, const struct storage *storage)
{
    char text[24];
    int length;
    enum outcome outcome;

    if (clock->floor - clock->written < FLOOR_STEP)
        return DONE;
    length = snprintf(text, sizeof text, "%" PRId64 "\n", clock->floor);
    outcome = storage_write(storage, FLOOR, text, (size_t)length);
    if (outcome == DONE)
        clock->written = clock->floor;
    return outcome;
}

int64_t monotonic_ms(void)
{
    struct timespec now = {0, 0};

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t seconds_of(int year, int month, int day, int hour, int minute, int second)
{
    /* Days of the proleptic Gregorian calendar, years beginning in March. */
    int64_t y = month > 2 ? year : year - 1;
    int64_t m = month > 2 ? month - 3 : month + 9;
    int64_t days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719468;

    return days * 86400 + hour * 3600 + minute * 60 + second;
}

int64_t seconds_of_http_date(const char *text)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    char weekday[4], month[4], zone[4];
    int day, year, hour, minute, second;
    const char *found;

    if (sscanf(text, "%3[A-Za-z], %2d %3[A-Za-z] %4d %2d:%2d:%2d %3[A-Z]", weekday, &day, month,
               &year, &hour, &minute, &second, zone) != 8)
        return 0;
    found = strstr(months, month);
    if (found == NULL || strlen(month) != 3 || (found - months) % 3 != 0 ||
        strcmp(zone, "GMT") != 0)
        return 0;
    if (year < 1970 || day < 1 || day > 31 || hour < 0 || hour > 23 || minute < 0 || minute > 59 ||
        second < 0 || second > 60)
        return 0;
    return seconds_of(year, (int)(found - months) / 3 + 1, day, hour, minute, second);
}
