#include "random.h"
#include "say.h"

enum outcome random_open(struct random *random)
{
    mbedtls_entropy_init(&random->entropy);
    mbedtls_ctr_drbg_init(&random->generator);
    if (mbedtls_ctr_drbg_seed(&random->generator, mbedtls_entropy_func, &random->entropy, NULL,
                              0) != 0) {
        say("the system gives no random numbers");
        return BROKEN;
    }
    return DONE;
}

void random_close(struct random *random)
{
    mbedtls_ctr_drbg_free(&random->generator);
    mbedtls_entropy_free(&random->entropy);
}

int64_t random_up_to(struct random *random, int64_t bound)
{
    uint32_t bits = 0;

    if (mbedtls_ctr_drbg_random(&random->generator, (unsigned char *)&bits, sizeof bits) != 0)
        bits = 0x80000000u;
    /* Bounds are far below 2^31, so that a float's error does not matter. */
    return (int64_t)((double)bits / 4294967296.0 * ((double)bound + 1.0));
}
