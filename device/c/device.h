/* The life of a device: enroll, connect, publish, renew, obey. */
#ifndef FLEETWARD_DEVICE_H
#define FLEETWARD_DEVICE_H

#include "outcome.h"
#include "tls.h"

#include <signal.h>
#include <stdint.h>

#define PATH_BYTES_MAX 256
#define TOPIC_BYTES_MAX 256

struct settings {
    char device[129];
    char state_dir[PATH_BYTES_MAX];
    char roots_file[PATH_BYTES_MAX];
    char idevid_certificate_file[PATH_BYTES_MAX];
    char idevid_key_file[PATH_BYTES_MAX];
    char firmware_version[65];
    char publish_topic[TOPIC_BYTES_MAX];
    struct door est;
    struct door mqtt;
    int64_t publish_seconds;
    int64_t report_seconds;
    int64_t keep_alive_seconds;
    int64_t reconnect_seconds_max;
    /* Renew at least this often; 0: when two thirds of the certificate's life are over. */
    int64_t renew_seconds_max;
};

/* Set by whoever wants the device to end. */
extern volatile sig_atomic_t device_is_ending;

/*
 * Lives until it is asked to end; `once`: until one message has been acknowledged. BROKEN if it
 * cannot begin, and with `once` the first failure.
 */
enum outcome device_run(const struct settings *settings, int once);

#endif
