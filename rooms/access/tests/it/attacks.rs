//! Each named after what somebody would try.

use crate::{base_with, compile, device, example_fleet, filter, fleet, lines, service, sources};
use access::{Fleet, Grants, certificate_topic, containment_topic, enroll_topic, report_topic};
use model::{Containment, DenyReason, DeviceId, PolicyId, Verdict};

fn population() -> Vec<access::Facts> {
    vec![
        device("cam-1", "camera", &[]),
        device("cam-2", "camera", &["beta"]),
        device("cam-3", "camera", &["lost"]),
        device("lock-1", "lock", &[]),
        device("ingest", "camera", &[]),
        device("commander", "lock", &[]),
    ]
}

fn example() -> Grants {
    Grants::compile(&example_fleet(), population()).unwrap()
}

#[test]
fn no_device_reaches_another_device() {
    let grants = example();
    let topics = |name: &str| {
        (grants.fleet().channels())
            .filter(|channel| channel.template.has_owner())
            .map(|channel| {
                let topic = channel.template.to_string();
                let topic = topic.replace("{device}", name).replace("{any}", "x");
                topic.replace("{rest...}", "x/y")
            })
            .collect::<Vec<_>>()
    };
    for facts in population() {
        let subject = grants.subject(&facts);
        for other in [
            "cam-1",
            "cam-2",
            "cam-3",
            "lock-1",
            "ingest",
            "commander",
            "ghost",
        ] {
            if other == facts.principal.name() {
                continue;
            }
            for topic in topics(other) {
                assert!(
                    grants.publish(&subject, &topic).is_err(),
                    "{subject:?} {topic}"
                );
                let message = grants.resolve(&topic).unwrap();
                assert_eq!(message.owner, Some(other));
                assert!(!grants.receive(&subject, &message), "{subject:?} {topic}");
                assert!(grants.subscribe(&subject, &filter(&topic)).is_err());
            }
        }
        for wide in [
            "#",
            "+/#",
            "v1/#",
            "v1/+/+/#",
            "v1/camera/+/command/+",
            "v1/lock/+/state",
        ] {
            assert!(
                grants.subscribe(&subject, &filter(wide)).is_err(),
                "{subject:?} {wide}"
            );
        }
    }
}

#[test]
fn service_named_like_a_device_owns_nothing() {
    let grants = example();
    // There is a device "ingest" too, and it may hear its own commands.
    let own = grants.subject(&device("ingest", "camera", &[]));
    assert!(
        grants
            .subscribe(&own, &filter("v1/camera/ingest/command/+"))
            .is_ok()
    );
    let namesake = grants.subject(&service("ingest"));
    assert!(
        grants
            .subscribe(&namesake, &filter("v1/camera/ingest/command/+"))
            .is_err()
    );
    assert!(
        grants
            .publish(&namesake, "v1/camera/ingest/telemetry")
            .is_err()
    );
    let command = grants.resolve("v1/camera/ingest/command/sleep").unwrap();
    assert!(grants.receive(&own, &command));
    assert!(!grants.receive(&namesake, &command));
    // And the device has nothing of what the service has.
    assert!(
        grants
            .subscribe(&own, &filter("v1/camera/+/telemetry/#"))
            .is_err()
    );
    assert!(
        grants
            .subscribe(&namesake, &filter("v1/camera/+/telemetry/#"))
            .is_ok()
    );
}

#[test]
fn a_device_named_like_a_wildcard_cannot_exist() {
    let grants = example();
    for name in [
        "+",
        "#",
        "",
        "$x",
        "a+b",
        "(this device)",
        "(another device)",
    ] {
        assert!(DeviceId::new(name).is_err());
        let topic = format!("v1/camera/{name}/telemetry/x");
        assert_eq!(grants.resolve(&topic), None, "{topic} has an owner");
    }
    // The example's service may command every device: but only devices.
    let commander = grants.subject(&service("commander"));
    assert!(
        grants
            .publish(&commander, "v1/lock/lock-1/command/open")
            .is_ok()
    );
    for topic in [
        "v1/lock/+/command/open",
        "v1/lock//command/open",
        "v1/lock/#/command/open",
    ] {
        let denied = grants.publish(&commander, topic).unwrap_err();
        assert_eq!(denied.reason, DenyReason::UnlistedTopic);
    }
}

#[test]
fn unknown_group_in_a_forbid_is_refused() {
    let policy = "@id(\"q\") forbid (principal in Group::\"quarantned\", action, resource);";
    let wrong = Fleet::read(&base_with(&[("policies/q.cedar", policy)])).unwrap_err();
    let said = lines(&wrong);
    assert!(
        said.contains("policies/q.cedar:1:31: Group::\"quarantned\" does not exist"),
        "{said}"
    );
}

#[test]
fn a_device_in_a_group_that_nobody_declared_is_denied() {
    // A forbid might have meant that group: not to know it is not to be outside of it.
    let grants = example();
    let facts = device("cam-1", "camera", &["suspendet"]);
    let subject = grants.subject(&facts);
    let denied = grants
        .publish(&subject, "v1/camera/cam-1/state")
        .unwrap_err();
    assert_eq!(denied.reason, DenyReason::UnknownClass);
    assert!(grants.unclassified(&facts).unwrap().contains("suspendet"));
    assert!(grants.extended(&facts).unwrap().is_none());
    for facts in [device("x", "toaster", &[]), service("nobody")] {
        assert!(grants.unclassified(&facts).is_some());
        assert!(grants.receivable(&grants.subject(&facts)).is_empty());
    }
}

#[test]
fn a_forbid_that_could_error_is_refused() {
    for condition in [
        "9223372036854775807 + 1 == 0",
        "-(-9223372036854775807 - 1) == 0",
        "principal.getTag(\"x\") == \"y\"",
        "ip(\"x\").isLoopback()",
    ] {
        let policy = format!(
            "@id(\"q\") forbid (principal is Device, action, resource) when {{ {condition} }};"
        );
        assert!(
            Fleet::read(&base_with(&[("policies/q.cedar", &policy)])).is_err(),
            "{condition}"
        );
    }
}

#[test]
fn two_policies_in_one_cannot_hide_behind_a_comment_or_a_string() {
    // Whatever the splitter thinks a comment or a string is, Cedar must think the same.
    for text in [
        "@id(\"a\") permit (principal is Device, action, resource) when { true } // ;\n; @id(\"b\") forbid (principal is Device, action, resource);",
        "@id(\"a\") @description(\"; // \\\" ;\") permit (principal is Device, action, resource); @id(\"b\") forbid (principal is Device, action, resource);",
        "// x\r@id(\"a\") permit (principal is Device, action, resource); // y\u{85}\n@id(\"b\") forbid (principal is Device, action, resource);",
    ] {
        let files = base_with(&[("policies/p.cedar", text)]);
        let fleet = fleet(&files);
        let ids: Vec<&str> = fleet.policies().map(PolicyId::as_str).collect();
        assert_eq!(ids, ["a", "b"], "{text}");
        let whole: cedar_policy::PolicySet = text.parse().unwrap();
        assert_eq!(whole.policies().count(), 2);
    }
}

#[test]
fn a_subject_of_other_grants_is_nobody() {
    let grants = example();
    let facts = device("cam-1", "camera", &[]);
    let old = grants.subject(&facts);
    // The fleet changes: the class numbers may now mean somebody else.
    let base = compile(&base_with(&[]), &population()[..1]);
    assert!(base.publish(&old, "v1/cam-1/telemetry").is_err());
    assert!(
        base.publish(&base.subject(&facts), "v1/cam-1/telemetry")
            .is_ok()
    );
    // One more class: known subjects stay good, and both ways to add two agree on nobody else.
    let two = base.extended(&device("l", "lock", &["floor"])).unwrap();
    assert!(two.is_none(), "no policy names it");
    let beta = grants
        .extended(&device("x", "lock", &["lost", "beta"]))
        .unwrap()
        .unwrap();
    let other = grants
        .extended(&device("y", "camera", &["suspended"]))
        .unwrap();
    assert!(
        other.is_none(),
        "lost is in suspended, which is what policies name"
    );
    assert!(beta.publish(&old, "v1/camera/cam-1/state").is_ok());
    let new = beta.subject(&device("x", "lock", &["lost", "beta"]));
    assert!(beta.publish(&new, "v1/lock/x/state").is_ok());
    assert!(grants.publish(&new, "v1/lock/x/state").is_err());
    assert!(
        Grants::none()
            .publish(&old, "v1/camera/cam-1/state")
            .is_err()
    );
}

#[test]
fn a_message_resolved_by_another_fleet_is_judged_by_its_topic() {
    // The same topic in two fleets whose channels are numbered differently.
    let channel = |id: &str, topic: &str| {
        format!("[{id}]\ntopic = \"{topic}\"\ndirection = \"to-device\"\npayload_bytes_max = 1\n")
    };
    let open =
        "@id(\"open\") permit (principal is Device, action, resource == Channel::\"b-open\");";
    let first = channel("b-open", "open/{any}") + &channel("c-shut", "shut/{any}");
    let second = channel("a-shut", "shut/{any}") + &channel("b-open", "open/{any}");
    let grants = |channels: &str| {
        let files = base_with(&[("channels/c.toml", channels), ("policies/p.cedar", open)]);
        compile(&files, &[device("d", "camera", &[])])
    };
    let (first, second) = (grants(&first), grants(&second));
    let subject = second.subject(&device("d", "camera", &[]));
    let (is_open, is_shut) = (
        first.resolve("open/x").unwrap(),
        first.resolve("shut/x").unwrap(),
    );
    assert!(second.receive(&subject, &is_open));
    assert!(!second.receive(&subject, &is_shut));
    assert!(second.channel(&is_open).is_none());
}

#[test]
fn topics_of_the_server_are_nobodys() {
    let grants = example();
    for facts in population()
        .into_iter()
        .chain([service("ingest"), service("commander")])
    {
        let subject = grants.subject(&facts);
        assert!(grants.publish(&subject, "$SYS/broker").is_err());
        for wide in ["$SYS/#", "$share/g/v1/camera/cam-1/command/+", "#"] {
            assert!(grants.subscribe(&subject, &filter(wide)).is_err(), "{wide}");
        }
    }
}

#[test]
fn a_forbid_outweighs_every_permit_and_is_named() {
    let grants = example();
    let lost = grants.subject(&device("cam-3", "camera", &["lost"]));
    assert!(grants.publish(&lost, "v1/camera/cam-3/state").is_ok());
    let denied = grants
        .subscribe(&lost, &filter("v1/camera/cam-3/command/+"))
        .unwrap_err();
    assert_eq!(
        grants.verdict(&denied),
        Verdict::Deny {
            reason: DenyReason::Forbidden,
            policy: Some(PolicyId::new("suspended-hears-nothing").unwrap()),
        }
    );
}

#[test]
fn nobody_speaks_on_the_planes_own_channels_but_their_owner_and_the_plane() {
    let grants = example();
    let cam = DeviceId::new("cam-1").unwrap();
    let said = [report_topic(&cam), enroll_topic(&cam)];
    let told = [containment_topic(&cam), certificate_topic(&cam)];
    // A service named like the device, the neighbour, and one whom no fleet knows.
    let others = [
        service("ingest"),
        service("commander"),
        service("cam-1"),
        device("cam-2", "camera", &[]),
        device("stranger", "toaster", &[]),
    ];
    for facts in others {
        let subject = grants.subject(&facts);
        for topic in said.iter().chain(&told) {
            assert!(
                grants.publish(&subject, topic).is_err(),
                "{subject:?} {topic}"
            );
            assert!(!grants.receive(&subject, &grants.resolve(topic).unwrap()));
            assert!(grants.subscribe(&subject, &filter(topic)).is_err());
        }
        for wide in [
            "$fleetward/#",
            "$fleetward/devices/+/report",
            "$fleetward/devices/+/certificate",
            "$fleetward/devices/cam-1/+",
        ] {
            assert!(grants.subscribe(&subject, &filter(wide)).is_err(), "{wide}");
        }
    }
    // The device itself: it reports and it is told, and not the other way round. It need be in no
    // class for that, nor need there be a fleet.
    for grants in [&grants, &Grants::none()] {
        for facts in [
            device("cam-1", "camera", &[]),
            device("cam-1", "toaster", &[]),
        ] {
            let subject = grants.subject(&facts);
            for (number, report) in said.iter().enumerate() {
                let publish = grants.publish(&subject, report).unwrap();
                assert_eq!(
                    (publish.is_report(), publish.is_request()),
                    (number == 0, number == 1)
                );
                assert_eq!(publish.payload_bytes_max, 64 * 1024);
                assert!(!grants.receive(&subject, &grants.resolve(report).unwrap()));
                assert!(grants.subscribe(&subject, &filter(report)).is_err());
            }
            for told in &told {
                assert!(grants.publish(&subject, told).is_err());
                assert!(grants.receive(&subject, &grants.resolve(told).unwrap()));
                assert!(grants.subscribe(&subject, &filter(told)).is_ok());
            }
            for wide in ["$fleetward/devices/cam-1/+", "$fleetward/devices/cam-1/#"] {
                assert!(grants.subscribe(&subject, &filter(wide)).is_err(), "{wide}");
            }
        }
    }
}

#[test]
fn a_fleet_cannot_declare_the_planes_own_channels() {
    for topic in [
        "$fleetward/devices/{device}/report",
        "$fleetward/{rest...}",
        "{any}/devices",
    ] {
        let text = format!(
            "[own]\ntopic = \"{topic}\"\ndirection = \"from-device\"\npayload_bytes_max = 1\n"
        );
        let wrong = Fleet::read(&base_with(&[("channels/own.toml", &text)])).unwrap_err();
        assert!(
            lines(&wrong).contains("begin with `$`"),
            "{}",
            lines(&wrong)
        );
    }
}

#[test]
fn what_a_contained_device_can_reach_is_said_without_its_policies() {
    let grants = example();
    let reach = |containment| {
        let facts = access::Facts {
            containment,
            ..device("cam-1", "camera", &[])
        };
        let reach = grants.reach(&facts);
        let channels: Vec<String> = reach
            .channels
            .iter()
            .map(|one| one.channel.clone())
            .collect();
        (
            channels,
            reach.destinations.len(),
            reach.channels.iter().any(|one| one.others),
        )
    };
    let own = [
        "report",
        "enroll",
        "containment",
        "certificate",
        "desired",
        "reported",
    ]
    .map(|channel| format!("$fleetward/{channel}"));
    let (channels, destinations, others) = reach(None);
    assert!(
        channels.contains(&"camera-telemetry".to_owned()),
        "{channels:?}"
    );
    assert!(channels.ends_with(&own));
    assert_eq!((destinations, others), (2, false));
    assert_eq!(
        reach(Some(Containment::Quarantined)),
        (own.to_vec(), 0, false)
    );
    assert_eq!(reach(Some(Containment::Isolated)), (Vec::new(), 0, false));
    let commander = grants.reach(&service("commander"));
    let command = commander
        .channels
        .iter()
        .find(|one| one.channel == "camera-command");
    assert!(command.is_some_and(|one| one.publishes && one.others && !one.receives));
}

/// A fleet whose old topics name attributes of their owners.
fn with_slots() -> access::Fleet {
    let files = [
        ("fleet.toml", "name = \"old\"\n"),
        ("products/p.toml", "[sensor]\n"),
        ("services/s.toml", "[ingest]\n"),
        (
            "channels/c.toml",
            "[readings]\ntopic = \"plant/{attribute.site}/{attribute.line}/readings\"\n\
             direction = \"from-device\"\npayload_bytes_max = 100\n\
             [state]\ntopic = \"{attribute.site}/dev/{device}/state\"\n\
             direction = \"from-device\"\npayload_bytes_max = 100\n",
        ),
        (
            "policies/p.cedar",
            "@id(\"sends\") permit (principal is Device, action == Action::\"publish\", resource) \
             when { resource.owner == principal };\n\
             @id(\"hears\") permit (principal is Device, action == Action::\"receive\", resource) \
             when { resource.owner == principal };\n\
             @id(\"all\") permit (principal == Service::\"ingest\", action == Action::\"receive\", \
             resource);\n",
        ),
    ];
    fleet(&sources(files))
}

fn sensor(name: &str, attributes: &[(&str, &str)]) -> access::Facts {
    let attributes = attributes.iter().map(|(name, value)| {
        let name = name.parse::<model::AttributeId>().unwrap();
        (name, value.parse::<model::AttributeValue>().unwrap())
    });
    access::Facts {
        attributes: attributes.collect(),
        ..device(name, "sensor", &[])
    }
}

#[test]
fn a_device_owns_the_topics_in_whose_slots_its_attributes_stand_and_no_others() {
    let fleet = with_slots();
    let one = sensor("one", &[("site", "north"), ("line", "7")]);
    let grants = access::Grants::compile(&fleet, [one.clone()]).unwrap();
    let may =
        |facts: &access::Facts, topic: &str| grants.publish(&grants.subject(facts), topic).is_ok();
    assert!(may(&one, "plant/north/7/readings"));
    assert!(may(&one, "north/dev/one/state"));
    for topic in [
        "plant/north/8/readings",
        "plant/south/7/readings",
        "plant/north/7/other",
        "north/dev/two/state",
        "south/dev/one/state",
        "plant/north//readings",
        "$SYS/dev/one/state",
    ] {
        assert!(!may(&one, topic), "{topic}");
    }
    // A name that is another's attribute, a missing attribute, a service by that name: nothing.
    for other in [
        sensor("north", &[("line", "7")]),
        sensor("7", &[]),
        sensor("one", &[]),
        sensor("one", &[("site", "one"), ("line", "one")]),
    ] {
        assert!(!may(&other, "plant/north/7/readings"), "{other:?}");
        assert!(!may(&other, "north/dev/one/state"), "{other:?}");
    }
    let own = |facts: &access::Facts, filter: &str| {
        let filter = mqtt::Filter::new(filter).unwrap();
        grants.subscribe(&grants.subject(facts), &filter).is_ok()
    };
    assert!(own(&one, "plant/north/7/readings"));
    for filter in [
        "plant/+/7/readings",
        "plant/north/+/readings",
        "plant/#",
        "#",
    ] {
        assert!(!own(&one, filter), "{filter}");
    }
}

#[test]
fn devices_that_would_share_topics_by_equal_attributes_are_found() {
    let fleet = with_slots();
    let (one, two) = (
        sensor("one", &[("site", "north"), ("line", "7")]),
        sensor("two", &[("site", "north"), ("line", "7")]),
    );
    let other = sensor("other", &[("site", "north"), ("line", "8")]);
    let bare = sensor("bare", &[("site", "north")]);
    let shared = |all: &[&access::Facts]| {
        let devices: Vec<_> = (all.iter())
            .filter_map(|facts| match &facts.principal {
                model::Principal::Device(id) => Some((id, facts.attributes.as_ref())),
                model::Principal::Service(_) => None,
            })
            .collect();
        let found = fleet.shared_topics(devices.into_iter());
        found
            .into_iter()
            .map(|(channel, ..)| channel.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(shared(&[&one, &two, &other, &bare]), ["readings"]);
    assert!(shared(&[&one, &other, &bare]).is_empty());
}

#[test]
fn stolen_share_name() {
    let fleet = base_with(&[(
        "services/s.toml",
        "[ingest]\nshares = [\"ingest\"]\n[other]\nshares = [\"other\"]\n",
    )]);
    let fleet = access::Fleet::read(&fleet).unwrap();
    let grants = Grants::compile(&fleet, [device("ingest", "camera", &[])]).unwrap();
    let may =
        |facts: &access::Facts, name: &str| grants.share(&grants.subject(facts), name).is_ok();
    assert!(may(&service("ingest"), "ingest"));
    assert!(may(&service("other"), "other"));
    for (facts, name) in [
        (service("ingest"), "other"),
        (service("ingest"), "INGEST"),
        (service("ingest"), ""),
        (service("nobody"), "ingest"),
        // A device called like a service that has it.
        (device("ingest", "camera", &[]), "ingest"),
    ] {
        assert!(!may(&facts, name), "{facts:?} {name:?}");
    }
}
