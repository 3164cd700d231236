#include "est.h"
#include "say.h"

#include <mbedtls/base64.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* From the request to the last byte of its answer. */
#define ANSWER_MS 20000
/* The longest wait that a server may ask for. */
#define RETRY_SECONDS_MAX 86400
#define MEDIA_TYPE "application/pem-certificate-chain"

/* What a head says, as far as we ask. */
struct head {
    int status;
    long length;
    long retry_seconds;
    int64_t date;
    int is_pem;
};

/* The value of a header line if its name is this one. */
static const char *value_of(const char *line, const char *name)
{
    size_t length = strlen(name);

    if (strncasecmp(line, name, length) != 0 || line[length] != ':')
        return NULL;
    line += length + 1;
    return line + strspn(line, " \t");
}

/* Digits and nothing else, up to `max`; -1 for anything else. */
static long number(const char *text, long max)
{
    char *end;
    long value;

    if (text[0] < '0' || text[0] > '9')
        return -1;
    value = strtol(text, &end, 10);
    end += strspn(end, " \t");
    return *end == '\0' && value >= 0 && value <= max ? value : -1;
}

/* Reads a head that a zero follows, line by line, destroying it. */
static enum outcome read_head(char *text, struct head *head)
{
    static const char *const start = "HTTP/1.1 ";
    char *line = text, *next;
    const char *value;

    memset(head, 0, sizeof *head);
    head->length = -1;
    head->retry_seconds = -1;
    for (; line != NULL; line = next) {
        next = strstr(line, "\r\n");
        if (next != NULL) {
            *next = '\0';
            next += 2;
        }
        if (line == text) {
            if (strncmp(line, start, strlen(start)) != 0)
                return NOT_THE_PLANE;
            head->status = atoi(line + strlen(start));
        } else if ((value = value_of(line, "content-length")) != NULL) {
            /* A second one, or one that is none, is how answers are smuggled. */
            if (head->length != -1)
                return NOT_THE_PLANE;
            head->length = number(value, ANSWER_BYTES_MAX);
            if (head->length < 0)
                return NOT_THE_PLANE;
        } else if (value_of(line, "transfer-encoding") != NULL) {
            /* The plane says how long its answers are; pieces are not put together here. */
            return NOT_THE_PLANE;
        } else if ((value = value_of(line, "retry-after")) != NULL) {
            head->retry_seconds = number(value, RETRY_SECONDS_MAX);
        } else if ((value = value_of(line, "date")) != NULL) {
            head->date = seconds_of_http_date(value);
        } else if ((value = value_of(line, "content-type")) != NULL) {
            head->is_pem = strncasecmp(value, MEDIA_TYPE, strlen(MEDIA_TYPE)) == 0;
        }
    }
    return DONE;
}

/*
 * Reads one answer, whole; its body moves to the front of `answer`, and a zero follows it. With
 * `length` NULL nobody wants the body, and it is not read.
 */
static enum outcome read_answer(struct tls *tls, struct head *head, char answer[ANSWER_BYTES_MAX],
                                size_t *length)
{
    int64_t until = monotonic_ms() + ANSWER_MS;
    size_t have = 0, got, body;
    char *end = NULL;
    enum outcome outcome;

    for (;;) {
        int64_t left = until - monotonic_ms();

        if (left <= 0)
            return UNREACHABLE;
        outcome = tls_read(tls, answer + have, ANSWER_BYTES_MAX - 1 - have, left, &got);
        if (outcome != DONE)
            return outcome;
        have += got;
        answer[have] = '\0';
        if (end == NULL && (end = strstr(answer, "\r\n\r\n")) != NULL) {
            *end = '\0';
            if (read_head(answer, head) != DONE) {
                say("an answer that is not the plane's");
                return NOT_THE_PLANE;
            }
            if (length == NULL)
                return DONE;
            if (head->length < 0) {
                say("an answer that does not say how long it is");
                return NOT_THE_PLANE;
            }
        }
        if (end != NULL) {
            body = (size_t)(end + 4 - answer);
            if (body + (size_t)head->length > ANSWER_BYTES_MAX - 1) {
                say("an answer of more than %d bytes", ANSWER_BYTES_MAX);
                return NOT_THE_PLANE;
            }
            if (have >= body + (size_t)head->length)
                break;
        } else if (have == ANSWER_BYTES_MAX - 1) {
            say("an answer of more than %d bytes", ANSWER_BYTES_MAX);
            return NOT_THE_PLANE;
        }
    }
    *length = (size_t)head->length;
    memmove(answer, answer + body, *length);
    answer[*length] = '\0';
    return DONE;
}

/* One request and its answer over a connection that is open. */
static enum outcome converse(struct tls *tls, struct trust *trust, const char *text,
                             struct head *head, char answer[ANSWER_BYTES_MAX], size_t *length)
{
    enum outcome outcome = tls_write(tls, text, strlen(text));

    if (outcome == DONE)
        outcome = read_answer(tls, head, answer, length);
    if (outcome == DONE && head->date != 0) {
        /* Never beyond its own certificates: one wrong date must not shut the plane out. */
        int64_t end = tls_plane_end(tls);

        clock_hear(trust->clock, head->date < end ? head->date : end);
    }
    return outcome;
}

enum outcome est_ask_time(struct trust *trust, const struct door *door)
{
    char answer[ANSWER_BYTES_MAX];
    struct tls tls;
    struct head head;
    enum outcome outcome = tls_open(&tls, trust, door, "http/1.1", NULL);

    if (outcome == DONE) {
        (void)snprintf(answer, sizeof answer,
                       "GET /.well-known/est/cacerts HTTP/1.1\r\nHost: %s:%s\r\n"
                       "Accept: " MEDIA_TYPE "\r\nConnection: close\r\n\r\n",
                       door->host, door->port);
        outcome = converse(&tls, trust, answer, &head, answer, NULL);
    }
    tls_close(&tls);
    return outcome;
}

enum outcome est_enroll(struct trust *trust, const struct door *door, struct credential *shown,
                        int again, const uint8_t *request, size_t request_length,
                        char answer[ANSWER_BYTES_MAX], size_t *length, int64_t *retry_seconds)
{
    unsigned char body[(REQUEST_BYTES_MAX + 2) / 3 * 4 + 1];
    struct tls tls;
    struct head head;
    size_t body_length;
    enum outcome outcome;

    if (mbedtls_base64_encode(body, sizeof body, &body_length, request, request_length) != 0)
        return BROKEN;
    outcome = tls_open(&tls, trust, door, "http/1.1", shown);
    if (outcome == DONE) {
        (void)snprintf(answer, ANSWER_BYTES_MAX,
                       "POST /.well-known/est/%s HTTP/1.1\r\nHost: %s:%s\r\n"
                       "Accept: " MEDIA_TYPE "\r\nContent-Type: application/pkcs10\r\n"
                       "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
                       again ? "simplereenroll" : "simpleenroll", door->host, door->port,
                       body_length, (const char *)body);
        outcome = converse(&tls, trust, answer, &head, answer, length);
    }
    tls_close(&tls);
    if (outcome != DONE)
        return outcome;
    if (head.status == 200 && head.is_pem)
        return DONE;
    if (head.status == 202) {
        *retry_seconds = head.retry_seconds > 0 ? head.retry_seconds : 60;
        return PENDING;
    }
    make_printable(answer);
    say("the plane answers %d: %.200s", head.status, answer);
    return head.status >= 400 && head.status < 500 && head.status != 429 ? REFUSED : UNREACHABLE;
}
