#include "mqtt.h"
#include "say.h"

#include <string.h>

enum { CONNECT = 0x10, CONNACK = 0x20, PUBLISH = 0x30, PUBACK = 0x40, SUBSCRIBE = 0x82,
       SUBACK = 0x90, PINGREQ = 0xc0, PINGRESP = 0xd0, DISCONNECT = 0xe0 };

#define QOS_1 0x02
#define CLEAN_START 0x02
/* Properties (MQTT 5 section 2.2.2.2). */
#define SERVER_KEEP_ALIVE 0x13
#define REASON_STRING 0x1f
#define RECEIVE_MAXIMUM 0x21
#define MAXIMUM_PACKET_SIZE 0x27
/* So long may a PINGRESP take. */
#define PING_MS 10000

/* ---- writing ---- */

struct writer {
    uint8_t bytes[PACKET_BYTES_MAX];
    /* Room for the fixed header, which is known last, is left in front. */
    size_t length;
    int is_full;
};

#define FIXED_HEADER 3

static void put(struct writer *out, const void *bytes, size_t length)
{
    if (length > sizeof out->bytes - out->length) {
        out->is_full = 1;
        return;
    }
    memcpy(out->bytes + out->length, bytes, length);
    out->length += length;
}

static void put_u8(struct writer *out, uint8_t value)
{
    put(out, &value, 1);
}

static void put_u16(struct writer *out, uint16_t value)
{
    put_u8(out, (uint8_t)(value >> 8));
    put_u8(out, (uint8_t)value);
}

static void put_text(struct writer *out, const char *text)
{
    size_t length = strlen(text);

    if (length > UINT16_MAX) {
        out->is_full = 1;
        return;
    }
    put_u16(out, (uint16_t)length);
    put(out, text, length);
}

static void start(struct writer *out)
{
    out->length = FIXED_HEADER;
    out->is_full = 0;
}

/* Puts the fixed header before what was written, and sends it. */
static enum outcome finish(struct writer *out, struct mqtt *mqtt, uint8_t kind)
{
    size_t rest = out->length - FIXED_HEADER, at = FIXED_HEADER;

    if (out->is_full) {
        say("a packet would be larger than %d bytes", PACKET_BYTES_MAX);
        return BROKEN;
    }
    /* Two bytes of length reach to 16,383, which is more than a packet has. */
    if (rest >= 128) {
        out->bytes[--at] = (uint8_t)(rest >> 7);
        out->bytes[--at] = (uint8_t)(0x80 | (rest & 0x7f));
    } else {
        out->bytes[--at] = (uint8_t)rest;
    }
    out->bytes[--at] = kind;
    mqtt->last_sent_ms = monotonic_ms();
    return tls_write(mqtt->tls, out->bytes + at, out->length - at);
}

/* ---- reading ---- */

/* What is left of a packet; reading past its end gives zeros and makes it bad. */
struct reader {
    const uint8_t *at;
    size_t left;
    int is_bad;
};

static const uint8_t *take(struct reader *in, size_t length)
{
    const uint8_t *taken = in->at;

    if (length > in->left) {
        in->is_bad = 1;
        in->left = 0;
        return NULL;
    }
    in->at += length;
    in->left -= length;
    return taken;
}

static uint8_t take_u8(struct reader *in)
{
    const uint8_t *byte = take(in, 1);

    return byte == NULL ? 0 : *byte;
}

static uint16_t take_u16(struct reader *in)
{
    uint16_t high = take_u8(in);

    return (uint16_t)(high << 8 | take_u8(in));
}

/* A length of up to four bytes (MQTT 5 section 1.5.5). */
static uint32_t take_length(struct reader *in)
{
    uint32_t value = 0;
    int shift;

    for (shift = 0; shift < 28; shift += 7) {
        uint8_t byte = take_u8(in);

        value |= (uint32_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0)
            return value;
    }
    in->is_bad = 1;
    return 0;
}

/* How long a property's value is, by its number; -1: a text or bytes, -2: two texts, -3: none. */
static int property_bytes(uint8_t property)
{
    switch (property) {
    case 0x01: case 0x17: case 0x19: case 0x24: case 0x25: case 0x28: case 0x29: case 0x2a:
        return 1;
    case SERVER_KEEP_ALIVE: case RECEIVE_MAXIMUM: case 0x22: case 0x23:
        return 2;
    case 0x02: case 0x11: case 0x18: case MAXIMUM_PACKET_SIZE:
        return 4;
    case 0x03: case 0x08: case 0x09: case 0x12: case 0x15: case 0x16: case 0x1a: case 0x1c:
    case REASON_STRING:
        return -1;
    case 0x26:
        return -2;
    default:
        return -3;
    }
}

/* Reads all properties. The server's keep-alive goes to *keep_alive, its reason is said. */
static void take_properties(struct reader *in, uint16_t *keep_alive)
{
    struct reader all = {NULL, 0, 0};

    all.left = take_length(in);
    all.at = take(in, all.left);
    if (in->is_bad)
        return;
    while (all.left > 0 && !all.is_bad) {
        uint8_t property = take_u8(&all);
        int bytes = property_bytes(property);

        if (property == SERVER_KEEP_ALIVE) {
            *keep_alive = take_u16(&all);
        } else if (bytes > 0) {
            (void)take(&all, (size_t)bytes);
        } else if (bytes == -3) {
            all.is_bad = 1;
        } else {
            size_t length = take_u16(&all);
            const uint8_t *text = take(&all, length);

            if (property == REASON_STRING && text != NULL) {
                char reason[128];

                if (length > sizeof reason - 1)
                    length = sizeof reason - 1;
                memcpy(reason, text, length);
                reason[length] = '\0';
                make_printable(reason);
                say("the plane says: %s", reason);
            }
            if (bytes == -2)
                (void)take(&all, take_u16(&all));
        }
    }
    in->is_bad |= all.is_bad;
}

static enum outcome acknowledge(struct mqtt *mqtt, uint16_t packet_id)
{
    struct writer out;

    start(&out);
    put_u16(&out, packet_id);
    return finish(&out, mqtt, PUBACK);
}

/* Reads one packet. */
static enum outcome hear(struct mqtt *mqtt, uint8_t first, struct reader *in,
                         struct mqtt_event *event)
{
    uint16_t keep_alive = 0;

    switch (first & 0xf0) {
    case CONNACK:
        (void)take_u8(in);
        event->reason = take_u8(in);
        take_properties(in, &keep_alive);
        if (keep_alive != 0)
            mqtt->keep_alive_seconds = keep_alive;
        event->kind = MQTT_OPEN;
        break;
    case SUBACK:
        event->packet_id = take_u16(in);
        take_properties(in, &keep_alive);
        event->reason = take_u8(in);
        event->kind = MQTT_SUBSCRIBED;
        break;
    case PUBACK:
        event->packet_id = take_u16(in);
        /* Reason and properties may be left out (MQTT 5 section 3.4.2.1). */
        event->reason = in->left > 0 ? take_u8(in) : 0;
        if (in->left > 0)
            take_properties(in, &keep_alive);
        event->kind = MQTT_ACKNOWLEDGED;
        break;
    case PUBLISH:
        event->topic_length = take_u16(in);
        event->topic = (const char *)take(in, event->topic_length);
        if ((first & 0x06) != 0)
            event->packet_id = take_u16(in);
        take_properties(in, &keep_alive);
        event->payload_length = in->left;
        event->payload = (const char *)take(in, in->left);
        event->kind = MQTT_MESSAGE;
        if (!in->is_bad && (first & 0x06) != 0)
            return acknowledge(mqtt, event->packet_id);
        break;
    case PINGRESP:
        mqtt->ping_until_ms = 0;
        break;
    case DISCONNECT:
        event->reason = in->left > 0 ? take_u8(in) : 0;
        if (in->left > 0)
            take_properties(in, &keep_alive);
        say("the plane ends the session, reason 0x%02x", event->reason);
        return UNREACHABLE;
    default:
        in->is_bad = 1;
        break;
    }
    return DONE;
}

/* Takes the next whole packet from the front of what was received; *length 0: there is none yet. */
static enum outcome next_packet(struct mqtt *mqtt, uint8_t *first, struct reader *in,
                                size_t *length)
{
    struct reader all = {mqtt->received, mqtt->have, 0};
    uint32_t rest;

    *length = 0;
    *first = take_u8(&all);
    rest = take_length(&all);
    if (all.is_bad) {
        /* Five bytes hold every header there is. */
        return mqtt->have < 5 ? DONE : NOT_THE_PLANE;
    }
    if (rest > PACKET_BYTES_MAX - (size_t)(all.at - mqtt->received))
        return NOT_THE_PLANE;
    if (rest > all.left)
        return DONE;
    in->at = all.at;
    in->left = rest;
    in->is_bad = 0;
    *length = (size_t)(all.at - mqtt->received) + rest;
    return DONE;
}

enum outcome mqtt_begin(struct mqtt *mqtt, struct tls *tls, const char *client_id,
                        uint16_t keep_alive_seconds)
{
    struct writer out;

    mqtt->tls = tls;
    mqtt->have = 0;
    mqtt->used = 0;
    mqtt->keep_alive_seconds = keep_alive_seconds;
    mqtt->next_packet_id = 1;
    mqtt->ping_until_ms = 0;
    start(&out);
    put_text(&out, "MQTT");
    put_u8(&out, 5);
    put_u8(&out, CLEAN_START);
    put_u16(&out, keep_alive_seconds);
    put_u8(&out, 3 + 5);
    put_u8(&out, RECEIVE_MAXIMUM);
    put_u16(&out, 1);
    put_u8(&out, MAXIMUM_PACKET_SIZE);
    put_u16(&out, 0);
    put_u16(&out, PACKET_BYTES_MAX);
    put_text(&out, client_id);
    return finish(&out, mqtt, CONNECT);
}

/* Zero names no packet. */
static uint16_t new_packet_id(struct mqtt *mqtt)
{
    uint16_t packet_id = mqtt->next_packet_id++;

    if (mqtt->next_packet_id == 0)
        mqtt->next_packet_id = 1;
    return packet_id;
}

enum outcome mqtt_subscribe(struct mqtt *mqtt, const char *filter, uint16_t *packet_id)
{
    struct writer out;

    *packet_id = new_packet_id(mqtt);
    start(&out);
    put_u16(&out, *packet_id);
    put_u8(&out, 0);
    put_text(&out, filter);
    put_u8(&out, 1);
    return finish(&out, mqtt, SUBSCRIBE);
}

enum outcome mqtt_publish(struct mqtt *mqtt, const char *topic, const char *payload,
                          uint16_t *packet_id)
{
    struct writer out;

    *packet_id = new_packet_id(mqtt);
    start(&out);
    put_text(&out, topic);
    put_u16(&out, *packet_id);
    put_u8(&out, 0);
    put(&out, payload, strlen(payload));
    return finish(&out, mqtt, PUBLISH | QOS_1);
}

static enum outcome ping_if_due(struct mqtt *mqtt, int64_t *patience_ms)
{
    int64_t now = monotonic_ms();
    /* Well before the plane would think us lost. */
    int64_t due = mqtt->ping_until_ms != 0
                      ? mqtt->ping_until_ms
                      : mqtt->last_sent_ms + (int64_t)mqtt->keep_alive_seconds * 750;

    if (now >= due) {
        struct writer out;

        if (mqtt->ping_until_ms != 0) {
            say("the plane does not answer");
            return UNREACHABLE;
        }
        mqtt->ping_until_ms = now + PING_MS;
        due = mqtt->ping_until_ms;
        start(&out);
        if (finish(&out, mqtt, PINGREQ) != DONE)
            return UNREACHABLE;
    }
    if (*patience_ms > due - now)
        *patience_ms = due - now;
    return DONE;
}

enum outcome mqtt_next(struct mqtt *mqtt, int64_t patience_ms, struct mqtt_event *event)
{
    struct reader in = {NULL, 0, 0};
    uint8_t first = 0;
    size_t got;
    enum outcome outcome;

    memset(event, 0, sizeof *event);
    memmove(mqtt->received, mqtt->received + mqtt->used, mqtt->have - mqtt->used);
    mqtt->have -= mqtt->used;
    mqtt->used = 0;
    outcome = next_packet(mqtt, &first, &in, &mqtt->used);
    if (outcome == DONE && mqtt->used == 0) {
        outcome = ping_if_due(mqtt, &patience_ms);
        if (outcome != DONE)
            return outcome;
        outcome = tls_read(mqtt->tls, mqtt->received + mqtt->have,
                           sizeof mqtt->received - mqtt->have, patience_ms, &got);
        if (outcome != DONE)
            return outcome;
        mqtt->have += got;
        outcome = next_packet(mqtt, &first, &in, &mqtt->used);
    }
    if (outcome == DONE && mqtt->used != 0) {
        outcome = hear(mqtt, first, &in, event);
        if (outcome == DONE && in.is_bad)
            outcome = NOT_THE_PLANE;
    }
    if (outcome == NOT_THE_PLANE)
        say("an MQTT packet that breaks the protocol or is too large");
    return outcome;
}

void mqtt_end(struct mqtt *mqtt)
{
    struct writer out;

    start(&out);
    (void)finish(&out, mqtt, DISCONNECT);
}
