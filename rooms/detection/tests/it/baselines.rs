//! What is learned, from whom, and what a person makes of it.

use crate::world::*;
use detection::{BaselineState, Settings};
use model::{Attribution, DeviationKind, Source};

const DAY: u64 = 86_400;

fn learning() -> World {
    World::new(Settings::default(), &[], 5)
}

/// Eight days of five cameras that talk to their cloud once an hour.
fn lived(world: &mut World) {
    for hour in 0..8 * 24 {
        for camera in 0..5 {
            let cloud = destination("192.0.2.10", 443, Some("cloud.example"));
            world.see(
                &format!("cam-{camera}"),
                hour * 3600 + camera,
                OUTSIDE,
                cloud,
            );
            world.see(
                &format!("cam-{camera}"),
                hour * 3600 + camera,
                OUTSIDE,
                queries(180, 3600),
            );
        }
    }
}

#[test]
fn a_habit_is_learned_proposed_and_accepted() {
    let mut world = learning();
    lived(&mut world);
    assert_eq!(world.said, []);
    let [baseline] = &world.detector.baselines()[..] else {
        panic!()
    };
    assert_eq!(baseline.state, BaselineState::Proposed);
    let cloud = &baseline.entries[0];
    assert_eq!(
        (cloud.value.as_str(), cloud.devices),
        ("cloud.example:443/tcp", 5)
    );
    assert!(cloud.accepted && !cloud.declared);

    let found = world.see(
        "cam-1",
        9 * DAY,
        OUTSIDE,
        destination("203.0.113.66", 4444, None),
    );
    assert!(
        !found[0].accepted_baseline,
        "a habit nobody accepted contains nobody"
    );
    assert!(
        found[0]
            .expected
            .starts_with("cloud.example:443/tcp (learned;"),
        "{}",
        found[0].expected
    );

    assert_eq!(world.detector.accept(&camera(), at(9 * DAY)), Some(1));
    assert_eq!(world.detector.baselines()[0].state, BaselineState::Accepted);
    let found = world.see(
        "cam-2",
        9 * DAY,
        OUTSIDE,
        destination("203.0.113.67", 4444, None),
    );
    assert!(found[0].accepted_baseline);
    let unknown = model::ProductId::new("toaster").unwrap();
    assert_eq!(world.detector.accept(&unknown, at(0)), None);
}

#[test]
fn nothing_a_device_says_and_nothing_unproven_makes_anything_normal() {
    for by in [
        REPORT,
        (Source::Network, Attribution::Address),
        (Source::Gateway, Attribution::Claimed),
    ] {
        let mut world = learning();
        lived(&mut world);
        // Four liars insist for a week before, and after.
        for hour in 0..24 {
            for camera in 1..5 {
                let lie = destination("203.0.113.66", 4444, Some("evil.example"));
                world.see(&format!("cam-{camera}"), 8 * DAY + hour * 3600, by, lie);
            }
        }
        let truth = destination("203.0.113.66", 4444, Some("evil.example"));
        let found = world.see("cam-0", 10 * DAY, OUTSIDE, truth);
        assert_eq!(found.len(), 1, "{by:?}");
    }
}

#[test]
fn lies_during_learning_are_not_proposed() {
    let mut world = learning();
    for camera in 1..5 {
        let lie = destination("203.0.113.66", 4444, Some("evil.example"));
        world.see(&format!("cam-{camera}"), 60, REPORT, lie);
    }
    lived(&mut world);
    let baseline = &world.detector.baselines()[0];
    let evil = baseline
        .entries
        .iter()
        .find(|e| e.value.starts_with("evil"))
        .unwrap();
    assert_eq!((evil.devices, evil.reported, evil.accepted), (0, 4, false));
}

#[test]
fn one_device_alone_teaches_its_group_nothing() {
    let mut world = learning();
    for hour in 0..24 {
        let own = destination("203.0.113.66", 4444, Some("evil.example"));
        world.see("cam-1", hour * 3600, OUTSIDE, own);
    }
    lived(&mut world);
    let found = world.see(
        "cam-1",
        9 * DAY,
        OUTSIDE,
        destination("203.0.113.66", 4444, Some("evil.example")),
    );
    assert_eq!(found[0].kind, DeviationKind::UnexpectedDestination);
}

#[test]
fn a_learned_rate_is_judged_by_its_own_hour_and_says_from_what() {
    let mut world = learning();
    lived(&mut world);
    let mut found = Vec::new();
    for hour in 0..12 {
        found.extend(world.see(
            "cam-1",
            9 * DAY + hour * 3600,
            OUTSIDE,
            queries(2_400, 3600),
        ));
    }
    assert_eq!(
        found.len(),
        8,
        "13 times the usual: after five hours, then each hour"
    );
    assert_eq!(found[0].kind, DeviationKind::DnsSpike);
    assert!(
        found[0].expected.starts_with("about 3.6 queries a minute"),
        "{}",
        found[0].expected
    );
    assert!(!found[0].accepted_baseline);
    // A device's own report of the same is held against the outside's habit by nobody.
    assert_eq!(
        world.see("cam-2", 9 * DAY, REPORT, queries(2_400, 3600)),
        []
    );
}

#[test]
fn what_the_whole_group_does_more_is_not_the_devices_fault() {
    let mut world = World::new(Settings::default(), &[], 200);
    let mut found = 0;
    for hour in 0..14 * 24 {
        // On day ten a cold evening: five times the messages, on all.
        let factor = if hour >= 10 * 24 { 5 } else { 1 };
        for camera in 0..200 {
            let amount = queries(factor * (1500 + camera * 3), 3600);
            found += world
                .see(
                    &format!("cam-{camera}"),
                    hour * 3600 + camera,
                    OUTSIDE,
                    amount,
                )
                .len();
        }
    }
    assert_eq!(found, 0);
}

#[test]
fn a_declared_product_is_seeded_and_has_nothing_to_accept() {
    let mut world = World::seeded();
    let baseline = &world.detector.baselines()[0];
    assert_eq!(baseline.state, BaselineState::Seeded);
    assert!(
        baseline
            .entries
            .iter()
            .all(|entry| entry.declared && entry.accepted)
    );
    assert_eq!(baseline.entries.len(), 7);
    assert_eq!(world.detector.accept(&camera(), at(0)), Some(0));
    world.detector.declare(&[]);
    assert_eq!(world.detector.baselines()[0].entries, []);
}

#[test]
fn a_device_that_moves_or_goes_leaves_nothing_behind() {
    let mut world = World::seeded();
    world.see("cam-1", 0, GATEWAY, session("TLSv1_3"));
    world.see("cam-1", 0, REPORT, report("boot-a", 5));
    let id = device("cam-1");
    world.detector.forget(&id);
    assert_eq!(world.detector.next_deadline(), None);
    assert_eq!(world.detector.baselines()[0].devices, 4);
    world.detector.enroll(&id, &camera());
    assert_eq!(world.see("cam-1", 1, REPORT, report("boot-a", 1)), []);
}
