//! What is learned and forgotten, what is kept, and how it is found again.

use crate::{day, device, inventory, known, sighting};
use inventory::{
    ADDRESSES_MAX, Change, Cut, Inventory, Learned, Lifecycle, PEERS_MAX, Posture, Query, Seen,
    Settings, Sighting, Suspicion,
};
use model::{Attribution, Containment, IncidentId, Protocol, RevocationReason, Source, Timestamp};
use std::net::{IpAddr, Ipv4Addr};

fn address(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number))
}

fn peer(number: u32) -> Seen {
    Seen::Peer {
        address: address(number),
        port: 443,
        protocol: Protocol::Tcp,
        host: Some(format!("host-{number}.example")),
        bytes_out: 10,
    }
}

#[test]
fn whoever_only_claims_a_name_or_shares_an_address_writes_nothing_here() {
    let mut inventory = inventory(&["victim"]);
    for attribution in [Attribution::Claimed, Attribution::Address] {
        let forged = Sighting {
            attribution,
            ..sighting(
                "victim",
                day(0),
                Seen::Connected {
                    address: address(66),
                },
            )
        };
        assert_eq!(inventory.learn(&forged), Learned::NotProven);
    }
    let stranger = sighting("nobody", day(0), Seen::Alive);
    assert_eq!(inventory.learn(&stranger), Learned::Unknown);
    let view = inventory.device(&device("victim"), day(0)).unwrap();
    assert!(view.addresses.is_empty() && view.last_seen.is_none() && !view.connected);
    assert!(inventory.device(&device("nobody"), day(0)).is_none());
    assert!(inventory.take_changes(100).is_empty());
}

#[test]
fn a_count_of_sessions_makes_good_what_was_not_told_and_touches_nobody_else() {
    let names = ["gone", "here", "twice", "elsewhere", "away"];
    let mut inventory = inventory(&names);
    let connected = Seen::Connected {
        address: address(1),
    };
    for name in ["gone", "here", "twice", "elsewhere"] {
        inventory.learn(&sighting(name, day(0), connected.clone()));
    }
    let standing = [("here", 1), ("twice", 2), ("away", 1), ("unknown", 1)];
    let standing = standing.map(|(name, count)| (device(name), count)).into();
    let concerned = |one: &model::DeviceId| *one != device("elsewhere");
    assert_eq!(inventory.recount(&standing, concerned), 3);
    let is_connected = |inventory: &Inventory| {
        names.map(|name| inventory.device(&device(name), day(0)).unwrap().connected)
    };
    assert_eq!(is_connected(&inventory), [false, true, true, true, true]);
    assert_eq!(inventory.recount(&standing, concerned), 0);
    // Of two sessions one ends.
    inventory.learn(&sighting("twice", day(0), Seen::Disconnected));
    assert_eq!(is_connected(&inventory), [false, true, true, true, true]);
    assert!(inventory.device(&device("unknown"), day(0)).is_none());
}

#[test]
fn a_life_goes_through_its_words_in_order() {
    let mut inventory = Inventory::new(Settings::default());
    let is = |inventory: &Inventory, at: Timestamp| {
        inventory.device(&device("cam-1"), at).unwrap().lifecycle
    };
    inventory.known(known("cam-1", false));
    assert_eq!(is(&inventory, day(0)), Lifecycle::Expected);
    inventory.known(known("cam-1", true));
    assert_eq!(is(&inventory, day(0)), Lifecycle::Enrolled);
    // Listed again, it stays enrolled.
    inventory.known(known("cam-1", false));
    inventory.learn(&sighting(
        "cam-1",
        day(1),
        Seen::Connected {
            address: address(1),
        },
    ));
    assert_eq!(is(&inventory, day(9)), Lifecycle::Active);
    inventory.learn(&sighting("cam-1", day(9), Seen::Disconnected));
    assert_eq!(is(&inventory, day(9)), Lifecycle::Active);
    assert_eq!(is(&inventory, day(11)), Lifecycle::Silent);
    let retired = inventory::Record {
        retired: true,
        ..inventory::Record::default()
    };
    inventory.record(&device("cam-1"), retired);
    assert_eq!(is(&inventory, day(11)), Lifecycle::Retired);
    inventory.revoked(
        &device("cam-1"),
        Some((day(12), RevocationReason::KeyCompromise)),
    );
    assert_eq!(is(&inventory, day(12)), Lifecycle::Revoked);
}

/// Until it has a certificate of its own, or something graver is known of it.
#[test]
fn who_comes_by_a_certificate_of_many_is_seen_and_counted() {
    let mut inventory = Inventory::new(Settings::default());
    for name in ["old-1", "old-2", "old-3"] {
        inventory.known(known(name, false));
        inventory.shares(&device(name));
    }
    let posture = |inventory: &Inventory, name: &str| {
        inventory.device(&device(name), day(1)).unwrap().posture
    };
    assert_eq!(posture(&inventory, "old-1"), Posture::Shared);
    assert_eq!(inventory.summary(day(1)).sharing, 3);
    inventory.known(known("old-1", true));
    inventory.revoked(
        &device("old-2"),
        Some((day(1), RevocationReason::KeyCompromise)),
    );
    assert_eq!(posture(&inventory, "old-1"), Posture::Trusted);
    assert_eq!(posture(&inventory, "old-2"), Posture::Revoked);
    assert_eq!(inventory.summary(day(1)).sharing, 1);
    assert_eq!(Posture::from_name("shared"), Some(Posture::Shared));
}

#[test]
fn a_posture_always_has_a_cause() {
    let mut inventory = inventory(&["cam-1"]);
    let posture = |inventory: &Inventory| {
        let view = inventory.device(&device("cam-1"), day(0)).unwrap();
        (view.posture, view.posture_cause, view.incident)
    };
    assert_eq!(posture(&inventory), (Posture::Trusted, String::new(), None));
    let suspicion = Suspicion {
        cause: "dns-spike seen by the network".to_owned(),
        incident: Some(IncidentId(3)),
    };
    inventory.suspected(&device("cam-1"), Some(suspicion));
    let (now, cause, incident) = posture(&inventory);
    assert_eq!((now, incident), (Posture::Suspect, Some(IncidentId(3))));
    assert_eq!(cause, "dns-spike seen by the network");
    let cut = Cut {
        containment: Containment::Quarantined,
        since: day(1),
        incident: Some(IncidentId(3)),
        by: "playbook/contain".to_owned(),
    };
    inventory.contained(&device("cam-1"), Some(cut));
    let (now, cause, _) = posture(&inventory);
    assert_eq!(now, Posture::Contained);
    assert!(
        cause.starts_with("quarantined since 20") && cause.ends_with("by playbook/contain, INC-3")
    );
    inventory.revoked(
        &device("cam-1"),
        Some((day(2), RevocationReason::KeyCompromise)),
    );
    assert_eq!(posture(&inventory).0, Posture::Revoked);
    // Barred in advance: nobody listed it.
    inventory.revoked(
        &device("ghost"),
        Some((day(2), RevocationReason::Unspecified)),
    );
    assert!(inventory.device(&device("ghost"), day(2)).is_some());
}

#[test]
fn a_device_that_invents_peers_cannot_push_out_what_others_saw() {
    let mut inventory = inventory(&["cam-1"]);
    let by = |source: Source, number: u32, at: u64| Sighting {
        source,
        ..sighting("cam-1", day(at), peer(number))
    };
    inventory.learn(&by(Source::Network, 1, 0));
    for number in 2..2000 {
        inventory.learn(&by(Source::Device, number, 1));
    }
    let peers = inventory.peers(&device("cam-1"));
    assert_eq!(peers.len(), PEERS_MAX);
    assert!(peers.iter().any(|one| one.address == address(1)));
    // Nor rename it.
    let mut renamed = by(Source::Device, 1, 2);
    if let Seen::Peer { host, .. } = &mut renamed.seen {
        *host = Some("cloud.example".to_owned());
    }
    inventory.learn(&renamed);
    let peers = inventory.peers(&device("cam-1"));
    let seen = peers.iter().find(|one| one.address == address(1)).unwrap();
    assert_eq!(seen.host.as_deref(), Some("host-1.example"));
    assert_eq!((seen.source, seen.bytes_out), (Source::Network, 20));
    // Full of what others saw, its own words find no place.
    for number in 3000..3300 {
        inventory.learn(&by(Source::Gateway, number, 3));
    }
    inventory.learn(&by(Source::Device, 9000, 4));
    let peers = inventory.peers(&device("cam-1"));
    assert_eq!(peers.len(), PEERS_MAX);
    assert!(peers.iter().all(|one| one.source != Source::Device));
}

#[test]
fn a_device_that_lies_about_its_firmware_does_not_clear_what_the_network_saw() {
    let mut inventory = inventory(&["cam-1"]);
    let firmware = |source, version: &str| Sighting {
        source,
        ..sighting(
            "cam-1",
            day(0),
            Seen::Firmware {
                version: version.to_owned(),
                digest: None,
            },
        )
    };
    inventory.learn(&firmware(Source::Network, "3.0.0-evil"));
    inventory.learn(&firmware(Source::Device, "3.1.0"));
    let view = inventory.device(&device("cam-1"), day(0)).unwrap();
    assert_eq!(view.firmware.unwrap().version, "3.0.0-evil");
}

#[test]
fn hostile_strings_are_inert_when_they_come_in() {
    let mut inventory = inventory(&["cam-1"]);
    let hostile = "\u{1b}]0;owned\u{7}<script>\u{202e}\r\n=cmd()";
    let firmware = Seen::Firmware {
        version: hostile.repeat(100),
        digest: None,
    };
    inventory.learn(&sighting("cam-1", day(0), firmware));
    inventory.learn(&sighting(
        "cam-1",
        day(0),
        Seen::Unseen(vec![hostile.to_owned(); 99]),
    ));
    let view = inventory.device(&device("cam-1"), day(0)).unwrap();
    let texts = [view.firmware.unwrap().version, view.unseen.join("")];
    for text in texts {
        assert!(text.len() < 20_000);
        assert!(
            !text.chars().any(|c| c.is_control() || c == '\u{202e}'),
            "{text:?}"
        );
    }
    assert_eq!(view.unseen.len(), 16);
}

#[test]
fn addresses_are_few_and_old_ones_go() {
    let mut inventory = inventory(&["cam-1"]);
    for number in 0..40 {
        let seen = Seen::Address(address(number));
        inventory.learn(&sighting("cam-1", day(u64::from(number)), seen));
    }
    let view = inventory.device(&device("cam-1"), day(40)).unwrap();
    assert_eq!(view.addresses.len(), ADDRESSES_MAX);
    assert_eq!(view.addresses[0].address, address(39));
    inventory.forget_old(day(39 + 30));
    let view = inventory.device(&device("cam-1"), day(69)).unwrap();
    let left: Vec<IpAddr> = view.addresses.iter().map(|one| one.address).collect();
    assert_eq!(left, [address(39)]);
}

#[test]
fn what_is_kept_brings_the_same_back() {
    let names = ["cam-1", "cam-2", "cam-3"];
    let mut before = inventory(&names);
    for (number, name) in (0u32..).zip(names) {
        before.learn(&sighting(
            name,
            day(1),
            Seen::Connected {
                address: address(number),
            },
        ));
        for other in 0..5 {
            before.learn(&sighting(name, day(2), peer(other * 7 + number)));
        }
        before.learn(&sighting(
            name,
            day(2),
            Seen::Unseen(vec!["dns".to_owned()]),
        ));
        before.learn(&sighting(name, day(3), Seen::Disconnected));
    }
    let mut after = inventory(&names);
    // In small parts, one of which is not written at first.
    let mut failed = true;
    loop {
        let changes = before.take_changes(4);
        if changes.is_empty() {
            break;
        }
        if std::mem::take(&mut failed) {
            before.keep_again(changes);
            continue;
        }
        changes.into_iter().for_each(|change| after.restore(change));
    }
    for name in names {
        assert_eq!(
            before.device(&device(name), day(3)),
            after.device(&device(name), day(3))
        );
        assert_eq!(before.peers(&device(name)), after.peers(&device(name)));
    }
    assert!(before.take_changes(9).is_empty(), "nothing is kept twice");
}

#[test]
fn a_sign_of_life_is_kept_once_a_minute_and_not_each_second() {
    let mut inventory = inventory(&["cam-1"]);
    let start = day(0);
    let mut rows = 0;
    for second in 0..600 {
        let at = start.plus(std::time::Duration::from_secs(second));
        inventory.learn(&sighting("cam-1", at, Seen::Alive));
        rows += inventory.take_changes(100).len();
    }
    assert_eq!(rows, 10);
}

#[test]
fn pages_hold_every_device_once_and_count_them_all() {
    let names: Vec<String> = (0..250).map(|n| format!("cam-{n:03}")).collect();
    let mut inventory = inventory(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for number in 0..25u32 {
        let name = format!("cam-{:03}", number * 10);
        inventory.learn(&sighting(
            &name,
            day(0),
            Seen::Connected {
                address: address(number),
            },
        ));
    }
    let mut query = Query {
        limit: 7,
        ..Query::default()
    };
    let mut seen = Vec::new();
    loop {
        let page = inventory.search(&query, day(0));
        assert_eq!(page.total, 250);
        seen.extend(page.devices.iter().map(|one| one.device.to_string()));
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, names);
    let search = |text: &str| {
        let query = Query {
            search: Some(text.to_owned()),
            limit: 1000,
            ..Query::default()
        };
        inventory.search(&query, day(0)).total
    };
    assert_eq!(search("CAM-01"), 10);
    assert_eq!(search("sn cam-123"), 1);
    assert_eq!(search("10.0.0.2"), 6, "10.0.0.2 and 10.0.0.20 to .24");
    assert_eq!(search("NORTH"), 250);
    assert_eq!(search("nothing"), 0);
    let active = Query {
        lifecycle: Some(Lifecycle::Active),
        connected: Some(true),
        limit: 1,
        ..Query::default()
    };
    assert_eq!(inventory.search(&active, day(0)).total, 25);
    assert_eq!(inventory.summary(day(0)).connected, 25);
}

#[test]
fn changes_name_what_must_go() {
    let mut inventory = inventory(&["cam-1"]);
    for number in 0..17 {
        inventory.learn(&sighting(
            "cam-1",
            day(u64::from(number)),
            Seen::Address(address(number)),
        ));
    }
    let changes = inventory.take_changes(100);
    let gone = Change::ForgetAddress(device("cam-1"), address(0));
    assert!(changes.contains(&gone), "{changes:?}");
}
