#include "device.h"
#include "containment.h"
#include "est.h"
#include "heap.h"
#include "keyring.h"
#include "mqtt.h"
#include "say.h"

#include <inttypes.h>
#include <mbedtls/platform_util.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* So many refusals in a row, and the factory identity is tried again. */
#define REFUSALS_BEFORE_IDEVID 3
/* A session that lived so long was a good one: the next failure is a first one. */
#define GOOD_SESSION_MS 10000
/* A new session is told so soon whether the device is contained; silence means free. */
#define TOLD_WITHIN_MS 5000
/* CONNACK, SUBACK and PUBACK are waited for no longer. */
#define ANSWER_MS 15000
/* Renewal is tried again no sooner than this cap allows. */
#define RENEWAL_SECONDS_MAX 3600

volatile sig_atomic_t device_is_ending;

/* The pause before the next attempt: random, below a bound that doubles up to a cap. */
struct backoff {
    int64_t seconds_max;
    int attempts;
};

struct device {
    const struct settings *settings;
    struct storage storage;
    struct random random;
    struct clock clock;
    struct trust trust;
    struct keyring keyring;
    struct credential idevid;
    struct tls tls;
    struct mqtt mqtt;
    char containment_topic[TOPIC_BYTES_MAX];
    char report_topic[TOPIC_BYTES_MAX];
    /* Another one after each start. */
    char boot[17];
    enum containment containment;
    struct backoff reconnect, renewal;
    /* Refusals of our certificate in a row. */
    int refusals;
    /* Seconds since 1970, and the monotonic time before which it is not tried again. */
    int64_t renew_at;
    int64_t renew_not_before_ms;
    int64_t started_ms, publish_at_ms, report_at_ms;
    /* Messages that were acknowledged, reports that were made. */
    uint64_t published, reported;
};

/* ---- time ---- */

static int64_t pause_ms(struct device *device, struct backoff *backoff)
{
    int64_t bound = backoff->attempts < 20 ? (int64_t)1 << backoff->attempts : INT32_MAX;

    if (bound > backoff->seconds_max)
        bound = backoff->seconds_max;
    backoff->attempts++;
    return random_up_to(&device->random, bound * 1000);
}

/* Sleeps in one piece; a signal ends it. */
static void sleep_ms(int64_t ms)
{
    struct timespec pause = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};

    if (!device_is_ending)
        (void)nanosleep(&pause, NULL);
}

/*
 * Two thirds of the certificate's life, give or take a tenth of that, so that a fleet that was
 * enrolled in one hour is not renewed in one.
 */
static void plan_renewal(struct device *device)
{
    const struct credential *newest = keyring_newest(&device->keyring);
    int64_t most = device->settings->renew_seconds_max, begin, two_thirds;

    if (newest == NULL)
        return;
    begin = certificate_begin(&newest->chain);
    two_thirds = (certificate_end(&newest->chain) - begin) / 3 * 2;
    device->renew_at =
        begin + two_thirds / 10 * 9 + random_up_to(&device->random, two_thirds / 5);
    if (most > 0 && device->renew_at > clock_now(&device->clock) + most)
        device->renew_at = clock_now(&device->clock) + most;
}

/* ---- certificates ---- */

/* Gets a certificate: the first one by the factory identity, the next one by the present. */
static enum outcome obtain(struct device *device, int again, int64_t *retry_seconds)
{
    struct credential *present = keyring_present(&device->keyring);
    char key[KEY_PEM_BYTES_MAX], answer[ANSWER_BYTES_MAX];
    uint8_t request[REQUEST_BYTES_MAX];
    size_t request_length, length;
    enum outcome outcome = keyring_ask(&device->keyring, &device->random, key);

    if (outcome == DONE)
        outcome = request_make(&device->random, key, again ? &present->chain : NULL, request,
                               &request_length);
    mbedtls_platform_zeroize(key, sizeof key);
    if (outcome == DONE)
        outcome = est_enroll(&device->trust, &device->settings->est,
                             again ? present : &device->idevid, again, request, request_length,
                             answer, &length, retry_seconds);
    if (outcome == DONE)
        outcome = keyring_take(&device->keyring, answer, length);
    else if (outcome == REFUSED)
        /* The request itself may be the reason: the next one is made anew. */
        (void)keyring_forget_asked(&device->keyring);
    if (outcome == DONE) {
        clock_raise(&device->clock, certificate_begin(&keyring_newest(&device->keyring)->chain));
        plan_renewal(device);
    }
    return outcome;
}

static enum outcome enroll(struct device *device)
{
    int64_t retry_seconds;
    enum outcome outcome;

    say("asking for a certificate by the factory identity");
    outcome = obtain(device, 0, &retry_seconds);
    if (outcome == PENDING) {
        say("a person must let this device in; asking again in %" PRId64 " s", retry_seconds);
        sleep_ms(retry_seconds * 1000);
    } else if (outcome != DONE) {
        say("not enrolled");
    }
    return outcome;
}

/* Gets the next certificate. The present one stays until the next has opened a session. */
static void renew(struct device *device)
{
    int64_t retry_seconds = 0;
    enum outcome outcome;

    say("renewing the certificate");
    outcome = obtain(device, 1, &retry_seconds);
    if (outcome == DONE) {
        device->renewal.attempts = 0;
        return;
    }
    say("not renewed; the present certificate goes on");
    device->renew_not_before_ms =
        monotonic_ms() + retry_seconds * 1000 + pause_ms(device, &device->renewal);
}

/*
 * Our certificate was refused. A new one that never opened a session is dropped for the one that
 * did; one that has ended, or is refused again and again, is replaced by the factory identity's
 * word. A device that was revoked is refused there too, and asks ever more rarely.
 */
static void reconsider_certificate(struct device *device)
{
    const struct credential *newest = keyring_newest(&device->keyring);

    if (keyring_is_unproven(&device->keyring)) {
        say("the new certificate was refused: back to the proven one");
        (void)keyring_drop_unproven(&device->keyring);
        plan_renewal(device);
        return;
    }
    device->refusals++;
    if (newest == NULL)
        return;
    if (certificate_end(&newest->chain) <= clock_now(&device->clock) ||
        device->refusals >= REFUSALS_BEFORE_IDEVID) {
        if (enroll(device) == DONE)
            device->refusals = 0;
    }
}

/* ---- what is said and heard in a session ---- */

static void obey(struct device *device, enum containment told)
{
    static const char *const names[] = {"", "free", "quarantined", "isolated"};

    if (told == CONTAINMENT_UNKNOWN || told == device->containment)
        return;
    say("the plane says: %s", names[told]);
    device->containment = told;
}

/*
 * Hears one thing. What is not waited for by the caller is dealt with here; what is, is told it.
 */
static enum outcome hear(struct device *device, int64_t patience_ms, struct mqtt_event *event)
{
    enum outcome outcome = mqtt_next(&device->mqtt, patience_ms, event);

    if (outcome != DONE || device_is_ending)
        return outcome == DONE ? STOPPED : outcome;
    if (event->kind == MQTT_MESSAGE && event->topic_length == strlen(device->containment_topic) &&
        memcmp(event->topic, device->containment_topic, event->topic_length) == 0)
        obey(device, containment_read(event->payload, event->payload_length));
    /* The session ends from our side too; nothing more is sent in it. */
    return device->containment == ISOLATED ? UNREACHABLE : DONE;
}

/* Waits for the answer of this kind to the packet of this number; CONNECT has none, which is 0. */
static enum outcome await(struct device *device, enum mqtt_event_kind kind, uint16_t packet_id,
                          uint8_t *reason)
{
    int64_t until = monotonic_ms() + ANSWER_MS;
    struct mqtt_event event;

    for (;;) {
        int64_t left = until - monotonic_ms();
        enum outcome outcome;

        if (left <= 0)
            return UNREACHABLE;
        outcome = hear(device, left, &event);
        if (outcome != DONE)
            return outcome;
        if (event.kind == kind && event.packet_id == packet_id) {
            *reason = event.reason;
            return DONE;
        }
    }
}

/* Publishes and waits for the acknowledgement: there is one message in flight. */
static enum outcome publish(struct device *device, const char *topic, const char *payload,
                            uint8_t *reason)
{
    uint16_t packet_id;
    enum outcome outcome = mqtt_publish(&device->mqtt, topic, payload, &packet_id);

    if (outcome == DONE)
        outcome = await(device, MQTT_ACKNOWLEDGED, packet_id, reason);
    if (outcome == DONE && *reason >= MQTT_FAILURE)
        say("the plane refuses a message on %s, reason 0x%02x", topic, *reason);
    return outcome;
}

/* One message of the device's own. It is numbered, and sent again until it is acknowledged. */
static enum outcome publish_status(struct device *device)
{
    const struct settings *settings = device->settings;
    int64_t now = monotonic_ms();
    char payload[384];
    uint8_t reason;
    enum outcome outcome;

    (void)snprintf(payload, sizeof payload,
                   "{\"device\":\"%s\",\"boot\":\"%s\",\"n\":%" PRIu64 ",\"at\":%" PRId64
                   ",\"uptime_seconds\":%" PRId64 "}",
                   settings->device, device->boot, device->published + 1,
                   clock_now(&device->clock) * 1000, (now - device->started_ms) / 1000);
    outcome = publish(device, settings->publish_topic, payload, &reason);
    if (outcome == DONE && reason < MQTT_FAILURE)
        device->published++;
    device->publish_at_ms = now + settings->publish_seconds * 1000;
    return outcome;
}

/*
 * What the device says of itself. The plane answers the report of a contained device by telling it
 * again, so that one that comes back learns it.
 */
static enum outcome report(struct device *device)
{
    const struct settings *settings = device->settings;
    int64_t now = monotonic_ms();
    char payload[512];
    uint8_t reason;

    device->reported++;
    (void)snprintf(payload, sizeof payload,
                   "{\"format\":1,\"boot\":\"%s\",\"sequence\":%" PRIu64 ",\"at\":%" PRId64
                   ",\"interval_ms\":%" PRId64 ",\"firmware\":{\"version\":\"%s\"}"
                   ",\"unseen\":[\"listening, destinations, traffic: not read on this device\"]}",
                   device->boot, device->reported, clock_now(&device->clock) * 1000,
                   settings->report_seconds * 1000, settings->firmware_version);
    device->report_at_ms = now + settings->report_seconds * 1000;
    return publish(device, device->report_topic, payload, &reason);
}

/* Waits until the plane has said how we are contained; silence means free. */
static enum outcome settle(struct device *device)
{
    int64_t until = monotonic_ms() + TOLD_WITHIN_MS;
    struct mqtt_event event;

    while (device->containment == CONTAINMENT_UNKNOWN) {
        int64_t left = until - monotonic_ms();
        enum outcome outcome;

        if (left <= 0) {
            obey(device, FREE);
            break;
        }
        outcome = hear(device, left, &event);
        if (outcome != DONE)
            return outcome;
    }
    return DONE;
}

/* Opens a session and subscribes: then, and not before, the newest certificate is proven. */
static enum outcome open_session(struct device *device)
{
    uint8_t reason = 0;
    uint16_t packet_id;
    enum outcome outcome =
        tls_open(&device->tls, &device->trust, &device->settings->mqtt, "mqtt",
                 keyring_newest(&device->keyring));

    /* What was true of the last session need not be true of this one. */
    device->containment = CONTAINMENT_UNKNOWN;
    if (outcome == DONE)
        outcome = mqtt_begin(&device->mqtt, &device->tls, device->settings->device,
                             (uint16_t)device->settings->keep_alive_seconds);
    if (outcome == DONE)
        outcome = await(device, MQTT_OPEN, 0, &reason);
    if (outcome == DONE && reason >= MQTT_FAILURE) {
        say("the plane opens no session, reason 0x%02x", reason);
        outcome = REFUSED;
    }
    if (outcome != DONE)
        return outcome;
    device->refusals = 0;
    if (keyring_prove(&device->keyring) != DONE)
        /* It is proven all the same; the next start proves it again. */
        say("the keyring cannot be written");
    (void)clock_keep(&device->clock, &device->storage);
    say("connected to %s; heap peak %zu bytes", device->settings->mqtt.host, heap_peak_bytes());
    outcome = mqtt_subscribe(&device->mqtt, device->containment_topic, &packet_id);
    if (outcome == DONE)
        outcome = await(device, MQTT_SUBSCRIBED, packet_id, &reason);
    if (outcome == DONE && reason >= MQTT_FAILURE)
        say("the plane does not let us hear about containment, reason 0x%02x", reason);
    if (outcome == DONE)
        outcome = report(device);
    return outcome == DONE ? settle(device) : outcome;
}

/* One session, from its beginning to its end. DONE: it is time to renew, or `once` is over. */
static enum outcome session(struct device *device, int once)
{
    struct mqtt_event event;
    enum outcome outcome = open_session(device);

    while (outcome == DONE) {
        int64_t now = monotonic_ms(), due = device->report_at_ms;

        /* Contained, a device keeps quiet but for its reports. */
        if (device->containment == FREE && device->publish_at_ms <= now) {
            outcome = publish_status(device);
            if (once && outcome == DONE) {
                outcome = device->published > 0 ? DONE : REFUSED;
                break;
            }
            continue;
        }
        if (device->report_at_ms <= now) {
            outcome = report(device);
            continue;
        }
        if (now >= device->renew_not_before_ms && clock_now(&device->clock) >= device->renew_at)
            break;
        if (device->containment == FREE && device->publish_at_ms < due)
            due = device->publish_at_ms;
        /* No longer than a second: renewal goes by another clock. */
        outcome = hear(device, due - now < 1000 ? due - now : 1000, &event);
    }
    if (outcome == DONE || outcome == STOPPED)
        mqtt_end(&device->mqtt);
    tls_close(&device->tls);
    return outcome;
}

/* ---- beginning and living ---- */

static enum outcome begin(struct device *device, const struct settings *settings)
{
    uint64_t boot;

    memset(device, 0, sizeof *device);
    device->settings = settings;
    device->reconnect.seconds_max = settings->reconnect_seconds_max;
    device->renewal.seconds_max = RENEWAL_SECONDS_MAX;
    device->started_ms = monotonic_ms();
    (void)snprintf(device->containment_topic, sizeof device->containment_topic,
                   "$fleetward/devices/%s/containment", settings->device);
    (void)snprintf(device->report_topic, sizeof device->report_topic,
                   "$fleetward/devices/%s/report", settings->device);
    mbedtls_x509_crt_init(&device->trust.roots);
    credential_init(&device->idevid);
    device->trust.random = &device->random;
    device->trust.clock = &device->clock;
    if (random_open(&device->random) != DONE ||
        mbedtls_ctr_drbg_random(&device->random.generator, (unsigned char *)&boot, sizeof boot) != 0)
        return BROKEN;
    (void)snprintf(device->boot, sizeof device->boot, "%016" PRIx64, boot);
    if (mbedtls_x509_crt_parse_file(&device->trust.roots, settings->roots_file) != 0) {
        say("%s: no root certificate can be read", settings->roots_file);
        return BROKEN;
    }
    if (mbedtls_pk_parse_keyfile(&device->idevid.key, settings->idevid_key_file, NULL) != 0 ||
        mbedtls_x509_crt_parse_file(&device->idevid.chain, settings->idevid_certificate_file) !=
            0) {
        say("the factory identity cannot be read");
        return BROKEN;
    }
    if (storage_open(&device->storage, settings->state_dir) != DONE ||
        clock_open(&device->clock, &device->storage) != DONE ||
        keyring_open(&device->keyring, &device->storage) != DONE)
        return BROKEN;
    plan_renewal(device);
    return DONE;
}

static void end(struct device *device)
{
    keyring_close(&device->keyring);
    credential_free(&device->idevid);
    mbedtls_x509_crt_free(&device->trust.roots);
    random_close(&device->random);
    say("ended; heap peak %zu bytes", heap_peak_bytes());
}

/* One attempt to be connected, enrolled first where there is no certificate. */
static enum outcome attempt(struct device *device, int once)
{
    int64_t began;
    enum outcome outcome = keyring_newest(&device->keyring) == NULL ? enroll(device) : DONE;

    if (outcome != DONE)
        return outcome;
    began = monotonic_ms();
    outcome = session(device, once);
    if (monotonic_ms() - began >= GOOD_SESSION_MS && device->containment != ISOLATED)
        device->reconnect.attempts = 0;
    if (outcome == CERTIFICATE_REFUSED)
        reconsider_certificate(device);
    return outcome;
}

enum outcome device_run(const struct settings *settings, int once)
{
    /* Too large for the stack of a small device, and there is one. */
    static struct device device;
    enum outcome outcome = begin(&device, settings);

    if (outcome == DONE) {
        /* Without an answer our own clock must do. */
        if (est_ask_time(&device.trust, &settings->est) != DONE)
            say("the plane does not say what time it is");
        while (!device_is_ending) {
            outcome = attempt(&device, once);
            if (once)
                break;
            if (outcome == DONE && clock_now(&device.clock) >= device.renew_at)
                renew(&device);
            else if (outcome != STOPPED)
                sleep_ms(pause_ms(&device, &device.reconnect));
        }
    }
    end(&device);
    return device_is_ending ? DONE : outcome;
}
