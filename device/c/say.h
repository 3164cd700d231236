/* One line of log on standard error, without secrets. */
#ifndef FLEETWARD_SAY_H
#define FLEETWARD_SAY_H

void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* What somebody else wrote, made fit to be shown: a line of plain ASCII. */
void make_printable(char *text);

#endif
