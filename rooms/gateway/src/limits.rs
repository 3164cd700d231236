//! Every bound the gateway keeps, in one place.

use std::time::Duration;

/// What one shard allows. All are caps: reaching one refuses, pauses or closes, never allocates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest packet after CONNECT, header included. Announced in MQTT 5.
    pub packet_bytes_max: usize,
    /// Largest packet before a session is open.
    pub connect_packet_bytes_max: usize,
    /// How long a connection may take to send its CONNECT.
    pub connect_timeout: Duration,
    /// Longest keep-alive; a longer one or none is read as this (MQTT 5 clients are told).
    pub keep_alive_seconds_max: u16,
    /// Longest client identifier in bytes.
    pub client_id_bytes_max: usize,
    /// Sessions of one principal, live and waiting; also its connections that sent no CONNECT yet.
    pub sessions_per_principal_max: usize,
    /// Subscriptions of one session.
    pub subscriptions_max: usize,
    /// Entries of one SUBSCRIBE packet.
    pub filters_per_packet_max: usize,
    /// Filters that one principal may ask for in a minute, granted or not.
    pub subscribes_per_minute: u32,
    /// Longest topic or filter in bytes.
    pub topic_bytes_max: usize,
    /// Most levels of a topic or filter.
    pub topic_levels_max: usize,
    /// Messages of QoS 1 and 2 unacknowledged in one direction: our Receive Maximum, and a cap on the
    /// client's. 1 to 65,535.
    pub inflight_max: u16,
    /// Topics that one connection may give an alias, in each direction. Announced in MQTT 5.
    pub topic_alias_max: u16,
    /// Waiting and unacknowledged messages of one session.
    pub queue_messages_max: usize,
    /// Their bytes (topic, properties, payload).
    pub queue_bytes_max: usize,
    /// Longest life of a persistent session without a connection.
    pub session_expiry_seconds_max: u32,
    /// Bytes not yet on the wire above which a service's publishers are paused.
    pub outgoing_bytes_high: usize,
    /// Bytes not yet on the wire above which a consumer is cut.
    pub outgoing_bytes_max: usize,
    /// How long a consumer may stay above `outgoing_bytes_high` without falling below its half.
    pub stalled_consumer_timeout: Duration,
    /// Channels of one principal whose rate is metered; each costs 16 bytes.
    pub rates_per_principal_max: usize,
    /// Reports that one device may send to the plane in a minute, all at once if it likes.
    pub reports_per_minute: u32,
    /// How often one device may say in a minute what state it has, all at once if it likes.
    pub states_per_minute: u32,
    /// Certificate requests that one device may send to the plane in a minute.
    pub requests_per_minute: u32,
    /// Commands that wait for one device, or for its answer.
    pub commands_per_device_max: usize,
    /// Retained messages of the tenant; what a channel may have is in the fleet.
    pub retained_messages_max: usize,
    /// Their bytes (topic, properties, payload).
    pub retained_bytes_max: usize,
    /// Of them, messages of one device, and their bytes.
    pub retained_of_device_max: usize,
    pub retained_bytes_of_device_max: usize,
    /// Packets of one device that are looked at in a second, as many at once, over all its connections;
    /// then it is not read for a moment.
    pub packets_per_second: u32,
    /// CONNECTs that are let in a second, as many at once; the others are told "busy".
    pub connects_per_second: u32,
    /// Signals of one turn about what clients can repeat at will; beyond them only the first of each
    /// principal is kept, the rest is counted. As many more of what somebody looks at.
    pub signals_per_turn_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            packet_bytes_max: 256 * 1024,
            connect_packet_bytes_max: 8 * 1024,
            connect_timeout: Duration::from_secs(5),
            keep_alive_seconds_max: 1200,
            client_id_bytes_max: 128,
            sessions_per_principal_max: 8,
            subscriptions_max: 50,
            filters_per_packet_max: 8,
            subscribes_per_minute: 120,
            topic_bytes_max: 256,
            topic_levels_max: 16,
            inflight_max: 512,
            topic_alias_max: 16,
            queue_messages_max: 100_000,
            queue_bytes_max: 64 * 1024 * 1024,
            session_expiry_seconds_max: 7 * 24 * 3600,
            outgoing_bytes_high: 1024 * 1024,
            outgoing_bytes_max: 8 * 1024 * 1024,
            stalled_consumer_timeout: Duration::from_secs(10),
            rates_per_principal_max: 64,
            reports_per_minute: 120,
            states_per_minute: 12,
            requests_per_minute: 4,
            commands_per_device_max: 64,
            retained_messages_max: 100_000,
            retained_bytes_max: 64 * 1024 * 1024,
            retained_of_device_max: 256,
            retained_bytes_of_device_max: 1024 * 1024,
            packets_per_second: 4_000,
            connects_per_second: 5_000,
            signals_per_turn_max: 64,
        }
    }
}
