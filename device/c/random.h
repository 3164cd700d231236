/* Random numbers: one generator, seeded by the system. */
#ifndef FLEETWARD_RANDOM_H
#define FLEETWARD_RANDOM_H

#include "outcome.h"

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <stdint.h>

struct random {
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context generator;
};

enum outcome random_open(struct random *random);
void random_close(struct random *random);

/* Uniform between 0 and `bound`, both included. */
int64_t random_up_to(struct random *random, int64_t bound);

#endif
