/*
 * fleetward-device: a small device as Fleetward wants one to behave, for those who write another.
 *
 *   fleetward-device CONFIG          lives until SIGTERM
 *   fleetward-device CONFIG --once   enrolls if needed, delivers one message, ends
 */
#include "device.h"
#include "say.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void end(int signal)
{
    (void)signal;
    device_is_ending = 1;
}

/* One line of the configuration goes to where it belongs. */
struct key {
    const char *name;
    char *text;
    size_t size;
    struct door *door;
    int64_t *number;
    int64_t min, max;
};

static int set_door(struct door *door, const char *value)
{
    const char *colon = strrchr(value, ':');

    if (colon == NULL || colon == value || strlen(colon + 1) >= sizeof door->port ||
        (size_t)(colon - value) >= sizeof door->host)
        return 0;
    memcpy(door->host, value, (size_t)(colon - value));
    door->host[colon - value] = '\0';
    strcpy(door->port, colon + 1);
    return strspn(door->port, "0123456789") == strlen(door->port) && door->port[0] != '\0';
}

static int set(const struct key *key, const char *value)
{
    char *rest;

    if (key->door != NULL)
        return set_door(key->door, value);
    if (key->number != NULL) {
        *key->number = strtoll(value, &rest, 10);
        return *rest == '\0' && rest != value && *key->number >= key->min &&
               *key->number <= key->max;
    }
    /* What goes into JSON and topics as it is. */
    if (value[0] == '\0' || strlen(value) >= key->size || strpbrk(value, "\"\\\t") != NULL)
        return 0;
    strcpy(key->text, value);
    return 1;
}

/* `name = value`, a line each; `#` begins a comment. */
static int read_settings(const char *path, struct settings *s)
{
    const struct key keys[] = {
        {"device", s->device, sizeof s->device, NULL, NULL, 0, 0},
        {"state_dir", s->state_dir, sizeof s->state_dir, NULL, NULL, 0, 0},
        {"roots_file", s->roots_file, sizeof s->roots_file, NULL, NULL, 0, 0},
        {"idevid_certificate_file", s->idevid_certificate_file, sizeof s->idevid_certificate_file,
         NULL, NULL, 0, 0},
        {"idevid_key_file", s->idevid_key_file, sizeof s->idevid_key_file, NULL, NULL, 0, 0},
        {"firmware_version", s->firmware_version, sizeof s->firmware_version, NULL, NULL, 0, 0},
        {"publish_topic", s->publish_topic, sizeof s->publish_topic, NULL, NULL, 0, 0},
        {"est", NULL, 0, &s->est, NULL, 0, 0},
        {"mqtt", NULL, 0, &s->mqtt, NULL, 0, 0},
        {"publish_seconds", NULL, 0, NULL, &s->publish_seconds, 1, 86400},
        {"report_seconds", NULL, 0, NULL, &s->report_seconds, 1, 86400},
        {"keep_alive_seconds", NULL, 0, NULL, &s->keep_alive_seconds, 5, 1200},
        {"reconnect_seconds_max", NULL, 0, NULL, &s->reconnect_seconds_max, 1, 86400},
        {"renew_seconds_max", NULL, 0, NULL, &s->renew_seconds_max, 0, 31536000},
    };
    const size_t count = sizeof keys / sizeof keys[0];
    /* The first nine have no value of their own. */
    const size_t needed = 9;
    unsigned long seen = 0;
    char line[512];
    FILE *file = fopen(path, "r");

    if (file == NULL) {
        say("%s: cannot be read", path);
        return 0;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        char *name = line + strspn(line, " \t"), *value;
        size_t i;

        name[strcspn(name, "#\r\n")] = '\0';
        if (name[0] == '\0')
            continue;
        value = name + strcspn(name, "=");
        if (*value == '=') {
            *value++ = '\0';
            value += strspn(value, " \t");
            value[strcspn(value, " \t")] = '\0';
        }
        name[strcspn(name, " \t")] = '\0';
        for (i = 0; i < count && strcmp(name, keys[i].name) != 0; i++)
            ;
        if (i == count || !set(&keys[i], value)) {
            say("%s: `%s` is not known or not well formed", path, name);
            (void)fclose(file);
            return 0;
        }
        seen |= 1ul << i;
    }
    (void)fclose(file);
    if ((seen & ((1ul << needed) - 1)) != (1ul << needed) - 1) {
        say("%s: device, state_dir, roots_file, idevid_certificate_file, idevid_key_file, "
            "firmware_version, publish_topic, est and mqtt are needed",
            path);
        return 0;
    }
    return 1;
}

int main(int count, char **arguments)
{
    struct sigaction on_end, ignore;
    struct settings settings = {
        .publish_seconds = 60,
        .report_seconds = 60,
        .keep_alive_seconds = 60,
        .reconnect_seconds_max = 300,
    };
    int once = count == 3 && strcmp(arguments[2], "--once") == 0;

    if (count != 2 && !once) {
        (void)fprintf(stderr, "usage: fleetward-device CONFIG [--once]\n");
        return 2;
    }
    if (!read_settings(arguments[1], &settings))
        return 2;
    memset(&on_end, 0, sizeof on_end);
    on_end.sa_handler = end;
    (void)sigaction(SIGTERM, &on_end, NULL);
    (void)sigaction(SIGINT, &on_end, NULL);
    memset(&ignore, 0, sizeof ignore);
    ignore.sa_handler = SIG_IGN;
    (void)sigaction(SIGPIPE, &ignore, NULL);
    return device_run(&settings, once) == DONE ? 0 : 1;
}
