#include "credential.h"
#include "clock.h"
#include "say.h"

#include <mbedtls/asn1write.h>
#include <mbedtls/md.h>
#include <mbedtls/oid.h>
#include <mbedtls/platform_util.h>
#include <string.h>

static enum outcome broken(const char *what, int error)
{
    say("%s (mbedTLS -0x%04x)", what, (unsigned)-error);
    return BROKEN;
}

void credential_init(struct credential *credential)
{
    mbedtls_pk_init(&credential->key);
    mbedtls_x509_crt_init(&credential->chain);
}

void credential_free(struct credential *credential)
{
    mbedtls_pk_free(&credential->key);
    mbedtls_x509_crt_free(&credential->chain);
}

enum outcome credential_read(struct credential *credential, const char *pem, size_t length)
{
    const unsigned char *bytes = (const unsigned char *)pem;
    int error = mbedtls_pk_parse_key(&credential->key, bytes, length + 1, NULL, 0);

    if (error != 0)
        return broken("the key cannot be read", error);
    error = mbedtls_x509_crt_parse(&credential->chain, bytes, length + 1);
    if (error != 0)
        return broken("the certificate cannot be read", error);
    error = mbedtls_pk_check_pair(&credential->chain.pk, &credential->key);
    if (error != 0)
        return broken("the certificate is another key's", error);
    return DONE;
}

static int64_t seconds(const mbedtls_x509_time *time)
{
    return seconds_of(time->year, time->mon, time->day, time->hour, time->min, time->sec);
}

int64_t certificate_begin(const mbedtls_x509_crt *certificate)
{
    return seconds(&certificate->valid_from);
}

int64_t certificate_end(const mbedtls_x509_crt *certificate)
{
    return seconds(&certificate->valid_to);
}

enum outcome key_make(struct random *random, char pem[KEY_PEM_BYTES_MAX])
{
    mbedtls_pk_context key;
    int error;

    mbedtls_pk_init(&key);
    error = mbedtls_pk_setup(&key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
    if (error == 0)
        error = mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(key),
                                    mbedtls_ctr_drbg_random, &random->generator);
    if (error == 0)
        error = mbedtls_pk_write_key_pem(&key, (unsigned char *)pem, KEY_PEM_BYTES_MAX);
    mbedtls_pk_free(&key);
    return error == 0 ? DONE : broken("no key can be made", error);
}

/* Adds to `*length` what a function of mbedTLS wrote before `*at`, or keeps its error. */
static void add(int *length, int written)
{
    if (*length >= 0)
        *length = written < 0 ? written : *length + written;
}

static void write_bytes(int *length, unsigned char **at, unsigned char *start,
                        const unsigned char *bytes, size_t count)
{
    if (*length >= 0)
        add(length, mbedtls_asn1_write_raw_buffer(at, start, bytes, count));
}

/* Puts a tag and a length before the last `inside` bytes that were written. */
static void wrap(int *length, unsigned char **at, unsigned char *start, int inside,
                 unsigned char tag)
{
    if (*length >= 0)
        add(length, mbedtls_asn1_write_len(at, start, (size_t)inside));
    if (*length >= 0)
        add(length, mbedtls_asn1_write_tag(at, start, tag));
}

#define SEQUENCE (MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE)
#define SET (MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SET)

/*
 * attributes [0]: one extensionRequest of one subjectAltName, with the names of `renewed`. mbedTLS
 * keeps their list as it stands in the certificate; each has its own tag.
 */
static int write_attributes(unsigned char **at, unsigned char *start,
                            const mbedtls_x509_crt *renewed)
{
    const mbedtls_x509_sequence *name = renewed == NULL ? NULL : &renewed->subject_alt_names;
    int length = 0;

    if (name != NULL && name->buf.p != NULL) {
        /* One name is what the plane gives; more would be written in reverse. */
        if (name->next != NULL)
            return MBEDTLS_ERR_X509_FEATURE_UNAVAILABLE;
        write_bytes(&length, at, start, name->buf.p, name->buf.len);
        wrap(&length, at, start, length, (unsigned char)name->buf.tag);
        wrap(&length, at, start, length, SEQUENCE);
        wrap(&length, at, start, length, MBEDTLS_ASN1_OCTET_STRING);
        if (length >= 0)
            add(&length, mbedtls_asn1_write_oid(at, start, MBEDTLS_OID_SUBJECT_ALT_NAME,
                                                MBEDTLS_OID_SIZE(MBEDTLS_OID_SUBJECT_ALT_NAME)));
        wrap(&length, at, start, length, SEQUENCE);
        wrap(&length, at, start, length, SEQUENCE);
        wrap(&length, at, start, length, SET);
        if (length >= 0)
            add(&length, mbedtls_asn1_write_oid(at, start, MBEDTLS_OID_PKCS9_CSR_EXT_REQ,
                                                MBEDTLS_OID_SIZE(MBEDTLS_OID_PKCS9_CSR_EXT_REQ)));
        wrap(&length, at, start, length, SEQUENCE);
    }
    wrap(&length, at, start, length, MBEDTLS_ASN1_CONTEXT_SPECIFIC | MBEDTLS_ASN1_CONSTRUCTED);
    return length;
}

/* CertificationRequestInfo, before `*at`. */
static int write_info(unsigned char **at, unsigned char *start, mbedtls_pk_context *key,
                      const mbedtls_x509_crt *renewed)
{
    static const unsigned char no_name[] = {SEQUENCE, 0};
    int length = write_attributes(at, start, renewed);

    if (length >= 0) {
        /* It writes to the end of the room it is given, which is where we are. */
        int written = mbedtls_pk_write_pubkey_der(key, start, (size_t)(*at - start));

        add(&length, written);
        if (written > 0)
            *at -= written;
    }
    if (renewed == NULL)
        write_bytes(&length, at, start, no_name, sizeof no_name);
    else
        write_bytes(&length, at, start, renewed->subject_raw.p, renewed->subject_raw.len);
    if (length >= 0)
        add(&length, mbedtls_asn1_write_int(at, start, 0));
    wrap(&length, at, start, length, SEQUENCE);
    return length;
}

/* The signed whole, to the end of `out`; its length, or an error of mbedTLS. */
static int write_request(struct random *random, mbedtls_pk_context *key,
                         const mbedtls_x509_crt *renewed, unsigned char out[REQUEST_BYTES_MAX])
{
    unsigned char info[REQUEST_BYTES_MAX - 128], signature[MBEDTLS_ECDSA_MAX_LEN], digest[32];
    unsigned char *info_at = info + sizeof info, *at = out + REQUEST_BYTES_MAX;
    /* mbedtls_x509_write_sig of 2.28 puts NULL where nothing belongs (RFC 5758 section 3.2). */
    static const unsigned char ecdsa_with_sha256[] = {SEQUENCE, 10,   0x06, 8,    0x2a, 0x86,
                                                      0x48,     0xce, 0x3d, 0x04, 0x03, 0x02};
    const unsigned char unused_bits = 0;
    const mbedtls_md_info_t *sha256 = mbedtls_md_info_from_type(MBEDTLS_MD_SHA256);
    size_t signature_length = 0;
    int length = write_info(&info_at, info, key, renewed);
    int error, whole;

    if (length < 0)
        return length;
    error = mbedtls_md(sha256, info_at, (size_t)length, digest);
    if (error == 0)
        error = mbedtls_pk_sign(key, MBEDTLS_MD_SHA256, digest, sizeof digest, signature,
                                &signature_length, mbedtls_ctr_drbg_random, &random->generator);
    if (error != 0)
        return error;
    /* Written backwards: signature, algorithm, and before them what is signed. */
    whole = 0;
    write_bytes(&whole, &at, out, signature, signature_length);
    write_bytes(&whole, &at, out, &unused_bits, 1);
    wrap(&whole, &at, out, whole, MBEDTLS_ASN1_BIT_STRING);
    write_bytes(&whole, &at, out, ecdsa_with_sha256, sizeof ecdsa_with_sha256);
    write_bytes(&whole, &at, out, info_at, (size_t)length);
    wrap(&whole, &at, out, whole, SEQUENCE);
    return whole;
}

enum outcome request_make(struct random *random, const char *key_pem,
                          const mbedtls_x509_crt *renewed, uint8_t out[REQUEST_BYTES_MAX],
                          size_t *length)
{
    mbedtls_pk_context key;
    int written;

    mbedtls_pk_init(&key);
    written = mbedtls_pk_parse_key(&key, (const unsigned char *)key_pem, strlen(key_pem) + 1, NULL,
                                   0);
    if (written == 0)
        written = write_request(random, &key, renewed, out);
    mbedtls_pk_free(&key);
    if (written <= 0)
        return broken("no request can be made", written);
    memmove(out, out + REQUEST_BYTES_MAX - written, (size_t)written);
    *length = (size_t)written;
    return DONE;
}
