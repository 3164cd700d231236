//! People decide, and overrule playbooks.

use crate::world::{CONTAIN, World, done_well, id, outside};
use model::{Containment, DeviationKind, IncidentId};
use response::{Decision, Held, IncidentState, Outcome, PersonAct, UnknownIncident};

const KINDS: [DeviationKind; 2] = [
    DeviationKind::UnexpectedDestination,
    DeviationKind::NewListeningPort,
];

fn hijack(world: &mut World, device: &str) {
    for kind in KINDS {
        world.alert(outside(device, kind));
    }
}

#[test]
fn containing_by_hand_has_an_incident_too() {
    let mut world = World::with("");
    world.person(Decision::Contain {
        device: id("cam-1"),
        containment: Containment::Isolated,
    });
    let incident = world.open_incident("cam-1").unwrap();
    assert_eq!(incident.title(), "cam-1: decided by a person");
    assert_eq!(incident.containment, Some(Containment::Isolated));
    assert_eq!(incident.state, IncidentState::Contained);
    assert_eq!(
        world.told(IncidentId(1)),
        ["isolate: as I see it", "isolated"]
    );
}

#[test]
fn a_quarantine_that_ends_after_a_person_isolated_does_not_soften_the_story() {
    let mut world = World::with(CONTAIN);
    world.is_mute = true;
    hijack(&mut world, "cam-1");
    let asked = std::mem::take(&mut world.unanswered);
    world.is_mute = false;
    world.person(Decision::Contain {
        device: id("cam-1"),
        containment: Containment::Isolated,
    });
    for token in asked {
        world.done(token, done_well());
    }
    let incident = world.open_incident("cam-1").unwrap();
    assert_eq!(incident.containment, Some(Containment::Isolated));
}

#[test]
fn what_was_done_already_is_told_and_not_asked_for() {
    let mut world = World::with("");
    let act = PersonAct {
        actor: "admin/a1".into(),
        reason: "smoke".into(),
        decision: Decision::Contain {
            device: id("cam-1"),
            containment: Containment::Quarantined,
        },
        outcome: Some(Outcome::Done {
            entry: Some(41),
            note: "2 sessions".into(),
        }),
    };
    let mut out = Vec::new();
    let incident = world.responder.person(&act, world.now, &mut out).unwrap();
    assert!(
        !out.iter()
            .any(|effect| matches!(effect, response::Effect::Contain { .. }))
    );
    let told: Vec<_> = (out.iter())
        .filter_map(|effect| match effect {
            response::Effect::Step(_, step) => Some((step.what.as_str(), step.entry)),
            _ => None,
        })
        .collect();
    assert_eq!(told, [("quarantine: smoke (2 sessions)", Some(41))]);
    let incident = world.responder.incident(incident).unwrap();
    assert_eq!(incident.containment, Some(Containment::Quarantined));
}

#[test]
fn after_a_person_restored_it_playbooks_keep_off() {
    let mut world = World::with(CONTAIN);
    hijack(&mut world, "cam-1");
    assert_eq!(world.contained.len(), 1);
    world.person(Decision::Restore {
        device: id("cam-1"),
    });
    assert_eq!(
        world.open_incident("cam-1").unwrap().state,
        IncidentState::Open
    );
    assert!(world.contained.is_empty());

    hijack(&mut world, "cam-1");
    assert!(
        world.contained.is_empty(),
        "in the same incident never again"
    );
    assert!(
        world
            .held
            .iter()
            .any(|(.., why)| *why == Held::ActedAlready)
    );

    world.person(Decision::Close {
        incident: IncidentId(1),
    });
    hijack(&mut world, "cam-1");
    assert!(
        world.contained.is_empty(),
        "in another one not within the hour"
    );
    assert!(
        world
            .held
            .iter()
            .any(|(.., why)| *why == Held::PersonDecided)
    );

    world.person(Decision::Close {
        incident: IncidentId(2),
    });
    world.pass(3600);
    hijack(&mut world, "cam-1");
    assert_eq!(world.contained.len(), 1);
}

#[test]
fn restoring_drops_what_playbooks_still_meant_to_do() {
    let mut world = World::with(CONTAIN);
    hijack(&mut world, "cam-1");
    world.alert(outside("cam-1", DeviationKind::DnsSpike));
    world.alert(outside("cam-1", DeviationKind::OutboundVolume));
    world.person(Decision::Restore {
        device: id("cam-1"),
    });
    assert_eq!(world.responder.next_deadline(), None);
    world.pass(60);
    assert!(world.revoked.is_empty());
}

#[test]
fn closing_leaves_the_device_cut_off_and_says_so() {
    let mut world = World::with(CONTAIN);
    hijack(&mut world, "cam-1");
    world.person(Decision::Close {
        incident: IncidentId(1),
    });
    let last = *world.told(IncidentId(1)).last().unwrap();
    assert_eq!(last, "closed: as I see it; the device stays quarantined");
    assert_eq!(world.closed, [IncidentId(1)]);
    world.pass(60);
    assert!(world.revoked.is_empty(), "what is closed does nothing more");

    // A later incident knows that it is cut off, and restoring belongs to it.
    world.alert(outside("cam-1", DeviationKind::Silence));
    let later = world.open_incident("cam-1").unwrap();
    assert_eq!(later.containment, Some(Containment::Quarantined));
    world.person(Decision::Close {
        incident: IncidentId(2),
    });
    world.pass(3 * 86_400);
    world.person(Decision::Restore {
        device: id("cam-1"),
    });
    assert!(world.contained.is_empty());
    assert!(world.told(IncidentId(2)).contains(&"restored"));
    assert!(
        world.open_incident("cam-1").is_none(),
        "restoring opens none"
    );
}

#[test]
fn what_is_not_open_cannot_be_closed() {
    let mut world = World::with(CONTAIN);
    hijack(&mut world, "cam-1");
    let act = |incident| PersonAct {
        actor: "admin/a1".into(),
        reason: String::new(),
        decision: Decision::Close { incident },
        outcome: None,
    };
    let mut out = Vec::new();
    for (incident, refused) in [
        (IncidentId(9), true),
        (IncidentId(1), false),
        (IncidentId(1), true),
    ] {
        let closed = world.responder.person(&act(incident), world.now, &mut out);
        assert_eq!(closed == Err(UnknownIncident(incident)), refused);
    }
}
