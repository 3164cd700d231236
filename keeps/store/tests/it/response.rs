//! Containments, incidents, records and the outbox: what their rows promise whatever is asked.

use crate::fixture::*;
use model::{Attribution, Containment, IncidentId, ProductId, Severity, Source, Subject};
use store::{
    Change, CommitError, Contained, DeviceRecord, Direction, GroupContainment, Guard, Holder,
    Incident, IncidentState, Outgoing, Step, Store, Write,
};

fn contained(name: &str, containment: Containment, since: u64) -> Contained {
    Contained {
        device: device_id(name),
        containment,
        since: seconds(since),
        incident: Some(IncidentId(7)),
        by: "playbook/contain".to_owned(),
        group: None,
    }
}

fn withdraw(write: Write) -> Change {
    Change::new(Direction::Withdraw).write(write)
}

fn neutral(write: Write) -> Change {
    Change::new(Direction::Neutral).write(write)
}

fn incident(number: u64) -> Incident {
    Incident {
        id: IncidentId(number),
        subject: Some(Subject::Device(device_id("cam-1"))),
        title: "cam-1 behaves as if hijacked".to_owned(),
        state: IncidentState::Open,
        severity: Severity::High,
        opened_at: seconds(number),
        closed_at: None,
        body: b"{}".to_vec(),
    }
}

fn step(what: &str) -> Step {
    Step {
        at: seconds(40),
        actor: "playbook/contain".to_owned(),
        what: what.to_owned(),
        expected: Some("video.example.net".to_owned()),
        seen: Some("203.0.113.9:443".to_owned()),
        source: Some(Source::Network),
        attribution: Some(Attribution::Proven),
        observed_by: Some("network (bridge port)".to_owned()),
        entry: None,
    }
}

fn append(incident: u64, what: &str, entry_of_change: Option<usize>) -> Write {
    Write::AppendStep {
        incident: IncidentId(incident),
        step: step(what),
        entry_of_change,
    }
}

fn all_contained(store: &Store) -> Vec<Contained> {
    let mut all = Vec::new();
    store.for_each_containment(|row| all.push(row)).unwrap();
    all
}

#[test]
fn an_act_that_cut_many_off_is_kept_beside_them_and_says_when_it_was_undone() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let id: model::GroupContainmentId = "g-1".parse().unwrap();
    let row = |number: u64, restored| GroupContainment {
        id: format!("g-{number}").parse().unwrap(),
        target: "group/east".to_owned(),
        containment: Containment::Quarantined,
        reason: "a test says so".to_owned(),
        by: "person/p-1".to_owned(),
        at: seconds(number),
        devices: 2,
        restored,
    };
    let cut = |name| Contained {
        group: Some(id.clone()),
        ..contained(name, Containment::Quarantined, 1)
    };
    let change = withdraw(Write::PutContainment(cut("cam-1")))
        .write(Write::PutContainment(cut("cam-2")))
        .write(Write::PutGroupContainment(row(1, None)));
    store.commit(change).unwrap();
    store
        .commit(withdraw(Write::PutGroupContainment(row(2, None))))
        .unwrap();
    assert_eq!(all_contained(&store), [cut("cam-1"), cut("cam-2")]);
    // What is harder and alone has no part in it any more.
    let alone = contained("cam-2", Containment::Isolated, 3);
    store
        .commit(withdraw(Write::PutContainment(alone.clone())))
        .unwrap();
    assert_eq!(store.containment(&device_id("cam-2")).unwrap(), Some(alone));
    let undone = row(1, Some((seconds(9), "person/p-2".to_owned())));
    store
        .commit(neutral(Write::PutGroupContainment(undone.clone())))
        .unwrap();
    assert_eq!(store.group_containment(&id).unwrap(), Some(undone.clone()));
    let listed = store.group_containments(false, 10).unwrap();
    assert_eq!(listed, [row(2, None), undone]);
    assert_eq!(store.group_containments(true, 10).unwrap(), [row(2, None)]);
    let mut nameless = row(3, None);
    nameless.target.clear();
    let refused = store.commit(withdraw(Write::PutGroupContainment(nameless)));
    assert!(matches!(refused, Err(CommitError::Invalid { .. })));
}

#[test]
fn a_containment_is_hardened_by_a_withdrawal_and_softened_only_by_a_grant() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let quarantined = contained("cam-1", Containment::Quarantined, 30);
    let isolated = contained("cam-1", Containment::Isolated, 40);
    let put = |row: &Contained| store.commit(withdraw(Write::PutContainment(row.clone())));
    put(&quarantined).unwrap();
    // The same again keeps who cut it off and when.
    put(&contained("cam-1", Containment::Quarantined, 99)).unwrap();
    assert_eq!(all_contained(&store), std::slice::from_ref(&quarantined));
    put(&isolated).unwrap();
    let softer = put(&quarantined).unwrap_err();
    assert!(matches!(softer, CommitError::Conflict { .. }), "{softer}");
    assert_eq!(
        store.containment(&device_id("cam-1")).unwrap(),
        Some(isolated)
    );
    store
        .commit(grant(Write::PutContainment(quarantined.clone())))
        .unwrap();
    assert_eq!(all_contained(&store), [quarantined]);

    let drop_it = Write::DropContainment {
        device: device_id("cam-1"),
    };
    let hidden = store.commit(withdraw(drop_it.clone())).unwrap_err();
    assert!(matches!(hidden, CommitError::Invalid { .. }), "{hidden}");
    let is = |containment| Guard::ContainmentIs {
        device: device_id("cam-1"),
        containment,
    };
    let stale = grant(drop_it.clone()).guard(is(Some(Containment::Isolated)));
    assert!(matches!(store.commit(stale), Err(CommitError::Guard(_))));
    store
        .commit(grant(drop_it).guard(is(Some(Containment::Quarantined))))
        .unwrap();
    store
        .commit(Change::new(Direction::Neutral).guard(is(None)))
        .unwrap();
    assert!(all_contained(&store).is_empty());
}

#[test]
fn a_sealed_store_still_contains_and_restores_nothing() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let reason = "an older copy".to_owned();
    store.commit(neutral(Write::Seal { reason })).unwrap();
    let row = contained("cam-1", Containment::Isolated, 30);
    store.commit(withdraw(Write::PutContainment(row))).unwrap();
    store
        .commit(neutral(Write::PutIncident(incident(1))))
        .unwrap();
    let device = device_id("cam-1");
    let restored = store.commit(grant(Write::DropContainment { device }));
    assert!(matches!(restored, Err(CommitError::Sealed { .. })));
    drop(store);
    assert_eq!(all_contained(&open(&data)).len(), 1);
}

#[test]
fn a_step_knows_the_entry_that_proves_it() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    store.commit(neutral(append(1, "x", None))).unwrap_err();
    store
        .commit(neutral(Write::PutIncident(incident(1))).entry(b"opened".to_vec()))
        .unwrap();
    let change = withdraw(append(1, "quarantined", Some(1)))
        .write(append(1, "notified", None))
        .entry(b"first".to_vec())
        .entry(b"second".to_vec());
    let receipt = store.commit(change).unwrap();
    let steps = store.steps(IncidentId(1), 0, 100).unwrap();
    assert_eq!(
        steps.iter().map(|row| row.number).collect::<Vec<_>>(),
        [1, 2]
    );
    let entry = steps[0].step.entry.unwrap();
    assert_eq!(entry, receipt.first_leaf_index + 1);
    assert_eq!(store.leaf(entry).unwrap().unwrap(), b"second");
    assert_eq!(steps[1].step, step("notified"));
    let beyond = store.commit(neutral(append(1, "x", Some(0)))).unwrap_err();
    assert!(matches!(beyond, CommitError::Invalid { .. }), "{beyond}");
    assert_eq!(store.steps(IncidentId(1), 1, 100).unwrap().len(), 1);
}

#[test]
fn incidents_come_newest_first_in_pages() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    for number in 1..=5 {
        store
            .commit(neutral(Write::PutIncident(incident(number))))
            .unwrap();
    }
    let closed = Incident {
        state: IncidentState::Closed,
        closed_at: Some(seconds(90)),
        subject: None,
        ..incident(3)
    };
    store
        .commit(neutral(Write::PutIncident(closed.clone())))
        .unwrap();
    let numbers = |rows: Vec<Incident>| rows.iter().map(|row| row.id.0).collect::<Vec<_>>();
    assert_eq!(numbers(store.incidents(None, 2).unwrap()), [5, 4]);
    let next = store.incidents(Some(IncidentId(4)), 9).unwrap();
    assert_eq!(next[0], closed);
    assert_eq!(numbers(next), [3, 2, 1]);
    assert_eq!(store.incident(IncidentId(3)).unwrap(), Some(closed));
}

#[test]
fn a_damaged_row_does_not_hide_the_last_number() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    assert_eq!(store.last_incident().unwrap(), 0);
    for number in [7, 3] {
        store
            .commit(neutral(Write::PutIncident(incident(number))))
            .unwrap();
    }
    rusqlite::Connection::open(data.join("control.db"))
        .unwrap()
        .execute("UPDATE incident SET severity = 'x'", [])
        .unwrap();
    store.for_each_incident(|_| ()).unwrap_err();
    assert_eq!(store.last_incident().unwrap(), 7);
}

#[test]
fn records_and_messages_are_replaced_by_name() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let mut record = DeviceRecord {
        device: device_id("cam-1"),
        product: Some(ProductId::new("camera").unwrap()),
        groups: expected("SN1", "cam-1").groups,
        manufacturer: None,
        serial: None,
        country: Some("DE".to_owned()),
        support_until: Some(seconds(9)),
        retired: false,
        note: None,
        changed_at: seconds(1),
    };
    let other = DeviceRecord {
        device: device_id("cam-2"),
        product: None,
        groups: Vec::new(),
        ..record.clone()
    };
    store
        .commit(neutral(Write::PutRecords(vec![
            record.clone(),
            other.clone(),
        ])))
        .unwrap();
    record.retired = true;
    record.country = None;
    store
        .commit(neutral(Write::PutRecords(vec![record.clone()])))
        .unwrap();
    assert_eq!(store.device_records(None, 9).unwrap(), [record, other]);

    let mut message = Outgoing {
        id: "INC-1/webhook/1".to_owned(),
        channel: "webhook".to_owned(),
        body: b"{}".to_vec(),
        created_at: seconds(1),
        attempts: 0,
        next_at: seconds(1),
        last_error: None,
    };
    store
        .commit(neutral(Write::PutOutbox(message.clone())))
        .unwrap();
    message.attempts = 1;
    message.next_at = seconds(60);
    message.last_error = Some("connection refused".to_owned());
    store
        .commit(neutral(Write::PutOutbox(message.clone())))
        .unwrap();
    assert_eq!(store.outbox(9).unwrap(), [message.clone()]);
    let id = message.id;
    store.commit(neutral(Write::DropOutbox { id })).unwrap();
    assert!(store.outbox(9).unwrap().is_empty());
}

#[test]
fn ended_certificates_are_forgotten_and_revocations_are_not() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    enroll(&store, "SN1", "cam-1");
    for (serial, end) in [(1, 20), (2, 100)] {
        let mut row = certificate(serial, Holder::Device(device_id("cam-1")));
        row.not_after = seconds(end);
        store.commit(grant(Write::PutCertificate(row))).unwrap();
    }
    store
        .commit(withdraw(Write::Revoke {
            what: model::Revocable::Certificate(certificate_id(1)),
            at: seconds(15),
            reason: model::RevocationReason::KeyCompromise,
        }))
        .unwrap();
    let ended_before = seconds(50);
    store
        .commit(neutral(Write::ForgetCertificates { ended_before }))
        .unwrap();
    assert!(store.certificate(&certificate_id(1)).unwrap().is_none());
    assert!(store.certificate(&certificate_id(2)).unwrap().is_some());
    let revoked = model::Revocable::Certificate(certificate_id(1));
    assert!(store.revocation(&revoked).unwrap().is_some());
}
