//! Deviations become alerts; the same on many peers becomes one event.

use crate::world::*;
use detection::{Alert, AlertChange, AlertSettings, AlertState, Alerts, Deviation};
use model::{Attribution, DeviationKind, Severity, Source, Subject};

fn deviation(name: &str, kind: DeviationKind, entity: &str, seconds: u64, group: u64) -> Deviation {
    Deviation {
        subject: Subject::Device(device(name)),
        kind,
        entity: entity.to_owned(),
        expected: "nothing".to_owned(),
        seen: entity.to_owned(),
        since: at(seconds),
        at: at(seconds),
        source: Source::Network,
        attribution: Attribution::Proven,
        severity: Severity::Medium,
        observed_by: "network (bridge port)".to_owned(),
        accepted_baseline: true,
        group: Some(camera()),
        group_size: group,
    }
}

fn place(name: &str, seconds: u64, group: u64) -> Deviation {
    let kind = DeviationKind::UnexpectedDestination;
    deviation(name, kind, "203.0.113.66:443/tcp", seconds, group)
}

fn raise(alerts: &mut Alerts, deviation: &Deviation) -> Vec<AlertChange> {
    let mut out = Vec::new();
    alerts.raise(deviation, &mut out);
    out
}

fn raised(changes: &[AlertChange]) -> usize {
    changes
        .iter()
        .filter(|change| matches!(change, AlertChange::Raised(_)))
        .count()
}

#[test]
fn one_subject_kind_and_entity_is_one_alert_with_the_strongest_evidence_on_top() {
    let mut alerts = Alerts::new(AlertSettings::default());
    let mut reported = place("cam-1", 0, 5);
    reported.source = Source::Device;
    reported.observed_by = "device report".to_owned();
    reported.severity = Severity::High;
    let [AlertChange::Raised(id)] = raise(&mut alerts, &reported)[..] else {
        panic!()
    };
    // From outside and proven: stronger, though it looks less grave.
    assert_eq!(
        raise(&mut alerts, &place("cam-1", 10, 5)),
        [AlertChange::Grew(id)]
    );
    assert_eq!(raise(&mut alerts, &place("cam-1", 20, 5)), []);
    assert_eq!(raise(&mut alerts, &reported), []);
    let alert = alerts.alert(id).unwrap();
    assert_eq!((alert.count, alert.severity), (4, Severity::High));
    assert_eq!((alert.source, alert.evidence.len()), (Source::Network, 2));
    assert_eq!((alert.first_seen, alert.last_seen), (at(0), at(20)));
}

#[test]
fn a_stranger_cannot_make_a_proven_trifle_grave() {
    let mut claimed = place("cam-1", 5, 5);
    claimed.attribution = Attribution::Claimed;
    claimed.source = Source::Gateway;
    claimed.severity = Severity::Critical;
    let mut trifle = place("cam-1", 0, 5);
    trifle.severity = Severity::Low;
    for order in [[&trifle, &claimed], [&claimed, &trifle]] {
        let mut alerts = Alerts::new(AlertSettings::default());
        let [AlertChange::Raised(id)] = raise(&mut alerts, order[0])[..] else {
            panic!()
        };
        raise(&mut alerts, order[1]);
        let alert = alerts.alert(id).unwrap();
        assert_eq!(alert.severity, Severity::Low, "{order:?}");
        assert_eq!(alert.attribution, Attribution::Proven);
    }
}

#[test]
fn what_goes_on_is_told_again_but_not_each_time() {
    let mut alerts = Alerts::new(AlertSettings::default());
    let told: usize = (0..3_600)
        .step_by(10)
        .map(|seconds| raise(&mut alerts, &place("cam-1", seconds, 5)).len())
        .sum();
    assert_eq!(told, 6, "once when it is raised, then every ten minutes");
}

#[test]
fn in_a_small_group_the_third_makes_an_event() {
    let mut alerts = Alerts::new(AlertSettings::default());
    let mut first = Vec::new();
    for name in ["cam-1", "cam-2"] {
        let [AlertChange::Raised(id)] = raise(&mut alerts, &place(name, 0, 5))[..] else {
            panic!()
        };
        first.push(id);
    }
    let changes = raise(&mut alerts, &place("cam-3", 60, 5));
    let [AlertChange::FleetEvent { event, folded }] = &changes[..] else {
        panic!("{changes:?}")
    };
    assert_eq!(folded.len(), 3);
    let event = alerts.alert(*event).unwrap();
    assert!(event.fleet_event && event.subjects == 3 && event.state == AlertState::Open);
    assert!(
        folded
            .iter()
            .all(|id| alerts.alert(*id).unwrap().state == AlertState::Folded)
    );
    assert!(first.iter().all(|id| folded.contains(id)));
    // The fourth doubles the number since the second: a line. The fifth says nothing.
    assert_eq!(raise(&mut alerts, &place("cam-4", 61, 5)).len(), 1);
    assert_eq!(raise(&mut alerts, &place("cam-5", 62, 5)), []);
    // Another group is another matter.
    let mut other = place("cam-9", 63, 5);
    other.group = Some(model::ProductId::new("lock").unwrap());
    assert_eq!(raised(&raise(&mut alerts, &other)), 1);
}

#[test]
fn a_change_that_reaches_a_large_group_raises_two_and_then_one_event() {
    let mut alerts = Alerts::new(AlertSettings::default());
    let mut changes = Vec::new();
    for index in 0..4000 {
        alerts.raise(&place(&format!("cam-{index}"), index, 4000), &mut changes);
    }
    assert_eq!(raised(&changes), 2);
    let events = changes
        .iter()
        .filter(|c| matches!(c, AlertChange::FleetEvent { .. }));
    assert_eq!(events.count(), 1);
    let event = alerts.iter().find(|alert| alert.fleet_event).unwrap();
    assert_eq!((event.subjects, event.count), (4000, 4000));
    assert_eq!(
        alerts
            .iter()
            .filter(|a| a.state == AlertState::Open)
            .count(),
        1
    );
}

#[test]
fn a_few_of_a_large_group_are_let_go_when_it_did_not_spread() {
    let mut alerts = Alerts::new(AlertSettings::default());
    let mut changes = Vec::new();
    for index in 0..10 {
        alerts.raise(&place(&format!("cam-{index}"), index, 4000), &mut changes);
    }
    assert_eq!(raised(&changes), 2);
    changes.clear();
    assert_eq!(alerts.next_deadline(), Some(at(3602)));
    alerts.wake(at(3602), &mut changes);
    assert_eq!(raised(&changes), 8, "a small botnet is not a release");
    changes.clear();
    alerts.raise(&place("cam-11", 4000, 4000), &mut changes);
    assert_eq!(raised(&changes), 1, "and hides nobody who comes later");
}

#[test]
fn who_shows_a_second_kind_or_something_graver_is_never_held_back() {
    let mut alerts = Alerts::new(AlertSettings::default());
    let mut changes = Vec::new();
    for index in 0..5 {
        alerts.raise(&place(&format!("cam-{index}"), index, 4000), &mut changes);
    }
    changes.clear();
    let second = deviation("cam-4", DeviationKind::DeniedAttempts, "publish", 10, 4000);
    alerts.raise(&second, &mut changes);
    assert_eq!(raised(&changes), 2, "the new one and the one held back");
    changes.clear();
    let mut grave = place("cam-7", 20, 4000);
    grave.severity = Severity::High;
    alerts.raise(&grave, &mut changes);
    assert_eq!(raised(&changes), 1);
}

#[test]
fn a_rate_that_many_exceeded_yesterday_excuses_nobody_today() {
    let mut alerts = Alerts::new(AlertSettings::default());
    let spike = |index: u64, seconds| {
        deviation(
            &format!("cam-{index}"),
            DeviationKind::OutboundVolume,
            "bytes out",
            seconds,
            300,
        )
    };
    let mut changes = Vec::new();
    for index in 0..300 {
        alerts.raise(&spike(index, index), &mut changes);
    }
    changes.clear();
    let two_days = 2 * 86_400;
    alerts.raise(&spike(7, two_days), &mut changes);
    assert_eq!(raised(&changes), 1);
}

#[test]
fn a_subject_cannot_use_up_the_room_of_others() {
    let settings = AlertSettings {
        alerts_per_subject_max: 8,
        alerts_max: 100,
        ..AlertSettings::default()
    };
    let mut alerts = Alerts::new(settings);
    let victim = raise(&mut alerts, &place("cam-2", 0, 1_000_000));
    let [AlertChange::Raised(victim)] = victim[..] else {
        panic!()
    };
    let mut out = Vec::new();
    for index in 0..10_000 {
        let entity = format!("203.0.113.1:{index}/tcp");
        let kind = DeviationKind::UnexpectedDestination;
        alerts.raise(
            &deviation("cam-1", kind, &entity, index, 1_000_000),
            &mut out,
        );
    }
    assert_eq!(
        alerts.of_subject(&Subject::Device(device("cam-1"))).count(),
        9
    );
    assert_eq!(alerts.alert(victim).unwrap().state, AlertState::Open);
    // Nine, and once in ten minutes that they go on.
    assert!(out.len() <= 9 + 10_000 / 600, "{}", out.len());
    // Everything has an end, even with very many subjects.
    for index in 0..1000 {
        alerts.raise(&place(&format!("x-{index}"), index, 1_000_000), &mut out);
    }
    assert!(alerts.iter().count() <= 101, "{}", alerts.iter().count());
}

#[test]
fn quiet_alerts_close_by_themselves_and_come_again_as_new_ones() {
    let mut alerts = Alerts::new(AlertSettings::default());
    let [AlertChange::Raised(id)] = raise(&mut alerts, &place("cam-1", 0, 5))[..] else {
        panic!()
    };
    raise(&mut alerts, &place("cam-1", 86_400, 5));
    let mut out = Vec::new();
    alerts.wake(at(7 * 86_400), &mut out);
    assert_eq!(out, [], "it was seen a day later");
    alerts.wake(at(8 * 86_400), &mut out);
    assert_eq!(out, [AlertChange::Closed(id)]);
    let [AlertChange::Raised(next)] = raise(&mut alerts, &place("cam-1", 9 * 86_400, 5))[..] else {
        panic!()
    };
    assert!(next > id);
}

#[test]
fn alerts_of_an_earlier_run_go_on() {
    let mut alerts = Alerts::new(AlertSettings::default());
    let mut changes = Vec::new();
    for index in 0..10 {
        alerts.raise(&place(&format!("cam-{index}"), index, 4000), &mut changes);
    }
    let kept: Vec<Alert> = alerts.iter().cloned().collect();
    let mut restored = Alerts::new(AlertSettings::default());
    restored.restore(kept.clone());
    assert_eq!(restored.iter().cloned().collect::<Vec<_>>(), kept);
    changes.clear();
    restored.wake(at(4000), &mut changes);
    assert_eq!(raised(&changes), 8);
    let mut known = Vec::new();
    restored.raise(&place("cam-3", 5000, 4000), &mut known);
    assert!(matches!(known[..], [AlertChange::Grew(_)]), "{known:?}");
}
