//! How a listener speaks TLS: tickets, which open nothing that a certificate would not, the size of
//! records, and TLS 1.2 where it is said and nowhere else.

use crate::plane::{Home, Plane, Settings};
use crate::tools::{Ran, have, openssl, write_credential, write_root};
use serde_json::json;
use sim::Device;
use sim::device::{Manner, TicketOutcome};
use sim::tls::{Options, Versions};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

fn settings(gateway: &str, alpn: &str) -> Settings {
    Settings {
        gateway: gateway.to_owned(),
        more: format!("[listen.alpn]\naddress = \"127.0.0.1:0\"\n{alpn}"),
        shards: 2,
        ..Settings::default()
    }
}

fn scene(gateway: &str, alpn: &str) -> (Home, Plane) {
    let home = Home::new(&settings(gateway, alpn));
    let plane = home.start_prepared();
    write_root(&home, &plane);
    (home, plane)
}

fn keeps_tickets(versions: Versions) -> Manner {
    Manner {
        tls: Options {
            resume: true,
            versions,
            ..Options::default()
        },
        ..Manner::default()
    }
}

/// One that has been here and kept the ticket it was given.
fn returning(home: &Home, plane: &Plane, name: &str, manner: &Manner) -> Device {
    let mut device = home.device(name);
    plane.expect([&device]);
    device.enroll(&plane.doors(), manner).unwrap();
    write_credential(home, device.ldevid().unwrap(), name);
    device.connect(&plane.doors(), manner).unwrap();
    // Its first answer comes behind the ticket.
    device.session().unwrap().ping().unwrap();
    device
}

#[test]
fn a_ticket_is_given_where_the_configuration_says_so_and_nowhere_else() {
    for versions in [Versions::Only13, Versions::Only12] {
        let manner = keeps_tickets(versions);
        let (home, plane) = scene("resumption = true\ntls_1_2 = true", "");
        let mut device = returning(&home, &plane, "cam", &manner);
        device.take_session().unwrap().disconnect();
        assert_eq!(device.try_ticket(&manner), TicketOutcome::Resumed);
        // By the ticket it is the same device, with the same grants.
        device.connect(&plane.doors(), &manner).unwrap();
        let session = device.session().unwrap();
        session.publish("v1/sensor/cam/telemetry/t", b"21").unwrap();
        assert!(session.publish("v1/sensor/box/telemetry/t", b"21").is_err());

        let (home, plane) = scene("tls_1_2 = true", "resumption = true");
        let device = returning(&home, &plane, "cam", &manner);
        assert_eq!(device.try_ticket(&manner), TicketOutcome::NeverGiven);
    }
}

#[test]
fn attack_a_revoked_device_with_a_ticket_stays_out() {
    for versions in [Versions::Only13, Versions::Only12] {
        let manner = keeps_tickets(versions);
        let (home, plane) = scene("resumption = true\ntls_1_2 = true", "");
        let mut device = returning(&home, &plane, "cam", &manner);
        let mark = plane.lines.mark();
        plane.revoke(device.id());
        let ended = device.session().unwrap().next(Instant::now() + PATIENCE);
        assert!(ended.unwrap_err().is_by_server());
        let outcome = device.try_ticket(&manner);
        assert!(
            matches!(&outcome, TicketOutcome::Refused(why) if why.is_by_server()),
            "{outcome:?}"
        );
        plane.lines.wait_for(mark, "refused device-revoked");
        assert!(
            device
                .try_return(&plane.doors(), &manner)
                .reconnect_refused()
        );
    }
}

#[test]
fn attack_a_contained_device_with_a_ticket_is_where_it_is_without() {
    let manner = keeps_tickets(Versions::Only13);
    let (home, plane) = scene("resumption = true", "");
    let mut device = returning(&home, &plane, "cam", &manner);
    let contain = |how: &str| {
        let body = json!({ "device": "cam", "containment": how, "reason": "test" });
        plane
            .post("/api/v1/response/containments", &body)
            .expect(201);
    };
    contain("quarantined");
    device.connect(&plane.doors(), &manner).unwrap();
    let session = device.session().unwrap();
    let refused = session
        .publish("v1/sensor/cam/telemetry/t", b"21")
        .unwrap_err();
    assert!(refused.to_string().contains("contained"), "{refused}");
    contain("isolated");
    let outcome = device.try_ticket(&manner);
    assert!(
        matches!(&outcome, TicketOutcome::Refused(why) if why.is_by_server()),
        "{outcome:?}"
    );
}

#[test]
fn attack_a_ticket_outlives_neither_its_certificate_nor_its_ca() {
    let manner = keeps_tickets(Versions::Only13);
    for by_ca in [false, true] {
        let (home, plane) = scene("resumption = true", "");
        let device = returning(&home, &plane, "cam", &manner);
        let listed = plane
            .get("/api/v1/identity/certificates")
            .expect(200)
            .text();
        let id = listed
            .split('"')
            .find(|text| text.len() > 65 && text.as_bytes()[64] == b':');
        let id = id.unwrap();
        let what = match by_ca {
            true => json!({ "ca": &id[..64], "reason": "ca-compromise" }),
            false => json!({ "certificate": id, "reason": "key-compromise" }),
        };
        plane
            .post("/api/v1/identity/revocations", &what)
            .expect(201);
        let outcome = device.try_ticket(&manner);
        assert!(
            matches!(&outcome, TicketOutcome::Refused(why) if why.is_by_server()),
            "{outcome:?}"
        );
    }
}

/// One connection of OpenSSL's, which reads what comes for a moment.
fn s_client(home: &Home, door: SocketAddr, more: &[&str]) -> Ran {
    let target = format!("localhost:{}", door.port());
    let common = [
        "s_client",
        "-connect",
        &target,
        "-CAfile",
        "root.pem",
        "-cert",
        "cam.pem",
        "-key",
        "cam.key",
        "-verify_return_error",
    ];
    // A CONNECT of MQTT 3.1.1 and a DISCONNECT: the server's answer is behind its ticket.
    let said = b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03cam\xe0\x00";
    openssl(home, &[&common[..], more, &["-ign_eof"]].concat(), said)
}

fn is_reused(ran: &Ran) -> bool {
    let text = ran.text();
    assert!(
        text.contains("New, ") || text.contains("Reused, "),
        "{text}\n{}",
        ran.err
    );
    text.contains("Reused, ")
}

#[test]
fn attack_a_ticket_of_another_listener_or_of_an_earlier_run_opens_nothing() {
    if !have(&["openssl"]) {
        return;
    }
    let (home, plane) = scene("resumption = true", "resumption = true");
    drop(returning(&home, &plane, "cam", &Manner::default()));
    let by_alpn = ["-alpn", "mqtt"];
    let first = s_client(&home, plane.mqtt, &["-sess_out", "native"]);
    assert!(!is_reused(&first));
    assert!(is_reused(&s_client(
        &home,
        plane.mqtt,
        &["-sess_in", "native"]
    )));
    let other = [&by_alpn[..], &["-sess_in", "native"]].concat();
    assert!(!is_reused(&s_client(&home, plane.alpn.unwrap(), &other)));
    // There tickets are given to MQTT, and are good there.
    let out = [&by_alpn[..], &["-sess_out", "alpn"]].concat();
    assert!(!is_reused(&s_client(&home, plane.alpn.unwrap(), &out)));
    let again = [&by_alpn[..], &["-sess_in", "alpn"]].concat();
    assert!(is_reused(&s_client(&home, plane.alpn.unwrap(), &again)));
    assert!(!is_reused(&s_client(
        &home,
        plane.alpn.unwrap(),
        &["-sess_in", "alpn"]
    )));
    assert!(!is_reused(&s_client(
        &home,
        plane.devices,
        &["-sess_in", "native"]
    )));
    plane.stop_well();
    let plane = home.start();
    assert!(!is_reused(&s_client(
        &home,
        plane.mqtt,
        &["-sess_in", "native"]
    )));
}

/// The lengths of the records that came, as OpenSSL saw their headers.
fn records(ran: &Ran) -> Vec<usize> {
    let text = ran.text();
    let mut lines = text.lines();
    let mut lengths = Vec::new();
    while let Some(line) = lines.next() {
        if line.starts_with("<<<") && line.contains("RecordHeader") {
            let bytes: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
            lengths.push(usize::from_str_radix(&bytes[3..5].concat(), 16).unwrap());
        }
    }
    assert!(!lengths.is_empty(), "{text}");
    lengths
}

#[test]
fn records_are_as_small_as_each_listener_is_told() {
    if !have(&["openssl"]) {
        return;
    }
    let (home, plane) = scene("record_bytes_max = 512", "tls_1_2 = true");
    drop(returning(&home, &plane, "cam", &Manner::default()));
    // What encryption adds: in TLS 1.3 the type and the tag.
    let small = records(&s_client(&home, plane.mqtt, &["-msg"]));
    assert!(small.iter().all(|length| *length <= 512 + 17), "{small:?}");
    assert!(small.iter().any(|length| *length > 256), "{small:?}");
    let large = records(&s_client(
        &home,
        plane.alpn.unwrap(),
        &["-alpn", "mqtt", "-msg"],
    ));
    assert!(large.iter().any(|length| *length > 512 + 17), "{large:?}");
    assert!(large.iter().all(|length| *length <= 4096 + 17), "{large:?}");
}

#[test]
fn tls_1_2_is_spoken_where_it_is_said_and_nowhere_else() {
    if !have(&["openssl"]) {
        return;
    }
    let (home, plane) = scene("", "tls_1_2 = true");
    drop(returning(&home, &plane, "cam", &Manner::default()));
    let speaks = |door: SocketAddr, more: &[&str]| {
        let ran = s_client(&home, door, &[more, &["-tls1_2"]].concat());
        ran.text().contains("Protocol  : TLSv1.2")
            && ran.text().contains("Verify return code: 0")
            && !ran.err.contains("alert")
    };
    assert!(speaks(plane.alpn.unwrap(), &["-alpn", "mqtt"]));
    assert!(speaks(plane.devices, &[]), "EST clients of small stacks");
    assert!(!speaks(plane.people, &[]));
    let mark = plane.lines.mark();
    assert!(!speaks(plane.mqtt, &[]));
    plane.lines.wait_for(mark, "refused tls-version");
}
