/*
 * A key with the certificate made of it, and the request (PKCS #10, RFC 2986) that gets one.
 * Keys are P-256 and born here. As text it is PEM: the key first, then the chain.
 */
#ifndef FLEETWARD_CREDENTIAL_H
#define FLEETWARD_CREDENTIAL_H

#include "outcome.h"
#include "random.h"

#include <mbedtls/pk.h>
#include <mbedtls/x509_crt.h>
#include <stddef.h>
#include <stdint.h>

/* Of a P-256 key in PEM, its terminating zero included. */
#define KEY_PEM_BYTES_MAX 320
/* Of a request in DER: a key, a subject, one URI and a signature. */
#define REQUEST_BYTES_MAX 768

struct credential {
    mbedtls_pk_context key;
    mbedtls_x509_crt chain;
};

void credential_init(struct credential *credential);
void credential_free(struct credential *credential);

/*
 * Reads a key and its certificate chain out of `length` bytes of PEM that a zero follows. BROKEN,
 * said to be so, if one of them cannot be read or they do not belong together.
 */
enum outcome credential_read(struct credential *credential, const char *pem, size_t length);

/* From when until when it is valid, in seconds since 1970. */
int64_t certificate_begin(const mbedtls_x509_crt *certificate);
int64_t certificate_end(const mbedtls_x509_crt *certificate);

/* A new key, as PEM. */
enum outcome key_make(struct random *random, char pem[KEY_PEM_BYTES_MAX]);

/*
 * A request for the key in `key_pem`. A renewal asks for the subject and the alternative names of
 * `renewed`, byte by byte (RFC 7030 section 4.2.2); a first request, with NULL, asks for no name:
 * the plane knows it better. Signing is deterministic (RFC 6979), so that the same key makes the
 * same request and a lost answer can be asked for again.
 */
enum outcome request_make(struct random *random, const char *key_pem,
                          const mbedtls_x509_crt *renewed, uint8_t out[REQUEST_BYTES_MAX],
                          size_t *length);

#endif
