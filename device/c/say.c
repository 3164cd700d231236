#include "say.h"

#include <stdarg.h>
#include <stdio.h>

void say(const char *format, ...)
{
    char line[512];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    (void)fprintf(stderr, "fleetward-device: %s\n", line);
}

void make_printable(char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\r' || *text == '\n') {
            *text = '\0';
            return;
        }
        if (*text < ' ' || *text > '~')
            *text = '?';
    }
}
