/*
 * Enrollment over Secure Transport (RFC 7030, RFC 8951), with PEM instead of CMS: as much HTTP/1.1
 * as that needs. One request, one answer, one connection.
 */
#ifndef FLEETWARD_EST_H
#define FLEETWARD_EST_H

#include "tls.h"

/* Head and body of an answer together. More is refused unread. */
#define ANSWER_BYTES_MAX 4096

/* GET cacerts, for the time alone: the roots are those that we came with. */
enum outcome est_ask_time(struct trust *trust, const struct door *door);

/*
 * POST of a request: simpleenroll with the factory identity, simplereenroll with the certificate
 * that is renewed. DONE: `answer` holds PEM that a zero follows. PENDING: ask the same again after
 * *retry_seconds.
 */
enum outcome est_enroll(struct trust *trust, const struct door *door, struct credential *shown,
                        int again, const uint8_t *request, size_t request_length,
                        char answer[ANSWER_BYTES_MAX], size_t *length, int64_t *retry_seconds);

#endif
