//! A crash between any two effects forgets nothing and repeats nothing.

use crate::world::{CONTAIN, World, id, outside};
use model::{DeviationKind, IncidentId};
use response::{Decision, Held};

const FOUR: [DeviationKind; 4] = [
    DeviationKind::UnexpectedDestination,
    DeviationKind::NewListeningPort,
    DeviationKind::DnsSpike,
    DeviationKind::OutboundVolume,
];

#[test]
fn an_act_whose_end_is_unknown_is_asked_for_again_under_its_token() {
    let mut world = World::with(CONTAIN);
    world.is_mute = true;
    world.alert(outside("cam-1", FOUR[0]));
    world.alert(outside("cam-1", FOUR[1]));
    let asked = std::mem::take(&mut world.unanswered);
    assert_eq!(asked.len(), 2, "quarantine and notify");
    world.restart();
    assert_eq!(world.unanswered, asked);
    world.is_mute = false;
    world.restart();
    assert_eq!(world.taken.len(), 3);
    let steps = world.told(IncidentId(1)).len();
    world.restart();
    assert_eq!(world.taken.len(), 3, "what is answered is not asked again");
    assert_eq!(
        world.told(IncidentId(1)).len(),
        steps,
        "and a restart alone says nothing"
    );
}

#[test]
fn a_step_that_waits_is_taken_after_a_restart() {
    let mut world = World::with(CONTAIN);
    for kind in FOUR {
        world.alert(outside("cam-1", kind));
    }
    world.restart();
    assert!(world.responder.next_deadline().is_some());
    world.pass(5);
    assert!(world.revoked.contains(&id("cam-1")));
    assert_eq!(world.taken.len(), 2, "one quarantine, one revocation");
}

#[test]
fn a_persons_decision_outlives_a_restart() {
    let mut world = World::with(CONTAIN);
    world.alert(outside("cam-1", FOUR[0]));
    world.alert(outside("cam-1", FOUR[1]));
    world.person(Decision::Restore {
        device: id("cam-1"),
    });
    world.person(Decision::Close {
        incident: IncidentId(1),
    });
    world.restart();
    world.alert(outside("cam-1", FOUR[0]));
    world.alert(outside("cam-1", FOUR[1]));
    assert!(world.contained.is_empty());
    assert!(
        world
            .held
            .iter()
            .any(|(.., why)| *why == Held::PersonDecided)
    );
}

#[test]
fn who_is_cut_off_is_known_without_its_incident() {
    let mut world = World::with(CONTAIN);
    world.alert(outside("cam-1", FOUR[0]));
    world.alert(outside("cam-1", FOUR[1]));
    world.person(Decision::Close {
        incident: IncidentId(1),
    });
    world.stored.clear();
    world.restart();
    world.alert(outside("cam-1", FOUR[0]));
    let incident = world.open_incident("cam-1").unwrap();
    assert!(incident.containment.is_some());
}
