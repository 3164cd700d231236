//! What holds whatever happens, in whatever order. The world itself checks with each effect that
//! one incident at most is open about each, that every act has its step and is stored before.

use crate::world::{CONTAIN, World, done_well, id};
use model::{Attribution, Containment, DeviationKind, IncidentId, Severity, Source, Subject};
use proptest::prelude::*;
use response::{AlertSeen, Decision, Outcome};
use std::collections::BTreeSet;

#[derive(Debug, Clone)]
enum Event {
    Alert(AlertSeen),
    Pass(u64),
    Contain(u8, Containment),
    Restore(u8),
    Close(u64),
    Restart,
    /// The next acts are not answered until this comes again.
    Mute,
    Answer(bool),
    Enforce(bool),
}

fn alerts() -> impl Strategy<Value = AlertSeen> {
    (
        0_u8..12,
        proptest::sample::select(DeviationKind::ALL.to_vec()),
        0_u8..3,
        proptest::sample::select(Source::ALL.to_vec()),
        proptest::sample::select(vec![
            Attribution::Proven,
            Attribution::Proven,
            Attribution::Claimed,
            Attribution::Address,
        ]),
        proptest::sample::select(Severity::ALL.to_vec()),
        (prop::bool::weighted(0.1), prop::bool::weighted(0.9)),
    )
        .prop_map(
            |(device, kind, entity, source, attribution, severity, (fleet_event, accepted))| {
                AlertSeen {
                    subject: Subject::Device(id(&format!("cam-{device}"))),
                    entity: format!("tcp/{entity}"),
                    source,
                    attribution,
                    severity,
                    fleet_event,
                    accepted_baseline: accepted,
                    ..crate::world::outside("cam-0", kind)
                }
            },
        )
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => alerts().prop_map(Event::Alert),
        3 => (0_u64..2000).prop_map(Event::Pass),
        1 => (0_u8..12, proptest::sample::select(Containment::ALL.to_vec()))
            .prop_map(|(device, how)| Event::Contain(device, how)),
        1 => (0_u8..12).prop_map(Event::Restore),
        1 => (1_u64..12).prop_map(Event::Close),
        1 => Just(Event::Restart),
        1 => Just(Event::Mute),
        1 => any::<bool>().prop_map(Event::Answer),
        1 => any::<bool>().prop_map(Event::Enforce),
    ]
}

fn device(number: u8) -> model::DeviceId {
    id(&format!("cam-{number}"))
}

fn perform(world: &mut World, event: &Event) {
    match event {
        Event::Alert(alert) => world.alert(alert.clone()),
        Event::Pass(seconds) => world.pass(*seconds),
        Event::Contain(number, containment) => world.person(Decision::Contain {
            device: device(*number),
            containment: *containment,
        }),
        Event::Restore(number) => world.person(Decision::Restore {
            device: device(*number),
        }),
        Event::Close(number) => world.person(Decision::Close {
            incident: IncidentId(*number),
        }),
        Event::Restart => world.restart(),
        Event::Mute => world.is_mute = true,
        Event::Answer(well) => {
            world.is_mute = false;
            for token in std::mem::take(&mut world.unanswered) {
                let failed = Outcome::Failed { why: "x".into() };
                world.done(token, if *well { done_well() } else { failed });
            }
        }
        Event::Enforce(enforce) => {
            for playbook in &mut world.playbooks {
                playbook.mode = if *enforce {
                    response::Mode::Enforce
                } else {
                    response::Mode::Observe
                };
            }
            let playbooks = world.playbooks.clone();
            world.responder.playbooks(playbooks);
        }
    }
}

const TWO: &str = r#"
[hasty]
mode = "enforce"
kinds = ["unexpected-destination", "new-listening-port", "dns-spike", "firmware-drift", "silence"]
kinds_min = 1
severity_min = "low"
contain_max = 3
steps = [{ action = "isolate", after_seconds = 30 }, { action = "notify", to = "desk" }, { action = "revoke", after_seconds = 900, when_kinds_min = 2 }]
"#;

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn caps_hold_and_nothing_unproven_cuts_off(events in proptest::collection::vec(events(), 1..150)) {
        let mut world = World::with(&format!("{CONTAIN}{TWO}"));
        let mut outside: BTreeSet<model::DeviceId> = BTreeSet::new();
        let mut observing = false;
        for event in &events {
            if let Event::Alert(alert) = event
                && alert.is_outside()
                && !alert.fleet_event
                && let Some(device) = alert.subject.device()
            {
                outside.insert(device.clone());
            }
            if let Event::Enforce(enforce) = event {
                observing = !enforce;
            }
            let before = world.taken.len();
            perform(&mut world, event);
            for taken in world.taken.iter().skip(before).filter(|one| one.by.starts_with("playbook/")) {
                prop_assert!(outside.contains(&taken.device), "{:?} without outside evidence", taken);
                // What was asked for before may be asked again after a restart, and nothing else.
                prop_assert!(!observing || matches!(event, Event::Restart), "{:?} while observing", taken);
            }
        }
        // Devices in any hour, by each playbook and by all. What is asked again after a restart,
        // under its token, is the same act.
        let mut tokens = BTreeSet::new();
        let mut taken = world.by_playbooks();
        taken.retain(|one| tokens.insert(one.token));
        let mut acts = BTreeSet::new();
        for one in &taken {
            let act = (one.token.incident, &one.by, one.what);
            prop_assert!(acts.insert(act), "{:?} twice in one incident", one);
        }
        for one in &taken {
            let from = one.at.minus(std::time::Duration::from_millis(3_599_999));
            let within = |by: Option<&str>| {
                (taken.iter())
                    .filter(|other| other.at >= from && other.at <= one.at)
                    .filter(|other| by.is_none_or(|by| other.by == by))
                    .map(|other| &other.device)
                    .collect::<BTreeSet<_>>()
                    .len()
            };
            prop_assert!(within(Some("playbook/hasty")) <= 3);
            prop_assert!(within(Some("playbook/contain-hijacked")) <= 5);
            prop_assert!(within(None) <= 10);
        }
    }

    #[test]
    fn the_same_calls_give_the_same_effects(events in proptest::collection::vec(events(), 1..80)) {
        let run = || {
            let mut world = World::with(&format!("{CONTAIN}{TWO}"));
            for event in &events {
                perform(&mut world, event);
            }
            (world.steps, world.taken, world.stored)
        };
        prop_assert_eq!(run(), run());
    }
}
