//! What each server of a bench is told: as an operator would secure it, and alike where it can be.

use super::{Doors, Durability};
use std::net::SocketAddr;
use std::path::Path;

pub(super) fn fleetward_configuration(
    folder: &Path,
    doors: Doors,
    durability: Durability,
) -> String {
    format!(
        "data_dir = {data:?}\n\
         [listen]\n\
         people = \"{people}\"\n\
         devices = \"{devices}\"\n\
         mqtt = \"{mqtt}\"\n\
         [gateway]\n\
         durability = \"{durability}\"\n\
         resumption = {tickets}\n\
         [identity]\n\
         certificates_per_hour = 0\n",
        data = folder.join("data"),
        tickets = doors.tickets,
        people = doors.people,
        devices = doors.devices,
        mqtt = doors.mqtt,
        durability = durability.name(),
    )
}

/// `%u` is the certificate's common name.
pub(super) const MOSQUITTO_ACCESS: &str = "\
pattern write t/%u/up
pattern read t/%u/down
pattern read n/all
user consumer
topic read t/+/up
topic write n/all
";

/// The consumer's queue is unlimited, or Mosquitto would drop messages at the higher rate. The 20
/// messages in flight of its default stay: without a limit it spends its time searching them.
/// `user root` keeps it from changing to a user who may not read the scratch folder.
pub(super) fn mosquitto_configuration(
    address: SocketAddr,
    credentials: &Path,
    access: &Path,
) -> String {
    let file = |name: &str| credentials.join(name).display().to_string();
    format!(
        "user root\n\
         persistence false\n\
         log_dest stderr\n\
         log_type error\n\
         log_type warning\n\
         set_tcp_nodelay true\n\
         max_queued_messages 0\n\
         allow_anonymous false\n\
         acl_file {access}\n\
         listener {port} {ip}\n\
         cafile {ca}\n\
         certfile {certificate}\n\
         keyfile {key}\n\
         crlfile {crl}\n\
         require_certificate true\n\
         use_identity_as_username true\n",
        access = access.display(),
        port = address.port(),
        ip = address.ip(),
        ca = file("ca.pem"),
        certificate = file("server.pem"),
        key = file("server.key"),
        crl = file("crl.pem"),
    )
}

/// MQTT 5 and mutual TLS, its own limits; nothing else listens.
pub(super) fn rumqttd_configuration(address: SocketAddr, credentials: &Path) -> String {
    let file = |name: &str| credentials.join(name).display().to_string();
    format!(
        "id = 0\n\
         [router]\n\
         id = 0\n\
         max_connections = 10010\n\
         max_outgoing_packet_count = 200\n\
         max_segment_size = 104857600\n\
         max_segment_count = 10\n\
         [v5.1]\n\
         name = \"tls\"\n\
         listen = \"{address}\"\n\
         next_connection_delay_ms = 0\n\
         [v5.1.tls]\n\
         capath = {ca:?}\n\
         certpath = {certificate:?}\n\
         keypath = {key:?}\n\
         [v5.1.connections]\n\
         connection_timeout_ms = 60000\n\
         max_payload_size = 20480\n\
         max_inflight_count = 100\n",
        ca = file("ca.pem"),
        certificate = file("server.pem"),
        key = file("server.key"),
    )
}

/// As ours: a client's certificate, P-256, for a while.
pub(super) const CFSSL_CONFIGURATION: &str = "{\"signing\": {\"default\": {\"expiry\": \"168h\", \
     \"usages\": [\"digital signature\", \"client auth\"]}}}\n";

pub(super) const CFSSL_DATABASE: &str = "certificates.db";

/// Synchronised to the disk at each commit, as ours is (by itself it would ask for NORMAL), and with
/// a write-ahead log, which makes it cheaper than what it does by itself.
pub(super) fn cfssl_database(file: &Path) -> String {
    let source = format!(
        "{}?_journal_mode=WAL&_synchronous=FULL&_busy_timeout=10000",
        file.display()
    );
    serde_json::json!({ "driver": "sqlite3", "data_source": source }).to_string()
}
