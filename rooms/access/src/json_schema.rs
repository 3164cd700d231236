//! JSON Schemas of the TOML files of `fleet/`, for editors that complete and check while one types.
//!
//! They say what of a file can be said without the others: keys, types, ranges and grammars. That names
//! are declared, that topics are disjoint and what policies mean, only reading the whole fleet says.

use crate::attestation::{
    DEBUG_STATUS, REFERENCE_VALUES_MAX, RESULT_LIFETIME_HOURS, RESULT_LIFETIME_HOURS_MAX,
};
use crate::behaviour::{DNS_PER_MINUTE_MAX, LIST_MAX, PORTS_MAX};
use crate::contract::{DEPTH, DEPTH_MAX};
use crate::declared as d;
use crate::fleet::{FAN_OUT_PER_MINUTE, caps};
use crate::invariant::EXCEPTIONS_MAX;
use crate::network::{LIST_MAX as SITE_LIST_MAX, NAME_ADDRESSES_MAX};
use serde_json::{Map, Value, json};

/// The version of the language; [`crate::Contract`] holds what is used of it.
const LANGUAGE: &str = "https://json-schema.org/draft/2020-12/schema";
const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$";
const SHA256: &str = "^[0-9A-Fa-f]{64}$";

/// The schemas that this room owns, each with the file or the folder of `fleet/` that it is of
/// (`fleet.toml`, `invariants.toml`, `products`, …). That of playbooks is their room's.
#[must_use]
pub fn json_schemas() -> [(&'static str, Value); 6] {
    [
        ("fleet.toml", fleet()),
        ("invariants.toml", invariants()),
        ("products", things("products", caps::PRODUCTS, product())),
        ("services", things("services", caps::SERVICES, service())),
        ("channels", things("channels", caps::CHANNELS, channel())),
        (
            "destinations",
            things("destinations", caps::DESTINATIONS, destination()),
        ),
    ]
}

/// Of the file of one site ([`crate::Site`]), which is no part of a fleet.
#[must_use]
pub fn site_json_schema() -> Value {
    let address = || matching("^[0-9A-Fa-f:.]+$");
    let network = || matching("^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$");
    let door = matching(r"^([0-9.]+|\[[0-9A-Fa-f:.]+(%[0-9]+)?\]):[0-9]{1,5}$");
    let counted = |item, max: usize, what| {
        let mut counted = list(item, what);
        put(&mut counted, "maxItems", json!(max));
        counted
    };
    let networks = |what| counted(network(), SITE_LIST_MAX, what);
    let by = |what| json!({ "type": "object", "additionalProperties": networks(what) });
    let mut of_products = by("Of the product's own controllers");
    put(&mut of_products, "propertyNames", matching(NAME));
    let named = json!({
        "type": "object",
        "additionalProperties": counted(
            address(), NAME_ADDRESSES_MAX, "What the name meant when it was asked"
        ),
    });
    let interface = matching("^[A-Za-z0-9._-]{1,15}$");
    document(
        "a site",
        table(
            &[],
            json!({
                "interfaces": list(interface,
                    "Where devices are attached: whoever is not listed is denied there"),
                "local_networks": networks("The site's own networks"),
                "gateway": list(address(), "The gateway's own addresses, asked for DHCP"),
                "resolvers": list(address(), "Asked for names"),
                "plane": list(door, "The plane's doors, as devices reach them"),
                "local": by("Of a role that destinations name, as hub or phone"),
                "controllers": by("Of a class that MUD files name"),
                "my_controllers": of_products,
                "names": named,
            }),
        ),
    )
}

fn fleet() -> Value {
    let groups = named(
        caps::GROUPS,
        table(
            &[],
            json!({
                "description": text("What it is for"),
                "in": list(name(), "Groups that contain it: what holds for them holds for it"),
            }),
        ),
    );
    document(
        "fleet.toml",
        table(
            &["name"],
            json!({
                "name": said(name(), "What the fleet is called"),
                "description": text("What it is"),
                "groups": groups,
            }),
        ),
    )
}

fn invariants() -> Value {
    let parties = |what| {
        let party = json!({
            "type": "string",
            "pattern": "^(devices|services|(product|group|service)/[A-Za-z0-9][A-Za-z0-9._-]{0,63})$",
        });
        let mut parties = list(party, what);
        put(&mut parties, "minItems", json!(1));
        parties
    };
    let channels = || {
        let mut channels = list(name(), "Channels; all if it is left out of an exception");
        put(&mut channels, "minItems", json!(1));
        channels
    };
    let mut exception = table(
        &[],
        json!({
            "channels": channels(),
            "from": parties("Who sends"),
            "to": parties("Who hears it"),
        }),
    );
    put(&mut exception, "minProperties", json!(1));
    let mut except = list(exception, "Paths that are meant");
    put(&mut except, "maxItems", json!(EXCEPTIONS_MAX));
    let no_path = table(
        &["from", "to"],
        json!({
            "description": text("Why it must hold"),
            "from": parties("Who sends"),
            "to": parties("Who hears it: another than who sends"),
            "except": except,
        }),
    );
    let mut only = table(
        &["channels"],
        json!({
            "description": text("Why it must hold"),
            "channels": channels(),
            // As a list without anything says nothing.
            "except": { "type": "array", "maxItems": 0 },
            "publish_only": parties("Nobody else may publish there"),
            "receive_only": parties("Nobody else may receive there"),
        }),
    );
    put(
        &mut only,
        "anyOf",
        json!([{ "required": ["publish_only"] }, { "required": ["receive_only"] }]),
    );
    // Nobody at all is a thing to say here.
    let devices = |what| {
        let mut devices = parties(what);
        put(&mut devices, "minItems", json!(0));
        devices
    };
    let mut destinations = list(name(), "Destinations");
    put(&mut destinations, "minItems", json!(1));
    let connect_only = table(
        &["destinations", "connect_only"],
        json!({
            "description": text("Why it must hold"),
            "destinations": destinations,
            "except": { "type": "array", "maxItems": 0 },
            "connect_only": devices("Nobody else may connect with them"),
        }),
    );
    let local_only = table(
        &["local_only"],
        json!({
            "description": text("Why it must hold"),
            "except": { "type": "array", "maxItems": 0 },
            "local_only": devices("Nobody else may connect with a peer in the site itself"),
        }),
    );
    let invariant = json!({ "anyOf": [no_path, only, connect_only, local_only] });
    document("invariants.toml", named(caps::INVARIANTS, invariant))
}

fn product() -> Value {
    table(
        &[],
        json!({
            "description": text("What it is"),
            "ldevid_lifetime_days": defaulted(d::LDEVID_LIFETIME_DAYS_MAX, d::LDEVID_LIFETIME_DAYS,
                "How long a certificate of its devices is valid"),
            "rotation_overlap_hours": defaulted(d::ROTATION_OVERLAP_HOURS_MAX, d::ROTATION_OVERLAP_HOURS,
                "How long the old certificate opens doors after the new one has opened one"),
            "revoke_superseded": flag(true, "The old certificate, once that is over"),
            "ca": said(name(), "The issuing CA of its devices; the standard one if left out"),
            "enrollment": words(&["list", "approval"], "Who lets a device enroll"),
            "client_ids": words(&["own", "containing", "free"],
                "How a device may call itself in MQTT"),
            "ldevid_key": words(&["p256", "p384", "ed25519"],
                "The one kind of key that is certified"),
            "server_keygen": flag(false, "The plane may make keys for its devices"),
            "renewal_grace_days": within(d::RENEWAL_GRACE_DAYS_MAX,
                "How long an ended certificate may still be renewed by"),
            "expected_off_days": within(d::EXPECTED_OFF_DAYS_MAX,
                "How long its devices may lie in a box; a plan warns where that locks out"),
            "mud": said(json!({ "type": "string", "pattern": r"^mud/.+\.json$" }),
                "Its manufacturer's usage description, a file of mud/"),
            "behaviour": behaviour(),
            "attestation": attestation(),
        }),
    )
}

fn behaviour() -> Value {
    let bounded = |item, what| {
        let mut bounded = list(item, what);
        put(&mut bounded, "maxItems", json!(LIST_MAX));
        bounded
    };
    let port = json!({
        "type": "string",
        "pattern": "^(tcp|udp)/([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$",
    });
    let firmware = table(
        &["version", "sha256"],
        json!({
            "version": version(),
            "sha256": said(matching(SHA256), "Of its image, as sha256sum prints it"),
        }),
    );
    table(
        &[],
        json!({
            "destinations": bounded(name(), "Declared in destinations/"),
            "listens": bounded(port, "Ports on which they answer, as tcp/554"),
            "serves": bounded(name(), "Local destinations that may open connections to these"),
            "dns_per_minute_max": within(DNS_PER_MINUTE_MAX, "DNS queries"),
            "bytes_out_per_minute_max": { "type": "integer", "minimum": 0 },
            "tls_version_min": words(&["1.2", "1.3"], "The oldest that they speak"),
            "firmware": bounded(firmware, "Versions that they are expected to run"),
        }),
    )
}

fn attestation() -> Value {
    let counted = |item, what| {
        let mut counted = list(item, what);
        put(&mut counted, "minItems", json!(1));
        put(&mut counted, "maxItems", json!(REFERENCE_VALUES_MAX));
        counted
    };
    let registers = json!({
        "type": "object",
        "minProperties": 1,
        "propertyNames": { "pattern": "^(1?[0-9]|2[0-3])$" },
        "additionalProperties": matching(SHA256),
    });
    let registers = table(
        &["firmware", "pcrs"],
        json!({ "firmware": version(), "pcrs": registers }),
    );
    let hex = || matching("^([0-9A-Fa-f]{2}){1,64}$");
    let said_text = || matching("^[ -~]{1,64}$");
    let mut token = table(
        &["firmware"],
        json!({
            "firmware": said_text(),
            "oemid": hex(),
            "hwmodel": hex(),
            "swname": said_text(),
            "swversion": said_text(),
            "oemboot": { "type": "boolean" },
            "dbgstat_min": words(&DEBUG_STATUS, "How far debugging is shut, at least"),
            "submods": {
                "type": "object",
                "maxProperties": 8,
                "propertyNames": { "pattern": "^[ -~]{1,64}$" },
                "additionalProperties": said_text(),
            },
        }),
    );
    put(&mut token, "minProperties", json!(2));
    let mut attestation = table(
        &[],
        json!({
            "result_lifetime_hours": defaulted(RESULT_LIFETIME_HOURS_MAX, RESULT_LIFETIME_HOURS,
                "How long a result counts"),
            "reference_values": counted(registers, "Of TPMs"),
            "token_reference_values": counted(token, "Of tokens (RFC 9711)"),
        }),
    );
    let either = ["reference_values", "token_reference_values"];
    put(
        &mut attestation,
        "anyOf",
        either.map(|key| json!({ "required": [key] })).into(),
    );
    attestation
}

fn service() -> Value {
    let mut shares = list(name(), "Shared subscriptions that it may join");
    put(&mut shares, "maxItems", json!(d::SHARES_MAX));
    table(
        &[],
        json!({
            "description": text("What it is for"),
            "groups": list(name(), "Groups that it is in"),
            "observes_network": flag(false, "It may tell the plane what it saw devices do"),
            "speaks_for_owners": flag(false, "It may say whose a device is"),
            "sets_desired_state": flag(false, "It may say what state devices should have"),
            "fan_out_per_minute": defaulted(d::FAN_OUT_PER_MINUTE_MAX, FAN_OUT_PER_MINUTE,
                "To how many different devices it may send in a minute"),
            "shares": shares,
        }),
    )
}

fn channel() -> Value {
    const LITERAL: &str = r"[^/+#{}\u0000-\u001f\u007f-\u009f]";
    const SLOT: &str = r"\{device\}|\{attribute\.[A-Za-z0-9][A-Za-z0-9._-]{0,63}\}";
    let first = LITERAL.replacen('^', "^$", 1);
    let topic = format!(
        r"^({first}{LITERAL}*|{SLOT})(/({LITERAL}+|{SLOT}|\{{any\}}))*(/\{{rest\.\.\.\}})?$"
    );
    let commands = json!({ "direction": { "const": "to-device" } });
    let mut channel = table(
        &["topic", "direction", "payload_bytes_max"],
        json!({
            "description": text("What it is for"),
            "topic": said(json!({ "type": "string", "maxLength": 512, "pattern": topic }),
                "Levels: literal text, {device}, {attribute.NAME}, {any}, and {rest...} at the end"),
            "direction": words(&["from-device", "to-device"], "Which way its messages flow"),
            "payload_bytes_max": within(d::PAYLOAD_BYTES_MAX, "Of one message"),
            "rate_per_minute": within(d::RATE_PER_MINUTE_MAX, "Messages of one publisher"),
            "retained_max": within(d::RETAINED_MAX, "Topics with a retained message; none if left out"),
            "retained_days": defaulted(d::RETAINED_DAYS_MAX, d::RETAINED_DAYS, "How long it is kept"),
            "schema": said(json!({ "type": "string", "pattern": r"^schemas/.+\.json$" }),
                "What a payload must be: a file of schemas/"),
            "encoding": words(&["json", "cbor", "utf-8", "none"], "json with a schema, else none"),
            "depth_max": defaulted(DEPTH_MAX.into(), DEPTH.into(), "Arrays and objects in each other"),
            "fan_out_per_minute": defaulted(d::FAN_OUT_PER_MINUTE_MAX, FAN_OUT_PER_MINUTE,
                "Devices that one asker may command in a minute"),
            "response": said(name(), "The from-device channel in which devices answer"),
        }),
    );
    for key in ["fan_out_per_minute", "response"] {
        let rule = json!({
            "if": { "required": [key] },
            "then": { "properties": commands },
        });
        push(&mut channel, "allOf", rule);
    }
    channel
}

fn destination() -> Value {
    let port = json!({ "type": "integer", "minimum": 1, "maximum": 65535 });
    let mut ports = list(port, "Its ports");
    put(&mut ports, "minItems", json!(1));
    put(&mut ports, "maxItems", json!(PORTS_MAX));
    let host = r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$";
    let mut destination = table(
        &["ports"],
        json!({
            "description": text("What it is for"),
            "host": said(json!({ "type": "string", "maxLength": 253, "pattern": host }),
                "A DNS name in lower case"),
            "address": said(matching(r"^[0-9a-fA-F:.]+(/[0-9]{1,3})?$"),
                "An address or a network, as 192.0.2.0/24"),
            "local": said(name(), "A role in the site itself, as hub or phone"),
            "ports": ports,
            "protocol": words(&["tcp", "udp"], "tcp if left out"),
        }),
    );
    let places = ["host", "address", "local"].map(|key| json!({ "required": [key] }));
    put(&mut destination, "oneOf", places.to_vec().into());
    destination
}

// What all of them are made of.

fn document(title: &str, schema: Value) -> Value {
    let mut schema = schema;
    put(&mut schema, "$schema", json!(LANGUAGE));
    put(&mut schema, "title", json!(format!("Fleetward: {title}")));
    schema
}

/// A file of a folder: each table is one thing.
fn things(folder: &str, max: usize, thing: Value) -> Value {
    document(&format!("{folder}/*.toml"), named(max, thing))
}

fn named(max: usize, thing: Value) -> Value {
    json!({
        "type": "object",
        "maxProperties": max,
        "propertyNames": { "pattern": NAME },
        "additionalProperties": thing,
    })
}

fn table(required: &[&str], properties: Value) -> Value {
    json!({
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": false,
    })
}

fn said(mut schema: Value, what: &str) -> Value {
    put(&mut schema, "description", json!(what));
    schema
}

fn name() -> Value {
    matching(NAME)
}

fn version() -> Value {
    said(matching("^[!-~]{1,64}$"), "As its devices say it")
}

fn matching(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": pattern })
}

fn text(what: &str) -> Value {
    json!({ "type": "string", "description": what })
}

fn list(items: Value, what: &str) -> Value {
    json!({ "type": "array", "items": items, "description": what })
}

fn words(words: &[&str], what: &str) -> Value {
    json!({ "enum": words, "description": what })
}

fn flag(default: bool, what: &str) -> Value {
    json!({ "type": "boolean", "default": default, "description": what })
}

fn within(max: u32, what: &str) -> Value {
    json!({ "type": "integer", "minimum": 1, "maximum": max, "description": what })
}

/// As [`within`], with what holds if it is left out.
fn defaulted(max: u32, default: u32, what: &str) -> Value {
    let mut schema = within(max, what);
    put(&mut schema, "default", json!(default));
    schema
}

fn put(schema: &mut Value, key: &str, value: Value) {
    if let Some(members) = schema.as_object_mut() {
        members.insert(key.to_owned(), value);
    }
}

fn push(schema: &mut Value, key: &str, value: Value) {
    let members: Option<&mut Map<String, Value>> = schema.as_object_mut();
    if let Some(members) = members {
        let list = members
            .entry(key)
            .or_insert_with(|| Value::Array(Vec::new()));
        if let Some(list) = list.as_array_mut() {
            list.push(value);
        }
    }
}
