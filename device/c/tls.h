/*
 * One TLS 1.2 connection to the plane: ECDHE on P-256 with ECDSA and AES-128-GCM and nothing else,
 * so that nothing else needs to be in flash. There is one at a time: its buffers are most of the
 * heap.
 */
#ifndef FLEETWARD_TLS_H
#define FLEETWARD_TLS_H

#include "clock.h"
#include "credential.h"
#include "outcome.h"
#include "random.h"

#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <stddef.h>
#include <stdint.h>

/* Where a door is. The host is the name that the plane's certificate must bear. */
struct door {
    char host[128];
    char port[8];
};

/* What is the same for every connection. */
struct trust {
    mbedtls_x509_crt roots;
    struct random *random;
    struct clock *clock;
};

struct tls {
    mbedtls_net_context net;
    mbedtls_ssl_context ssl;
    mbedtls_ssl_config config;
    const struct clock *clock;
    const char *alpn[2];
    /* By the monotonic clock: until then the present step must be done. */
    int64_t deadline_ms;
    /* When the whole of the plane's chain is valid, as far as it was looked at. */
    int64_t chain_begin;
    int64_t chain_end;
};

/*
 * Connects and completes the handshake. CERTIFICATE_REFUSED: the plane ended it by an alert after
 * `shown` was presented. Whatever the outcome, tls_close comes after it.
 */
enum outcome tls_open(struct tls *tls, struct trust *trust, const struct door *door,
                      const char *alpn, struct credential *shown);

enum outcome tls_write(struct tls *tls, const void *bytes, size_t length);

/* Waits up to `patience_ms` for bytes; DONE with *length 0: none came. */
enum outcome tls_read(struct tls *tls, void *out, size_t size, int64_t patience_ms,
                      size_t *length);

/* The time until which the plane's certificates are valid, after the handshake. */
int64_t tls_plane_end(const struct tls *tls);

void tls_close(struct tls *tls);

#endif
