//! Alerts become incidents.

use crate::world::{CONTAIN, World, outside, reported, unproven};
use model::{Attribution, DeviationKind, IncidentId, Severity, Subject};
use response::{About, AlertSeen, Incident, IncidentState, Settings};

const KIND: DeviationKind = DeviationKind::UnexpectedDestination;

fn low(alert: AlertSeen) -> AlertSeen {
    AlertSeen {
        severity: Severity::Low,
        ..alert
    }
}

#[test]
fn alerts_about_one_device_are_one_incident() {
    let mut world = World::with("");
    world.alert(outside("cam-1", KIND));
    world.alert(reported("cam-1", DeviationKind::NewListeningPort));
    world.alert(outside("cam-1", KIND));
    world.alert(unproven(
        "cam-1",
        DeviationKind::CertificateFailures,
        Attribution::Claimed,
    ));
    assert_eq!(world.responder.incidents().count(), 1);
    let incident = world.open_incident("cam-1").unwrap();
    assert_eq!(
        incident.title(),
        "cam-1: unexpected-destination, new-listening-port, certificate-failures"
    );
    assert_eq!(
        world.told(IncidentId(1)),
        [
            "unexpected-destination",
            "new-listening-port, as the device says",
            "certificate-failures, by claimed only",
        ]
    );
    let step = &world.steps[&IncidentId(1)][0];
    assert_eq!(step.observed_by.as_deref(), Some("network (bridge port)"));
    assert_eq!(step.expected.as_deref(), Some("video.example:443"));
}

#[test]
fn a_surer_sight_of_the_same_is_told_and_a_repetition_is_not() {
    let mut world = World::with("");
    world.alert(reported("cam-1", KIND));
    for _ in 0..50 {
        world.alert(reported("cam-1", KIND));
    }
    world.alert(outside("cam-1", KIND));
    world.alert(reported("cam-1", KIND));
    assert_eq!(world.told(IncidentId(1)).len(), 2);
    let evidence = &world.open_incident("cam-1").unwrap().evidence;
    assert_eq!(evidence.len(), 1);
    assert_eq!(evidence[0].observed_by, "network (bridge port)");
}

#[test]
fn the_same_on_many_peers_is_one_incident_about_the_group() {
    let mut world = World::with(CONTAIN);
    for kind in [KIND, DeviationKind::DnsSpike] {
        for device in 0..100 {
            world.alert(AlertSeen {
                fleet_event: true,
                ..outside(&format!("cam-{device}"), kind)
            });
        }
    }
    assert_eq!(world.responder.incidents().count(), 2);
    assert!(world.taken.is_empty(), "a release must cut nobody off");
    let incident = world.responder.incident(IncidentId(1)).unwrap();
    assert!(matches!(&incident.about, About::Group { kind, .. } if *kind == KIND));
    assert_eq!(incident.title(), "camera devices: unexpected-destination");
}

#[test]
fn an_address_alone_is_nobody() {
    let mut world = World::with(CONTAIN);
    world.alert(AlertSeen {
        subject: Subject::Address("203.0.113.9".parse().unwrap()),
        ..outside("x", DeviationKind::CertificateFailures)
    });
    assert_eq!(world.responder.incidents().count(), 0);
}

#[test]
fn a_service_has_an_incident_and_no_playbook() {
    let mut world = World::with(
        "[p]\nmode = \"enforce\"\nkinds = [\"api-abuse\"]\nsteps = [{ action = \"quarantine\" }]",
    );
    world.alert(AlertSeen {
        subject: Subject::Service("ingest".parse().unwrap()),
        ..outside("x", DeviationKind::ApiAbuse)
    });
    assert_eq!(world.responder.incidents().count(), 1);
    assert!(world.taken.is_empty());
}

#[test]
fn a_trifle_waits_for_a_second_kind_for_an_hour() {
    let mut world = World::with("");
    world.alert(low(outside("cam-1", KIND)));
    world.alert(low(outside("cam-1", KIND)));
    assert!(world.open_incident("cam-1").is_none());
    world.pass(3600);
    world.alert(low(outside("cam-1", DeviationKind::DnsSpike)));
    assert!(world.open_incident("cam-1").is_none());
    world.alert(low(outside("cam-1", KIND)));
    let incident = world.open_incident("cam-1").unwrap();
    assert_eq!(incident.kinds().len(), 2, "the earlier one belongs to it");
    assert_eq!(incident.severity, Severity::Low);
}

#[test]
fn whoever_is_to_be_told_is_told_of_what_is_grave() {
    let settings = Settings {
        tell: Some(("operators".into(), Severity::High)),
        told_max: 3,
        ..Settings::default()
    };
    let mut world = World::new(settings, "");
    world.alert(AlertSeen {
        severity: Severity::Medium,
        ..outside("lock-1", KIND)
    });
    assert!(world.notified.is_empty());
    for device in 0..5 {
        world.alert(outside(&format!("cam-{device}"), KIND));
    }
    assert_eq!(world.notified.len(), 3, "no more than so many an hour");
    let (token, to, subject, text) = &world.notified[0];
    assert_eq!(token.to_string(), "INC-2.1");
    assert_eq!(to, "operators");
    assert_eq!(
        subject,
        "[high] INC-2 cam-0: unexpected-destination (opened)"
    );
    assert!(text.contains("expected: video.example:443"), "{text}");
    world.pass(3600);
    world.alert(outside("cam-9", KIND));
    assert_eq!(world.notified.len(), 4);
}

#[test]
fn at_all_its_caps_an_incident_still_fits_its_row() {
    let mut world = World::with(CONTAIN);
    for kind in DeviationKind::ALL {
        for entity in 0..20 {
            let long = format!("{entity}{}", "\"\\".repeat(200));
            world.alert(AlertSeen {
                entity: long.clone(),
                expected: long.clone(),
                seen: long.clone(),
                observed_by: long,
                ..outside("cam-1", kind)
            });
        }
    }
    for _ in 0..130 {
        world.person(response::Decision::Contain {
            device: crate::world::id("cam-1"),
            containment: model::Containment::Isolated,
        });
    }
    let bytes = &world.stored[&IncidentId(1)];
    assert!(bytes.len() <= 256 * 1024, "{} bytes", bytes.len());
    let incident = world.open_incident("cam-1").unwrap();
    assert_eq!(Incident::from_bytes(bytes).as_ref(), Ok(incident));
}

#[test]
fn closed_incidents_leave_memory_but_numbers_are_never_used_twice() {
    let mut world = World::with("");
    for device in 0..3 {
        world.alert(outside(&format!("cam-{device}"), KIND));
        let id = IncidentId(device + 1);
        world.person(response::Decision::Close { incident: id });
        let incident = world.responder.incident(id).unwrap();
        assert_eq!(incident.state, IncidentState::Closed);
    }
    world.pass(2 * 86_400);
    assert_eq!(world.responder.incidents().count(), 0);
    world.restart();
    world.alert(outside("cam-1", KIND));
    assert_eq!(world.open_incident("cam-1").unwrap().id, IncidentId(4));
}

#[test]
fn bytes_that_are_no_incident_are_refused() {
    let mut world = World::with(CONTAIN);
    world.alert(outside("cam-1", KIND));
    let bytes = world.stored[&IncidentId(1)].clone();
    let text = String::from_utf8(bytes).unwrap();
    for broken in [
        String::new(),
        text.replace("\"format\":1", "\"format\":2"),
        text.replace("\"state\":\"open\"", "\"state\":\"ajar\""),
        text.replace("\"revoked\"", "\"removed\""),
        text.replace("device/cam-1", "device/"),
    ] {
        assert!(Incident::from_bytes(broken.as_bytes()).is_err(), "{broken}");
    }
}
