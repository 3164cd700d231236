#include "tls.h"
#include "say.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* The whole of connecting, and one write. A peer that trickles bytes does not hold us longer. */
#define CONNECT_MS 15000
#define WRITE_SECONDS 15

static const int suites[] = {MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, 0};
static const mbedtls_ecp_group_id curves[] = {MBEDTLS_ECP_DP_SECP256R1, MBEDTLS_ECP_DP_NONE};
static const int hashes[] = {MBEDTLS_MD_SHA256, MBEDTLS_MD_NONE};
static const mbedtls_x509_crt_profile profile = {
    .allowed_mds = MBEDTLS_X509_ID_FLAG(MBEDTLS_MD_SHA256),
    .allowed_pks = MBEDTLS_X509_ID_FLAG(MBEDTLS_PK_ECKEY) | MBEDTLS_X509_ID_FLAG(MBEDTLS_PK_ECDSA),
    .allowed_curves = MBEDTLS_X509_ID_FLAG(MBEDTLS_ECP_DP_SECP256R1),
};

/*
 * Called for each certificate of the plane's chain, from the root down; its name and its signatures
 * have been judged. Its time is judged here, for our clock may be wrong: the chain must have a time
 * at which all of it is valid and that is not before what has been proven to us. Without this, a
 * device whose clock stands in 1970 would be locked out for good; and a stolen certificate of the
 * plane that ended before our floor stays out whatever our clock says.
 */
static int judge_time(void *context, mbedtls_x509_crt *certificate, int depth, uint32_t *flags)
{
    struct tls *tls = context;
    int64_t begin = certificate_begin(certificate), end = certificate_end(certificate);

    *flags &= ~(uint32_t)(MBEDTLS_X509_BADCERT_EXPIRED | MBEDTLS_X509_BADCERT_FUTURE);
    if (begin > tls->chain_begin)
        tls->chain_begin = begin;
    if (end < tls->chain_end)
        tls->chain_end = end;
    if (depth == 0 && (tls->chain_end < tls->chain_begin || tls->chain_end < tls->clock->floor))
        *flags |= MBEDTLS_X509_BADCERT_EXPIRED;
    return 0;
}

/* As mbedTLS reads, but never past the deadline of the step. */
static int receive(void *context, unsigned char *out, size_t size, uint32_t patience_ms)
{
    struct tls *tls = context;
    int64_t left = tls->deadline_ms - monotonic_ms();

    if (left <= 0)
        return MBEDTLS_ERR_SSL_TIMEOUT;
    if (patience_ms == 0 || patience_ms > left)
        patience_ms = (uint32_t)left;
    return mbedtls_net_recv_timeout(&tls->net, out, size, patience_ms);
}

static int transmit(void *context, const unsigned char *bytes, size_t length)
{
    struct tls *tls = context;

    return mbedtls_net_send(&tls->net, bytes, length);
}

/* mbedtls_net_connect waits as long as the system does, which is minutes. */
static enum outcome connect_to(struct tls *tls, const struct door *door)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct timeval patience = {WRITE_SECONDS, 0};
    struct addrinfo *found, *one;
    int on = 1, fd = -1;

    if (getaddrinfo(door->host, door->port, &hints, &found) != 0) {
        say("%s: no such host", door->host);
        return UNREACHABLE;
    }
    for (one = found; one != NULL && fd < 0; one = one->ai_next) {
        fd = socket(one->ai_family, one->ai_socktype, one->ai_protocol);
        if (fd < 0)
            continue;
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        if (connect(fd, one->ai_addr, one->ai_addrlen) != 0) {
            (void)close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    if (fd < 0) {
        say("%s:%s: %s", door->host, door->port, strerror(errno));
        return UNREACHABLE;
    }
    tls->net.fd = fd;
    return DONE;
}

static enum outcome set_up(struct tls *tls, struct trust *trust, const struct door *door,
                           const char **alpn, struct credential *shown)
{
    mbedtls_ssl_config *config = &tls->config;
    int error = mbedtls_ssl_config_defaults(config, MBEDTLS_SSL_IS_CLIENT,
                                            MBEDTLS_SSL_TRANSPORT_STREAM,
                                            MBEDTLS_SSL_PRESET_DEFAULT);

    mbedtls_ssl_conf_min_version(config, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
    mbedtls_ssl_conf_max_version(config, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
    mbedtls_ssl_conf_ciphersuites(config, suites);
    mbedtls_ssl_conf_curves(config, curves);
    mbedtls_ssl_conf_sig_hashes(config, hashes);
    mbedtls_ssl_conf_cert_profile(config, &profile);
    mbedtls_ssl_conf_authmode(config, MBEDTLS_SSL_VERIFY_REQUIRED);
    mbedtls_ssl_conf_ca_chain(config, &trust->roots, NULL);
    mbedtls_ssl_conf_verify(config, judge_time, tls);
    mbedtls_ssl_conf_rng(config, mbedtls_ctr_drbg_random, &trust->random->generator);
    /* The plane takes no session up again: each connection is proven anew. */
#if defined(MBEDTLS_SSL_SESSION_TICKETS)
    mbedtls_ssl_conf_session_tickets(config, MBEDTLS_SSL_SESSION_TICKETS_DISABLED);
#endif
#if defined(MBEDTLS_SSL_RENEGOTIATION)
    mbedtls_ssl_conf_renegotiation(config, MBEDTLS_SSL_RENEGOTIATION_DISABLED);
#endif
    /* Binds what we send. The plane does not answer this extension; it sends 4 KiB at most. */
    if (error == 0)
        error = mbedtls_ssl_conf_max_frag_len(config, MBEDTLS_SSL_MAX_FRAG_LEN_2048);
    if (error == 0)
        error = mbedtls_ssl_conf_alpn_protocols(config, alpn);
    if (error == 0 && shown != NULL)
        error = mbedtls_ssl_conf_own_cert(config, &shown->chain, &shown->key);
    if (error == 0)
        error = mbedtls_ssl_setup(&tls->ssl, config);
    if (error == 0)
        error = mbedtls_ssl_set_hostname(&tls->ssl, door->host);
    if (error != 0) {
        say("TLS cannot be set up (mbedTLS -0x%04x)", (unsigned)-error);
        return BROKEN;
    }
    mbedtls_ssl_set_bio(&tls->ssl, tls, transmit, NULL, receive);
    return DONE;
}

/* What an error of mbedTLS means to a device. */
static enum outcome judge(struct tls *tls, int error, const struct door *door, int shown)
{
    switch (error) {
    case MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE:
        /* The second byte of an alert is what it says (RFC 5246 section 7.2). */
        say("%s: the plane refuses by TLS alert %d", door->host, tls->ssl.in_msg[1]);
        return shown ? CERTIFICATE_REFUSED : NOT_THE_PLANE;
    case MBEDTLS_ERR_X509_CERT_VERIFY_FAILED:
        say("%s: its certificate does not lead to our roots, bears another name or has ended "
            "(flags 0x%x)",
            door->host, (unsigned)mbedtls_ssl_get_verify_result(&tls->ssl));
        return NOT_THE_PLANE;
    case MBEDTLS_ERR_SSL_ALLOC_FAILED:
    case MBEDTLS_ERR_X509_ALLOC_FAILED:
    case MBEDTLS_ERR_MPI_ALLOC_FAILED:
        say("not enough memory for TLS");
        return BROKEN;
    case MBEDTLS_ERR_SSL_TIMEOUT:
    case MBEDTLS_ERR_SSL_CONN_EOF:
    case MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY:
    case MBEDTLS_ERR_NET_CONN_RESET:
    case MBEDTLS_ERR_NET_RECV_FAILED:
    case MBEDTLS_ERR_NET_SEND_FAILED:
        say("%s: the connection was cut", door->host);
        return UNREACHABLE;
    default:
        say("%s: TLS failed (mbedTLS -0x%04x)", door->host, (unsigned)-error);
        return NOT_THE_PLANE;
    }
}

enum outcome tls_open(struct tls *tls, struct trust *trust, const struct door *door,
                      const char *alpn, struct credential *shown)
{
    enum outcome outcome;
    int error;

    memset(tls, 0, sizeof *tls);
    mbedtls_net_init(&tls->net);
    mbedtls_ssl_init(&tls->ssl);
    mbedtls_ssl_config_init(&tls->config);
    tls->clock = trust->clock;
    tls->chain_end = INT64_MAX;
    /* mbedTLS keeps the pointer to the list, so the list lives here. */
    tls->alpn[0] = alpn;
    outcome = set_up(tls, trust, door, tls->alpn, shown);
    if (outcome == DONE)
        outcome = connect_to(tls, door);
    if (outcome != DONE)
        return outcome;
    tls->deadline_ms = monotonic_ms() + CONNECT_MS;
    do {
        error = mbedtls_ssl_handshake(&tls->ssl);
    } while (error == MBEDTLS_ERR_SSL_WANT_READ || error == MBEDTLS_ERR_SSL_WANT_WRITE);
    if (error != 0)
        return judge(tls, error, door, shown != NULL);
    /* Our roots vouch for it: the plane has seen this time. */
    clock_raise(trust->clock, tls->chain_begin);
    return DONE;
}

enum outcome tls_write(struct tls *tls, const void *bytes, size_t length)
{
    const unsigned char *at = bytes;

    tls->deadline_ms = monotonic_ms() + CONNECT_MS;
    while (length > 0) {
        int written = mbedtls_ssl_write(&tls->ssl, at, length);

        if (written == MBEDTLS_ERR_SSL_WANT_READ || written == MBEDTLS_ERR_SSL_WANT_WRITE)
            continue;
        if (written <= 0) {
            say("the connection was cut while writing");
            return UNREACHABLE;
        }
        at += written;
        length -= (size_t)written;
    }
    return DONE;
}

enum outcome tls_read(struct tls *tls, void *out, size_t size, int64_t patience_ms,
                      size_t *length)
{
    int got;

    *length = 0;
    tls->deadline_ms = monotonic_ms() + (patience_ms > 0 ? patience_ms : 1);
    got = mbedtls_ssl_read(&tls->ssl, out, size);
    switch (got) {
    /* A signal, or part of a record: the caller looks around and comes back. */
    case MBEDTLS_ERR_SSL_TIMEOUT:
    case MBEDTLS_ERR_SSL_WANT_READ:
    case MBEDTLS_ERR_SSL_WANT_WRITE:
        return DONE;
    default:
        break;
    }
    /* In TLS 1.3 a refused certificate would show here and not in the handshake. */
    if (got <= 0)
        return UNREACHABLE;
    *length = (size_t)got;
    return DONE;
}

int64_t tls_plane_end(const struct tls *tls)
{
    return tls->chain_end;
}

void tls_close(struct tls *tls)
{
    if (tls->net.fd >= 0 && tls->ssl.state == MBEDTLS_SSL_HANDSHAKE_OVER)
        (void)mbedtls_ssl_close_notify(&tls->ssl);
    mbedtls_net_free(&tls->net);
    mbedtls_ssl_free(&tls->ssl);
    mbedtls_ssl_config_free(&tls->config);
}
