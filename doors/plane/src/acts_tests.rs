//! A plane without anybody at its doors: what it does when acts cross each other, when the record
//! lags behind, and when what it remembers is damaged.

use crate::config::Config;
use crate::entries::{self, Actor};
use crate::events::{About, Found};
use crate::flow;
use crate::judge::Judged;
use crate::listen::Doors;
use crate::plane::Plane;
use crate::respond::timeline;
use crate::startup::Foundation;
use crate::withdrawing::{self, Containing};
use model::{Containment, DeviceId, IncidentId, Severity, Subject, Timestamp};
use response::{Decision, Effect, Outcome, PersonAct, Responder, Settings, Step};
use std::sync::Arc;
use store::{Change, Direction, IncidentState, Write};
use tempfile::TempDir;

fn plane() -> (Arc<Plane>, TempDir) {
    let scratch = tempfile::tempdir().unwrap();
    let text = format!(
        "data_dir = {:?}\n[listen]\npeople = \"127.0.0.1:0\"\ndevices = \"127.0.0.1:0\"\n\
         mqtt = \"127.0.0.1:0\"\n[gateway]\nshards = 1\ndurability = \"process\"\n",
        scratch.path().join("data")
    );
    let config = Config::from_text(&text, &|_| None).unwrap();
    let foundation = Foundation::open(&config).unwrap();
    let doors = Doors::bind(&config.listen).unwrap();
    (foundation.into_plane(config, &doors).unwrap(), scratch)
}

async fn end(plane: Arc<Plane>) {
    tokio::task::spawn_blocking(move || plane.shards().drain())
        .await
        .unwrap();
}

fn cam() -> DeviceId {
    "cam-1".parse().unwrap()
}

fn containing(containment: Containment) -> Containing {
    Containing {
        device: cam(),
        containment,
        incident: None,
        reason: "a test says so".into(),
    }
}

fn decided(containment: Containment) -> PersonAct {
    PersonAct {
        actor: "admin/a1".into(),
        reason: "as I see it".into(),
        decision: Decision::Contain {
            device: cam(),
            containment,
        },
        outcome: Some(Outcome::Done {
            entry: None,
            note: String::new(),
        }),
    }
}

/// A playbook quarantines, a person isolates at the same moment and is written first; or the disk
/// took the second and not the first, which is tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_softer_containment_that_is_recorded_last_does_not_stop_granting_for_ever() {
    let (plane, _scratch) = plane();
    let soft = containing(Containment::Quarantined);
    let standing = soft.standing(Timestamp::from_seconds(1), &Actor::Plane);
    let (is_news, _) = plane.cut_off(&soft.device, &standing).await.unwrap();
    assert!(is_news);
    let hard = containing(Containment::Isolated);
    flow::contain(&plane, &hard, &Actor::Plane).await.unwrap();

    let act = entries::contained(&Actor::Plane, &soft, &standing, 0);
    let change = withdrawing::change(vec![plane.leaf(&act).unwrap()])
        .unwrap()
        .write(standing.row(&soft.device));
    // As it was first written, and as it is tried again.
    plane.unrecorded.lock().push(change.clone());
    assert!(
        plane.record_withdrawals().await,
        "it is refused again and again"
    );
    plane.commit_withdrawal(change).await.unwrap();
    plane.granting_allowed().unwrap();
    let kept = plane.store.containment(&cam()).unwrap().unwrap();
    assert_eq!(kept.containment, Containment::Isolated);
    end(plane).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_is_told_even_if_it_cannot_be_recorded() {
    let (plane, _scratch) = plane();
    let before = plane.events.last();
    let mut what = containing(Containment::Isolated);
    what.reason = "longer than any entry may be ".repeat(1000);
    assert!(flow::contain(&plane, &what, &Actor::Plane).await.is_err());
    assert_eq!(plane.containment(&cam()), Some(Containment::Isolated));
    let Found::Events(told) = plane.events.after(before) else {
        panic!("a reset");
    };
    assert!(told.iter().any(|event| event.about == About::Device));
    end(plane).await;
}

/// More lines at once than a change may have rows: hijacked devices can cause them.
#[tokio::test(flavor = "multi_thread")]
async fn attack_a_flood_of_evidence_does_not_stop_granting() {
    const LINES: usize = 6000;
    let (plane, _scratch) = plane();
    let mut judged = Judged::default();
    let now = Timestamp::from_seconds(1);
    let act = decided(Containment::Isolated);
    let id = (plane.judgement.lock())
        .person(&act, now, &mut judged)
        .unwrap();
    let step = Step {
        at: now,
        actor: "detection".into(),
        what: "unexpected-destination".into(),
        expected: None,
        seen: Some("203.0.113.66:4444/tcp".into()),
        source: None,
        attribution: None,
        observed_by: None,
        entry: None,
    };
    let lines = std::iter::repeat_with(|| Effect::Step(id, step.clone()));
    judged.effects.extend(lines.take(LINES));
    flow::carry_out(&plane, judged).await;
    plane.granting_allowed().unwrap();
    // The store gives them in pages; all of them are read, or as many as are asked for.
    let kept = timeline::steps(&plane.store, id, 2 * LINES).unwrap();
    assert!(kept.len() >= LINES, "{}", kept.len());
    assert!(kept.is_sorted_by_key(|row| row.number));
    let first = timeline::steps(&plane.store, id, 2000).unwrap();
    assert_eq!(first.len(), 2000);
    end(plane).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_incident_takes_no_other_along_and_its_number_is_not_given_again() {
    let (plane, _scratch) = plane();
    let mut earlier = Vec::new();
    let act = decided(Containment::Quarantined);
    (Responder::new(Settings::default()))
        .person(&act, Timestamp::from_seconds(1), &mut earlier)
        .unwrap();
    let Some(Effect::Open(good)) = earlier.into_iter().next() else {
        panic!("no incident");
    };
    let row = |id: u64, device: &str, body: Vec<u8>| {
        Write::PutIncident(store::Incident {
            id: IncidentId(id),
            subject: Some(Subject::Device(device.parse().unwrap())),
            title: device.to_owned(),
            state: IncidentState::Open,
            severity: Severity::Low,
            opened_at: Timestamp::from_seconds(1),
            closed_at: None,
            body,
        })
    };
    let change = Change::new(Direction::Neutral)
        .write(row(1, "cam-1", good.to_bytes()))
        .write(row(2, "cam-2", b"{\"format\":9}".to_vec()));
    plane.commit(change).await.unwrap();

    flow::take_up(&plane).await;
    let mut judged = Judged::default();
    let mut act = act;
    act.decision = Decision::Revoke {
        device: "cam-3".parse().unwrap(),
    };
    let given = (plane.judgement.lock())
        .person(&act, Timestamp::from_seconds(2), &mut judged)
        .unwrap();
    assert_eq!(given, IncidentId(3));
    let about = Subject::Device(cam());
    assert_eq!(
        plane.judgement.lock().open_incident(&about),
        Some(IncidentId(1))
    );
    end(plane).await;
}

/// A column that cannot be read ends the reading of all: numbers must be known all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_read_does_not_give_its_number_away() {
    let (plane, _scratch) = plane();
    let change = Change::new(Direction::Neutral).write(Write::PutIncident(store::Incident {
        id: IncidentId(9),
        // Reads back as nobody.
        subject: Some(Subject::Person(String::new())),
        title: "x".into(),
        state: IncidentState::Open,
        severity: Severity::Low,
        opened_at: Timestamp::from_seconds(1),
        closed_at: None,
        body: Vec::new(),
    }));
    plane.commit(change).await.unwrap();
    assert!(plane.store.for_each_incident(|_| ()).is_err());

    flow::take_up(&plane).await;
    let mut judged = Judged::default();
    let given = (plane.judgement.lock())
        .person(
            &decided(Containment::Isolated),
            Timestamp::from_seconds(2),
            &mut judged,
        )
        .unwrap();
    assert_eq!(given, IncidentId(10));
    end(plane).await;
}
