//! The fleet in `examples/fleet`, which the README and the chapter show.

use crate::{device, example_fleet, filter, service};
use access::{Explanation, Grants, TlsVersion};
use model::{DenyReason, Protocol, Verdict};
use std::path::Path;
use std::time::Duration;

fn grants() -> Grants {
    let population = [
        device("cam-1", "camera", &[]),
        device("cam-2", "camera", &["beta"]),
        device("lock-1", "lock", &["suspended"]),
    ];
    Grants::compile(&example_fleet(), population).unwrap()
}

#[test]
fn its_things_are_as_declared() {
    let fleet = example_fleet();
    let lifetimes: Vec<(&str, Duration)> = (fleet.products())
        .map(|product| (product.id.as_str(), product.ldevid_lifetime))
        .collect();
    let days = |days: u64| Duration::from_secs(86_400 * days);
    assert_eq!(
        lifetimes,
        [
            ("camera", days(30)),
            ("lock", days(14)),
            ("thermostat", days(90))
        ]
    );
    assert_eq!(fleet.channels().count(), 11);
    let services: Vec<(&str, bool, u32)> = (fleet.services())
        .map(|one| {
            (
                one.id.as_str(),
                one.observes_network,
                one.fan_out_per_minute,
            )
        })
        .collect();
    assert_eq!(
        services,
        [
            ("commander", false, 600),
            ("ingest", false, 600),
            ("network-observer", true, 600)
        ]
    );
    assert_eq!(fleet.name(), "example-home");
}

#[test]
fn what_its_devices_are_expected_to_do_is_said_and_its_firmware_is_there() {
    let fleet = example_fleet();
    let camera = fleet.product(&"camera".parse().unwrap()).unwrap();
    let behaviour = &camera.behaviour;
    assert_eq!(behaviour.listens, Some(vec![(Protocol::Tcp, 554)]));
    assert_eq!(behaviour.tls_version_min, Some(TlsVersion::Tls13));
    let hosts: Vec<(&str, &[u16], Protocol)> = (behaviour.destinations.iter().flatten())
        .map(|id| fleet.destination(id).unwrap())
        .map(|one| {
            (
                one.host().unwrap(),
                one.ports.as_deref().unwrap(),
                one.protocol.unwrap(),
            )
        })
        .collect();
    assert_eq!(
        hosts,
        [
            ("video.example.net", [443].as_slice(), Protocol::Tcp),
            ("time.example.net", [123].as_slice(), Protocol::Udp)
        ]
    );
    for product in fleet.products() {
        for firmware in &product.behaviour.firmware {
            let file = format!("{}-{}.bin", product.id, firmware.version);
            let file = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../examples/firmware")
                .join(file);
            let image = std::fs::read(&file).unwrap();
            let sha256 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &image);
            assert_eq!(firmware.sha256.0, sha256.as_ref(), "{}", file.display());
        }
        assert_eq!(product.behaviour.firmware.len(), 1);
    }
}

#[test]
fn a_camera_speaks_for_itself_and_hears_what_is_sent_to_it() {
    let grants = grants();
    let camera = grants.subject(&device("cam-1", "camera", &[]));
    let sent = grants
        .publish(&camera, "v1/camera/cam-1/telemetry/light/lux")
        .unwrap();
    assert_eq!(sent.owner, Some("cam-1"));
    assert_eq!(sent.payload_bytes_max, 4096);
    assert_eq!(sent.rate_per_minute, Some(120));
    assert_eq!(
        grants.channel(&sent).unwrap().id.as_str(),
        "camera-telemetry"
    );
    for wanted in [
        "v1/camera/cam-1/command/+",
        "v1/camera/cam-1/command/sleep",
        "v1/notice/+",
    ] {
        assert!(
            grants.subscribe(&camera, &filter(wanted)).is_ok(),
            "{wanted}"
        );
    }
    for refused in [
        "v1/camera/cam-1/command",
        "v1/camera/cam-1/thumbnail",
        "v1/unknown",
        "v2",
    ] {
        assert!(grants.publish(&camera, refused).is_err(), "{refused}");
    }
    let beta = grants.subject(&device("cam-2", "camera", &["beta"]));
    assert!(grants.publish(&beta, "v1/camera/cam-2/thumbnail").is_ok());
    // Not even under its own name.
    assert!(grants.publish(&camera, "v1/lock/cam-1/state").is_err());
}

#[test]
fn its_services_reach_what_they_are_for() {
    let grants = grants();
    let ingest = grants.subject(&service("ingest"));
    let commander = grants.subject(&service("commander"));
    assert!(
        grants
            .subscribe(&ingest, &filter("v1/camera/+/telemetry/#"))
            .is_ok()
    );
    assert!(
        grants
            .subscribe(&ingest, &filter("v1/lock/+/command/+"))
            .is_err()
    );
    assert!(
        grants
            .publish(&ingest, "v1/lock/lock-1/command/open")
            .is_err()
    );
    assert!(
        grants
            .publish(&commander, "v1/lock/lock-1/command/open")
            .is_ok()
    );
    assert!(grants.publish(&commander, "v1/notice/maintenance").is_ok());
    assert!(
        grants
            .subscribe(&commander, &filter("v1/lock/+/state"))
            .is_ok()
    );
    assert!(
        grants
            .subscribe(&commander, &filter("v1/lock/+/telemetry/#"))
            .is_err()
    );
    let widest = grants.receivable(&ingest);
    assert_eq!(widest.len(), 7);
    assert!(
        widest
            .iter()
            .all(|filter| grants.subscribe(&ingest, filter).is_ok())
    );
}

fn says(explanation: &Explanation, words: &[&str]) {
    for word in words {
        assert!(
            explanation.text.contains(word),
            "{word:?} is not in: {}",
            explanation.text
        );
    }
}

#[test]
fn explain_says_what_decided_and_what_would_allow_it() {
    let grants = grants();
    let camera = device("cam-1", "camera", &[]);

    let own = grants.explain_publish(&camera, "v1/camera/cam-1/state");
    assert!(own.verdict.is_permit());
    assert_eq!(own.channel.as_deref(), Some("camera-state"));
    assert_eq!(own.owner.as_deref(), Some("cam-1"));
    says(
        &own,
        &[
            "policy device-sends-own (fleet/policies/devices.cedar:6)",
            "is its own",
        ],
    );

    let foreign = grants.explain_publish(&camera, "v1/camera/cam-2/state");
    assert_eq!(foreign.owner.as_deref(), Some("cam-2"));
    says(
        &foreign,
        &[
            "no policy permits it",
            "belongs to device/cam-2",
            "It may publish to its own: v1/camera/cam-1/state",
            "permit (principal is Device in Product::\"camera\", action == Action::\"publish\", resource == Channel::\"camera-state\");",
        ],
    );

    let forbidden = grants.explain_publish(&camera, "v1/camera/cam-1/thumbnail");
    assert!(matches!(
        &forbidden.verdict,
        Verdict::Deny { reason: DenyReason::Forbidden, policy: Some(policy) } if policy.as_str() == "thumbnails-are-beta"
    ));
    says(&forbidden, &["no permit outweighs a forbid"]);

    let unlisted = grants.explain_publish(&camera, "v1/camera/cam-1/stat");
    says(
        &unlisted,
        &[
            "no channel of the fleet admits it",
            "v1/camera/{device}/state (camera-state)",
        ],
    );

    let unknown = grants.explain_publish(&device("x", "toaster", &[]), "v1/camera/x/state");
    says(
        &unknown,
        &["denied everything", "product toaster is not declared"],
    );
    let late = grants.explain_publish(
        &device("x", "camera", &["beta", "lost"]),
        "v1/camera/x/state",
    );
    says(
        &late,
        &["no grants were compiled for its product and groups yet"],
    );

    let wide = grants.explain_receive(&camera, "v1/camera/+/command/+");
    assert!(matches!(
        wide.verdict,
        Verdict::Deny {
            reason: DenyReason::FilterTooWide,
            ..
        }
    ));
    says(
        &wide,
        &["The widest it may subscribe to: v1/camera/cam-1/command/+."],
    );

    let heard = grants.explain_receive(&camera, "v1/camera/cam-1/command/sleep");
    assert_eq!(heard.channel.as_deref(), Some("camera-command"));
    assert_eq!(heard.owner.as_deref(), Some("cam-1"));
    says(&heard, &["by policy device-hears-own"]);

    let suspended = device("lock-1", "lock", &["suspended"]);
    let silent = grants.explain_receive(&suspended, "v1/lock/lock-1/command/open");
    says(
        &silent,
        &["suspended-hears-nothing", "It may subscribe to nothing."],
    );
    says(
        &grants.explain_receive(&camera, "a#"),
        &["is no topic filter"],
    );
    says(
        &grants.explain_receive(&camera, "x/y"),
        &["no channel of the fleet admits it"],
    );
}

/// What a decision says and what its explanation says are the same decision.
#[test]
fn an_explanation_never_differs_from_the_decision() {
    let grants = grants();
    let who = [
        device("cam-1", "camera", &[]),
        device("cam-2", "camera", &["beta"]),
        device("lock-1", "lock", &["suspended"]),
        device("x", "toaster", &[]),
        service("ingest"),
        service("commander"),
    ];
    let what = [
        "v1/camera/cam-1/state",
        "v1/camera/cam-2/thumbnail",
        "v1/camera/cam-1/command/x",
        "v1/lock/lock-1/command/open",
        "v1/notice/x",
        "v9",
        "v1/camera/+/state",
        "v1/#",
    ];
    for facts in &who {
        let subject = grants.subject(facts);
        for topic in what {
            let explained = grants.explain_publish(facts, topic).verdict;
            match grants.publish(&subject, topic) {
                Ok(_) => assert!(explained.is_permit(), "{facts:?} {topic}"),
                Err(denied) => assert_eq!(grants.verdict(&denied), explained, "{facts:?} {topic}"),
            }
            let explained = grants.explain_receive(facts, topic).verdict;
            match grants.subscribe(&subject, &filter(topic)) {
                Ok(_) => assert!(explained.is_permit(), "{facts:?} {topic}"),
                Err(denied) => assert_eq!(grants.verdict(&denied), explained, "{facts:?} {topic}"),
            }
        }
    }
}
