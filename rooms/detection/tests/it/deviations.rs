//! Each way to behave otherwise, on a product whose behaviour is declared.

use crate::world::*;
use detection::Feature;
use model::{Attribution, DeviationKind, Digest, Protocol, ServiceId, Severity, Source, Subject};
use std::time::Duration;

#[test]
fn an_unlisted_destination_says_what_was_expected_and_what_was_seen() {
    let mut world = World::seeded();
    for benign in [
        destination("192.0.2.9", 443, Some("Video.Example.NET.")),
        Feature::Destination {
            address: "198.51.100.7".parse().unwrap(),
            port: 123,
            protocol: Protocol::Udp,
            host: None,
            bytes_out: 48,
        },
        destination("224.0.0.251", 5353, None),
    ] {
        assert_eq!(world.see("cam-1", 0, OUTSIDE, benign), []);
    }
    let found = world.see("cam-1", 1, OUTSIDE, destination("203.0.113.66", 4444, None));
    let [one] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(one.kind, DeviationKind::UnexpectedDestination);
    assert_eq!(one.entity, "203.0.113.0/24:4444/tcp");
    assert_eq!(one.seen, "203.0.113.66:4444/tcp, 18 kB out");
    assert_eq!(
        one.expected,
        "video.example.net:443/tcp, 198.51.100.0/24:123/udp"
    );
    assert_eq!(one.observed_by, "network (bridge port)");
    assert_eq!(one.severity, Severity::High);
    assert!(one.accepted_baseline);
    // The right name at the wrong port, or the right port by the wrong protocol, is another place.
    let wrong_port = destination("192.0.2.9", 8443, Some("video.example.net"));
    assert_eq!(world.see("cam-2", 2, OUTSIDE, wrong_port).len(), 1);
    // Said again only later, or by somebody else.
    let again = || destination("203.0.113.66", 4444, None);
    assert_eq!(world.see("cam-1", 3, OUTSIDE, again()), []);
    assert_eq!(world.see("cam-1", 3, REPORT, again()).len(), 1);
    assert_eq!(world.see("cam-1", 3700, OUTSIDE, again()).len(), 1);
}

#[test]
fn a_scan_is_one_matter_and_pushes_no_other_device_out() {
    let mut world = World::seeded();
    for host in 0..5000_u32 {
        let address = format!("203.0.{}.{}", host / 250, host % 250 + 1);
        world.see(
            "cam-1",
            u64::from(host) / 100,
            OUTSIDE,
            destination(&address, 23, None),
        );
    }
    assert!(world.said.len() < 40, "{}", world.said.len());
    assert!(world.said.iter().any(|d| d.entity == "many destinations"));
    assert_eq!(
        world
            .see("cam-2", 60, OUTSIDE, destination("203.0.1.1", 23, None))
            .len(),
        1
    );
}

#[test]
fn a_new_port_a_foreign_image_and_a_renamed_image_are_found_at_once() {
    let mut world = World::seeded();
    let port = |port| Feature::ListeningPort {
        port,
        protocol: Protocol::Tcp,
    };
    assert_eq!(world.see("cam-1", 0, REPORT, port(554)), []);
    let found = world.see("cam-1", 0, REPORT, port(2323));
    assert_eq!(found[0].kind, DeviationKind::NewListeningPort);
    assert_eq!(found[0].severity, Severity::High);
    assert_eq!(found[0].observed_by, "device report");

    let firmware = |version: &str, image| Feature::Firmware {
        version: version.to_owned(),
        digest: Some(Digest([image; 32])),
    };
    assert_eq!(world.see("cam-1", 1, REPORT, firmware("3.1.0", 7)), []);
    let renamed = world.see("cam-1", 2, REPORT, firmware("3.1.0", 8));
    assert_eq!(renamed[0].severity, Severity::High);
    assert_eq!(renamed[0].expected, "runs 3.1.0 (070707070707)");
    let foreign = world.see("cam-1", 3, REPORT, firmware("9.9", 9));
    assert_eq!(foreign[0].severity, Severity::Medium);
}

#[test]
fn a_burst_is_seen_before_its_minute_is_over() {
    let mut world = World::seeded();
    for second in 0..3 {
        assert_eq!(world.see("cam-1", second, OUTSIDE, queries(20, 1)), []);
    }
    let found = world.see("cam-1", 3, OUTSIDE, queries(20, 1));
    assert_eq!(found[0].kind, DeviationKind::DnsSpike);
    assert_eq!(found[0].expected, "at most 60 queries a minute (declared)");
    assert_eq!(found[0].seen, "80 queries in 4.0 s");
    let volume = Feature::BytesOut {
        bytes: 40_000_000,
        packets: 30_000,
        interval: Duration::from_secs(1),
    };
    let found = world.see("cam-1", 4, OUTSIDE, volume);
    assert_eq!(found[0].kind, DeviationKind::OutboundVolume);
    assert_eq!(found[0].severity, Severity::High);
}

#[test]
fn exactly_the_declared_rate_is_no_deviation() {
    let mut world = World::seeded();
    for second in 0..600 {
        world.see("cam-1", second, OUTSIDE, queries(1, 1));
    }
    assert_eq!(world.said, []);
}

#[test]
fn data_in_names_is_seen_whatever_its_rate() {
    let mut world = World::seeded();
    let names = (0..6).map(|n| format!("{n}f3a9c0e1b2d4958671605f4e3d2c1b0a.t.evil.example"));
    let feature = Feature::DnsQueries {
        queries: 6,
        names: names.collect(),
        interval: Duration::from_secs(60),
    };
    let found = world.see("cam-1", 0, OUTSIDE, feature);
    assert_eq!(found[0].entity, "names under t.evil.example");
}

#[test]
fn an_older_protocol_than_declared_or_spoken_before_is_a_downgrade() {
    let mut world = World::seeded();
    assert_eq!(world.see("cam-1", 0, GATEWAY, session("TLSv1_3")), []);
    let found = world.see("cam-1", 10, GATEWAY, session("TLSv1_2"));
    assert_eq!(found[0].kind, DeviationKind::ProtocolDowngrade);
    assert_eq!(found[0].expected, "TLS 1.3 or newer (declared)");
    assert_eq!(found[0].observed_by, "gateway (mqtt)");

    let mut undeclared = World::new(detection::Settings::default(), &[], 2);
    assert_eq!(undeclared.see("cam-1", 0, GATEWAY, session("TLSv1_2")), []);
    undeclared.see("cam-1", 1, GATEWAY, session("TLSv1_3"));
    let found = undeclared.see("cam-1", 2, GATEWAY, session("TLSv1_2"));
    assert_eq!(found[0].expected, "TLS 1.3, which it spoke before");
    assert!(!found[0].accepted_baseline, "nobody accepted that habit");
    // After a season nobody remembers.
    assert_eq!(
        undeclared.see("cam-1", 130 * 86_400, GATEWAY, session("TLSv1_2")),
        []
    );
}

#[test]
fn two_unusual_refusals_are_no_accident_and_many_expired_ones_may_be() {
    let mut world = World::seeded();
    assert_eq!(
        world.see("cam-1", 0, OUTSIDE, refused("unknown-issuer"))[0].severity,
        Severity::Low
    );
    let second = world.see("cam-1", 1, OUTSIDE, refused("unknown-issuer"));
    assert_eq!(second[0].severity, Severity::Medium);
    for second in 0..10 {
        assert_eq!(
            world.see(
                "cam-2",
                10 + second,
                GATEWAY,
                refused("certificate-expired")
            ),
            []
        );
    }
    for second in 0..60 {
        world.see(
            "cam-2",
            20 + second,
            GATEWAY,
            refused("certificate-expired"),
        );
    }
    let last = world.said.last().unwrap();
    assert_eq!(
        (last.entity.as_str(), last.severity),
        ("certificate-expired", Severity::Low)
    );
}

#[test]
fn a_stranger_who_presents_a_victims_certificate_proves_nothing_about_it() {
    let mut world = World::seeded();
    let claimed = (Source::Gateway, Attribution::Claimed);
    for second in 0..1000 {
        world.see("cam-1", second / 10, claimed, refused("no-possession"));
        world.see(
            "cam-1",
            second / 10,
            claimed,
            Feature::ProtocolTooOld {
                offered: "TLSv1_2".to_owned(),
                door: "mqtt".to_owned(),
            },
        );
    }
    assert!(!world.said.is_empty());
    for said in &world.said {
        assert_eq!(said.attribution, Attribution::Claimed);
        assert!(said.severity <= Severity::Medium, "{said:?}");
    }
    // And it does not make the victim's own first failure look usual, or grave.
    let own = world.see("cam-1", 120, OUTSIDE, refused("no-possession"));
    assert_eq!(own[0].severity, Severity::Low);
}

#[test]
fn a_stranger_who_shares_a_victims_address_proves_nothing_about_it() {
    let mut world = World::seeded();
    let by_address = (Source::Network, Attribution::Address);
    for second in 0..100 {
        world.see(
            "cam-1",
            second,
            by_address,
            destination("203.0.113.66", 4444, None),
        );
        world.see("cam-1", second, by_address, queries(5_000, 1));
        world.see("cam-1", second, by_address, refused("unknown-issuer"));
    }
    assert!(world.said.len() >= 3);
    assert!(
        world
            .said
            .iter()
            .all(|said| said.attribution == Attribution::Address)
    );
    // The same, proven, is said although it was said before.
    let proven = world.see(
        "cam-1",
        101,
        OUTSIDE,
        destination("203.0.113.66", 4444, None),
    );
    assert_eq!(proven[0].attribution, Attribution::Proven);
}

#[test]
fn a_door_tried_once_is_a_look_and_many_doors_are_grave() {
    let mut world = World::seeded();
    let first = world.see("cam-1", 0, GATEWAY, denied("v1/lock/l-1/command/open"));
    assert_eq!(first[0].severity, Severity::Low);
    assert_eq!(
        world.see("cam-1", 1, GATEWAY, denied("v1/lock/l-2/command/open"))[0].severity,
        Severity::Medium
    );
    let third = world.see("cam-1", 2, GATEWAY, denied("v1/lock/l-3/command/open"));
    assert_eq!(third[0].severity, Severity::High);
    assert_eq!(
        third[0].seen,
        "3 denied (no-permit) within 2.0 s, last v1/lock/l-3/command/open"
    );
    // What our own containment denies is no new offence; a fast hour is not grave.
    for second in 10..200 {
        world.see(
            "cam-2",
            second,
            GATEWAY,
            Feature::Denied {
                action: "publish".to_owned(),
                target: "v1/camera/cam-2/telemetry".to_owned(),
                reason: "contained".to_owned(),
            },
        );
    }
    assert!(
        world
            .said
            .iter()
            .all(|said| said.subject != Subject::Device(device("cam-2")))
    );
}

#[test]
fn sessions_that_push_each_other_out_are_two_programs() {
    let mut world = World::seeded();
    let takeover = |from: &str, previous: &str| Feature::TakenOver {
        same_certificate: true,
        from: from.parse().unwrap(),
        previous_from: Some(previous.parse().unwrap()),
    };
    // New addresses after a lost line are life.
    let (home, abroad) = ("192.0.2.1", "203.0.113.9");
    assert_eq!(world.see("cam-1", 0, GATEWAY, takeover(abroad, home)), []);
    assert_eq!(world.see("cam-1", 5, GATEWAY, takeover(home, abroad)), []);
    let found = world.see("cam-1", 9, GATEWAY, takeover(abroad, home));
    assert_eq!(found[0].kind, DeviationKind::SharedIdentity);
    assert_eq!(found[0].severity, Severity::Medium);
    // From one address it takes more.
    for second in 0..4 {
        let same = takeover(home, home);
        assert_eq!(world.see("cam-2", 800 + second, GATEWAY, same), []);
    }
    let same = takeover(home, home);
    assert_eq!(world.see("cam-2", 804, GATEWAY, same).len(), 1);
    // Now and then, all month, is a bad line.
    for hour in 1..700 {
        assert_eq!(
            world.see("cam-3", hour * 3600, GATEWAY, takeover(abroad, home)),
            []
        );
    }
}

/// Slower than the ten minutes: one of the two comes now and then, and the other is back at once.
#[test]
fn attack_a_copy_that_comes_once_an_hour() {
    let mut world = World::seeded();
    let takeover = |from: &str, previous: &str| Feature::TakenOver {
        same_certificate: true,
        from: from.parse().unwrap(),
        previous_from: Some(previous.parse().unwrap()),
    };
    let (victim, thief) = ("192.0.2.1", "203.0.113.9");
    for hour in 0..3 {
        let at = hour * 3600;
        assert_eq!(world.see("cam-1", at, GATEWAY, takeover(thief, victim)), []);
        let back = world.see("cam-1", at + 5, GATEWAY, takeover(victim, thief));
        assert_eq!(back.len(), usize::from(hour == 2), "{back:?}");
    }
    // Whoever moves to and fro is pushed out by nobody but itself, and comes back when it moves.
    for hour in 0..100 {
        let at = 20_000 + hour * 1800;
        let (here, there) = if hour % 2 == 0 {
            (victim, thief)
        } else {
            (thief, victim)
        };
        assert_eq!(world.see("cam-2", at, GATEWAY, takeover(here, there)), []);
    }
}

#[test]
fn attack_a_copy_behind_the_same_address_with_a_certificate_of_its_own() {
    let mut world = World::seeded();
    let other = || Feature::TakenOver {
        same_certificate: false,
        from: "192.0.2.1".parse().unwrap(),
        previous_from: Some("192.0.2.1".parse().unwrap()),
    };
    for hour in 0..3 {
        // One or two of them a day are renewals.
        assert_eq!(world.see("cam-1", hour * 3600, GATEWAY, other()), []);
    }
    let found = world.see("cam-1", 4 * 3600, GATEWAY, other());
    assert_eq!(found[0].kind, DeviationKind::SharedIdentity);
    // What was days ago counts no more.
    for day in 0..30 {
        assert_eq!(world.see("cam-2", day * 90_000, GATEWAY, other()), []);
    }
}

#[test]
fn attack_one_identity_at_two_doors_from_two_places() {
    let mut world = World::seeded();
    let opened = |address: &str| Feature::SessionOpened {
        address: address.parse().unwrap(),
        certificate: model::CertificateId::new(model::Digest([1; 32]), &[1]).unwrap(),
    };
    let at_door = |address: &str| Feature::DoorOpened {
        door: "devices".to_owned(),
        address: address.parse().unwrap(),
    };
    // Without a session anywhere, and from where it is.
    assert_eq!(world.see("cam-1", 0, GATEWAY, at_door("203.0.113.9")), []);
    assert_eq!(world.see("cam-1", 1, GATEWAY, opened("2001:db8::1")), []);
    for second in 2..20 {
        let same = at_door("2001:db8::9999");
        assert_eq!(world.see("cam-1", second, GATEWAY, same), []);
    }
    for second in 20..22 {
        let other = at_door("203.0.113.9");
        assert_eq!(world.see("cam-1", second, GATEWAY, other), []);
    }
    let found = world.see("cam-1", 22, GATEWAY, at_door("203.0.113.9"));
    assert_eq!(found[0].entity, "two doors at once");
    // One with two lines does the same: nobody is contained for it.
    assert!(!found[0].accepted_baseline);
    assert_eq!(
        world.see("cam-1", 23, GATEWAY, Feature::SessionEnded { lost: false }),
        []
    );
    for second in 24..40 {
        let later = at_door("198.51.100.7");
        assert_eq!(world.see("cam-1", second, GATEWAY, later), []);
    }
}

/// Whoever shows a key that has been published proves nothing, so nothing is proven of the device
/// whose key it was: nobody makes us contain a victim by a list of leaked keys.
#[test]
fn attack_a_victims_published_key() {
    let mut world = World::seeded();
    let claimed = (Source::Gateway, Attribution::Claimed);
    let known = Feature::KnownKey {
        flaw: "published".to_owned(),
        door: "mqtt".to_owned(),
    };
    let found = world.see("cam-1", 0, claimed, known);
    assert_eq!(found[0].kind, DeviationKind::SharedIdentity);
    assert_eq!(found[0].attribution, Attribution::Claimed);
}

#[test]
fn old_reports_replayed_are_found_and_resent_ones_are_not() {
    let mut world = World::seeded();
    for sequence in 1..=100 {
        assert_eq!(
            world.see("cam-1", sequence, REPORT, report("boot-a", sequence)),
            []
        );
    }
    // The last few again, after a session that broke.
    for sequence in 98..=100 {
        assert_eq!(
            world.see("cam-1", 101, REPORT, report("boot-a", sequence)),
            []
        );
    }
    let found = world.see("cam-1", 102, REPORT, report("boot-a", 40));
    assert_eq!(found[0].kind, DeviationKind::ReplayedReport);
    assert_eq!(found[0].expected, "report 101 or later");
    // A restart is life; the boot before it is over.
    assert_eq!(world.see("cam-1", 103, REPORT, report("boot-b", 1)), []);
    let found = world.see("cam-1", 8000, REPORT, report("boot-a", 101));
    assert_eq!(found[0].kind, DeviationKind::ReplayedReport);
    // The newest report, over and over.
    let before = world.said.len();
    for second in 0..20 {
        world.see("cam-1", 20_000 + second, REPORT, report("boot-b", 1));
    }
    assert!(world.said.len() > before);
}

#[test]
fn replayed_reports_are_no_sign_of_life_and_silence_is_never_grave() {
    let mut world = World::seeded();
    for sequence in 1..=20 {
        world.see("cam-1", sequence * 60, REPORT, report("boot-a", sequence));
    }
    for hour in 0..20 {
        world.see("cam-1", 2000 + hour * 3600, REPORT, report("boot-a", 3));
    }
    let due = world.detector.next_deadline().unwrap();
    assert!(due >= at(86_400) && due <= at(87_700), "{due}");
    let mut out = Vec::new();
    world.detector.wake(at(86_000), &mut out);
    assert_eq!(out, []);
    world.detector.wake(at(200_000), &mut out);
    assert_eq!(out.len(), 1);
    assert_eq!(
        (out[0].kind, out[0].severity),
        (DeviationKind::Silence, Severity::Low)
    );
    assert_eq!(out[0].attribution, Attribution::Claimed);
    assert_eq!(world.detector.next_deadline(), None, "it is said once");
    // Back after weeks: nothing to say, and more patience from then on.
    assert_eq!(
        world.see("cam-1", 30 * 86_400, REPORT, report("boot-b", 1)),
        []
    );
    assert!(world.detector.next_deadline().unwrap() > at(80 * 86_400));
}

#[test]
fn a_service_that_commands_far_more_devices_than_before_is_abuse() {
    let mut world = World::seeded();
    let subject = Subject::Service(ServiceId::new("ingest").unwrap());
    let fan_out = |devices| Feature::CommandFanOut {
        devices,
        interval: Duration::from_secs(60),
    };
    for minute in 0..30 {
        let seen = world.see_of(subject.clone(), minute * 60, GATEWAY, fan_out(10));
        assert_eq!(seen, []);
    }
    let found = world.see_of(subject.clone(), 1900, GATEWAY, fan_out(300));
    assert_eq!(found[0].kind, DeviationKind::ApiAbuse);
    assert_eq!(found[0].seen, "commands to 300 devices a minute");
}

#[test]
fn guessed_sign_ins_are_seen_and_the_guess_that_succeeds_is_grave() {
    let mut world = World::seeded();
    let subject = Subject::Address("2001:db8::1".parse().unwrap());
    for second in 0..3 {
        let slip = Feature::SignIn { accepted: false };
        assert_eq!(world.see_of(subject.clone(), second, GATEWAY, slip), []);
    }
    assert_eq!(
        world.see_of(
            subject.clone(),
            4,
            GATEWAY,
            Feature::SignIn { accepted: true }
        ),
        []
    );
    for second in 5..30 {
        // Another address of the same line is the same somebody.
        let other = Subject::Address(format!("2001:db8::{second}").parse().unwrap());
        world.see_of(other, second, GATEWAY, Feature::SignIn { accepted: false });
    }
    assert_eq!(world.said.last().unwrap().kind, DeviationKind::ApiAbuse);
    let found = world.see_of(subject, 31, GATEWAY, Feature::SignIn { accepted: true });
    assert_eq!(found[0].severity, Severity::High);
}

#[test]
fn text_of_a_device_is_cut_and_cannot_act() {
    let mut world = World::seeded();
    let nasty = "\u{1b}[2J\u{202e}<script>\r\n=cmd()".repeat(200);
    world.see("cam-1", 0, GATEWAY, denied(&nasty));
    world.see(
        "cam-1",
        0,
        OUTSIDE,
        destination("203.0.113.1", 1, Some(&nasty)),
    );
    world.see("cam-1", 0, OUTSIDE, refused(&nasty));
    world.see("cam-1", 0, GATEWAY, session(&nasty));
    world.see(
        "cam-1",
        0,
        REPORT,
        Feature::Firmware {
            version: nasty.clone(),
            digest: None,
        },
    );
    for sequence in [9, 9, 1] {
        world.see("cam-1", 0, REPORT, report(&nasty, sequence));
    }
    let names = (0..9).map(|n| format!("{n}{}.{nasty}.{nasty}", "a".repeat(30)));
    world.see(
        "cam-1",
        0,
        OUTSIDE,
        Feature::DnsQueries {
            queries: 9,
            names: names.collect(),
            interval: Duration::from_secs(1),
        },
    );
    world.see(
        "cam-1",
        0,
        GATEWAY,
        Feature::ProtocolTooOld {
            offered: nasty.clone(),
            door: nasty.clone(),
        },
    );
    assert!(world.said.len() >= 6, "{:?}", world.said);
    for said in &world.said {
        for text in [&said.entity, &said.expected, &said.seen, &said.observed_by] {
            assert!(text.len() <= 512, "{text}");
            assert!(text.bytes().all(|b| (0x20..0x7f).contains(&b)), "{text:?}");
        }
    }
}

#[test]
fn a_name_nobody_enrolled_costs_nothing_and_says_nothing() {
    let mut world = World::seeded();
    for index in 0..1000 {
        let name = format!("ghost-{index}");
        let claimed = (Source::Gateway, Attribution::Claimed);
        assert_eq!(
            world.see(&name, index, claimed, refused("unknown-issuer")),
            []
        );
    }
    let other = World::seeded_at(999).detector;
    assert_eq!(
        world.detector.snapshot_of_groups(),
        other.snapshot_of_groups()
    );
    for part in 0..=u8::MAX {
        assert_eq!(
            world.detector.snapshot_of_devices(part),
            other.snapshot_of_devices(part)
        );
    }
}

impl World {
    /// A fleet of which only the time is known.
    fn seeded_at(seconds: u64) -> Self {
        let mut world = Self::seeded();
        world.see("ghost", seconds, GATEWAY, session("TLSv1_3"));
        world
    }
}
