/*
 * An MQTT 5 session as a device needs it: CONNECT, SUBSCRIBE, PUBLISH with QoS 1, PINGREQ and what
 * comes back. MQTT 5 and not 3.1.1, as only it says why a message is refused and lets a device say
 * how large a packet it takes.
 */
#ifndef FLEETWARD_MQTT_H
#define FLEETWARD_MQTT_H

#include "tls.h"

/* The largest packet, in each direction. The plane is told, and sends no larger one. */
#define PACKET_BYTES_MAX 2048

/* Reasons from this one on are failures (MQTT 5 section 2.4). */
#define MQTT_FAILURE 0x80

struct mqtt {
    struct tls *tls;
    uint8_t received[PACKET_BYTES_MAX];
    size_t have;
    /* Of the packet that the last event was read from, at the front of `received`. */
    size_t used;
    uint16_t keep_alive_seconds;
    uint16_t next_packet_id;
    int64_t last_sent_ms;
    /* When a PINGRESP is missed; 0: none is expected. */
    int64_t ping_until_ms;
};

enum mqtt_event_kind { MQTT_NOTHING, MQTT_OPEN, MQTT_SUBSCRIBED, MQTT_ACKNOWLEDGED, MQTT_MESSAGE };

/* What the plane said. Topic and payload lie in the session until the next call. */
struct mqtt_event {
    enum mqtt_event_kind kind;
    uint8_t reason;
    uint16_t packet_id;
    const char *topic;
    size_t topic_length;
    const char *payload;
    size_t payload_length;
};

/* Sends CONNECT with a clean start; MQTT_OPEN follows. */
enum outcome mqtt_begin(struct mqtt *mqtt, struct tls *tls, const char *client_id,
                        uint16_t keep_alive_seconds);

/* MQTT_SUBSCRIBED with *packet_id follows. */
enum outcome mqtt_subscribe(struct mqtt *mqtt, const char *filter, uint16_t *packet_id);

/* MQTT_ACKNOWLEDGED with *packet_id follows. */
enum outcome mqtt_publish(struct mqtt *mqtt, const char *topic, const char *payload,
                          uint16_t *packet_id);

/*
 * The next thing that the plane says, waited for up to `patience_ms`; MQTT_NOTHING if it says
 * nothing. Messages are acknowledged here, and PINGREQ is sent when it is time to.
 */
enum outcome mqtt_next(struct mqtt *mqtt, int64_t patience_ms, struct mqtt_event *event);

/* Says goodbye, so that no will is sent. */
void mqtt_end(struct mqtt *mqtt);

#endif
