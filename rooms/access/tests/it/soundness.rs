//! What makes compiled grants sound, each rule by a test that is named after the hole it closes. Those of
//! live sessions are in the gateway's tests; docs/access.md lists both.

use crate::differential::{accepted, rule, world};
use crate::{base_with, compile, device, filter, lines, service};
use access::{Facts, Fleet, Grants};
use model::{Assurance, Containment, DenyReason};
use proptest::prelude::*;

fn refused(path: &str, text: &str) -> String {
    let wrong = Fleet::read(&base_with(&[(path, text)])).unwrap_err();
    assert!(wrong.iter().all(|one| one.help.is_some()));
    lines(&wrong)
}

fn policy(text: &str) -> String {
    refused("policies/p.cedar", &format!("@id(\"x\")\n{text}"))
}

#[test]
fn topic_in_two_channels_judged_by_the_laxer_one() {
    for overlapping in [
        "v1/{device}/{any}/x",
        "v1/d/telemetry/{rest...}",
        "v1/{device}/telemetry",
        "v1/{attribute.site}/telemetry/{any}",
    ] {
        let channel = format!(
            "[lax]\ntopic = \"{overlapping}\"\ndirection = \"from-device\"\npayload_bytes_max = 16777216\n"
        );
        let said = refused("channels/lax.toml", &channel);
        assert!(said.contains("overlap: both admit the topic"), "{said}");
    }
}

#[test]
fn topic_in_no_channel_left_open() {
    let everything = "@id(\"all\")\npermit (principal, action, resource);";
    let cam = device("d", "camera", &[]);
    let grants = compile(
        &base_with(&[("policies/p.cedar", everything)]),
        std::slice::from_ref(&cam),
    );
    let subject = grants.subject(&cam);
    for topic in [
        "x",
        "v1",
        "v1/d",
        "v1/d/command/x",
        "V1/d/command",
        "/v1/d/command",
        "$SYS/x",
    ] {
        let denied = grants.publish(&subject, topic).unwrap_err();
        assert_eq!(denied.reason, DenyReason::UnlistedTopic, "{topic}");
    }
    // The widest filter reaches beyond all channels, so it is more than all grants together.
    let denied = grants.subscribe(&subject, &filter("#")).unwrap_err();
    assert_eq!(denied.reason, DenyReason::FilterTooWide);
}

#[test]
fn a_million_classes_by_policies_about_single_devices() {
    let said = policy("permit (principal == Device::\"d\", action, resource);");
    assert!(said.contains("a policy cannot name a device"), "{said}");
}

#[test]
fn device_that_says_of_itself_what_a_permit_asks() {
    for condition in [
        "principal.firmware == \"2\"",
        "principal.reported == \"ok\"",
        "principal.attributes == \"x\"",
        "context.address == \"192.0.2.1\"",
        "context.payload == \"x\"",
        "resource.topic == \"x\"",
    ] {
        policy(&format!(
            "permit (principal is Device, action == Action::\"publish\", resource) when {{ {condition} }};"
        ));
    }
}

#[test]
fn forbid_that_fails_and_so_forbids_nothing() {
    for condition in [
        "9223372036854775807 + 1 > 0",
        "ip(\"x\").isLoopback()",
        "principal.missing",
        "principal in Group::\"nobody\"",
        "resource.owner.assurance == \"attested\"",
        "decimal(\"x\") == decimal(\"1.0\")",
        "if principal is Device then false else principal.missing",
    ] {
        policy(&format!(
            "forbid (principal, action, resource) when {{ {condition} }};"
        ));
    }
}

#[test]
fn filter_that_lies_in_two_grants_and_between_them() {
    let cam = device("d", "camera", &[]);
    let grants = compile(&base_with(&[]), std::slice::from_ref(&cam));
    let subject = grants.subject(&cam);
    for own in ["v1/d/telemetry/#", "v1/d/command", "v1/d/telemetry/x/+"] {
        assert!(grants.subscribe(&subject, &filter(own)).is_ok(), "{own}");
    }
    for between in [
        "v1/d/+",
        "v1/d/#",
        "v1/+/command",
        "v1/+/telemetry/#",
        "+/d/command",
    ] {
        let denied = grants.subscribe(&subject, &filter(between)).unwrap_err();
        assert_eq!(denied.reason, DenyReason::FilterTooWide, "{between}");
    }
    // Of another's alone nothing is held.
    let denied = grants
        .subscribe(&subject, &filter("v1/e/command"))
        .unwrap_err();
    assert_eq!(denied.reason, DenyReason::NoPermit);
}

#[test]
fn name_of_a_device_that_is_a_wildcard() {
    let cam = device("d", "camera", &[]);
    let grants = compile(&base_with(&[]), std::slice::from_ref(&cam));
    for level in ["+", "#", "", "d e", "d\u{301}", "-d", "$d"] {
        assert!(
            grants.resolve(&format!("v1/{level}/command")).is_none(),
            "{level:?}"
        );
    }
}

#[test]
fn service_that_is_called_like_a_device() {
    let all =
        "@id(\"own\")\npermit (principal, action, resource) when { resource.owner == principal };";
    let files = base_with(&[("policies/p.cedar", all)]);
    let grants = compile(&files, &[device("ingest", "camera", &[])]);
    let subject = grants.subject(&service("ingest"));
    assert!(grants.publish(&subject, "v1/ingest/command").is_err());
    assert!(
        grants
            .subscribe(&subject, &filter("v1/ingest/command"))
            .is_err()
    );
}

#[test]
fn permit_that_outweighs_a_containment() {
    let everything = "@id(\"all\")\npermit (principal, action, resource);";
    let files = base_with(&[("policies/p.cedar", everything)]);
    for containment in Containment::ALL {
        let contained = Facts {
            containment: Some(containment),
            ..device("d", "camera", &[])
        };
        let grants = compile(&files, std::slice::from_ref(&contained));
        let subject = grants.subject(&contained);
        let denied = grants.publish(&subject, "v1/d/command").unwrap_err();
        assert_eq!(denied.reason, DenyReason::Contained);
        let message = grants.resolve("v1/d/command").unwrap();
        assert!(!grants.receive(&subject, &message));
    }
}

/// (publish, receive) of everybody in some topics.
fn all_decisions(grants: &Grants, everybody: &[Facts]) -> Vec<(bool, bool)> {
    let topics = ["a/d0/up", "a/d1/z/x", "z/x", "d0/q/q", "up/x/y/z", "a/q/q"];
    let mut all = Vec::new();
    for facts in everybody {
        let subject = grants.subject(facts);
        for topic in topics {
            let hears = grants
                .resolve(topic)
                .is_some_and(|message| grants.receive(&subject, &message));
            all.push((grants.publish(&subject, topic).is_ok(), hears));
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, rng_seed: prop::test_runner::RngSeed::Fixed(5), ..ProptestConfig::default() })]

    /// A class that comes later is answered out of what policies said of earlier ones, as far as they
    /// cannot tell them apart: never out of more.
    #[test]
    fn answer_that_was_given_to_somebody_else(
        world in world(),
        rules in prop::collection::vec(rule(), 1..7),
    ) {
        let fleet = Fleet::read(&world.files(&accepted(&world, rules))).unwrap();
        let mut everybody = vec![service("s0"), service("s1")];
        for number in 0..16_usize {
            let groups: Vec<String> = (0..4)
                .filter(|group| number & (1 << group) != 0)
                .map(|group| format!("g{group}"))
                .collect();
            let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
            let product = ["p0", "p1"][number % 2];
            let assurance = Assurance::ALL[number % 4];
            everybody.push(Facts { assurance, ..device(&format!("d{number}"), product, &groups) });
        }
        let Ok(at_once) = Grants::compile(&fleet, everybody.iter().cloned()) else {
            return Ok(());
        };
        let mut one_by_one = Grants::compile(&fleet, []).unwrap();
        for facts in &everybody {
            if let Some(extended) = one_by_one.extended(facts).unwrap() {
                one_by_one = extended;
            }
        }
        prop_assert_eq!(
            all_decisions(&at_once, &everybody),
            all_decisions(&one_by_one, &everybody)
        );
    }
}
