//! Commands and how far they came: what waits is found again, what is over stays over.

use crate::fixture::*;
use model::{CommandId, Delivery, DeliveryRefusal, DeliveryWait, Digest};
use store::{
    Change, Command, CommandDelivery, CommandProgress, CommandState, CommandWrite, CommitError,
    Direction, Store,
};

const AWAY: Delivery = Delivery::Waiting(DeliveryWait::Away);

fn id(number: u16) -> CommandId {
    CommandId::made(seconds(100), number)
}

fn command(number: u16, state: CommandState) -> Command {
    Command {
        id: id(number),
        by: "service/control".to_owned(),
        key: Some(format!("key-{number}")),
        request: Digest([7; 32]),
        channel: "command".to_owned(),
        target: "group/east".to_owned(),
        payload: b"restart".to_vec(),
        asked_at: seconds(100),
        expires_at: seconds(200),
        state,
        decided_by: None,
    }
}

fn delivery(device: &str, delivery: Delivery) -> CommandDelivery {
    CommandDelivery {
        device: device_id(device),
        topic: format!("v1/{device}/command"),
        response_topic: (device == "cam-3").then(|| format!("v1/{device}/answer")),
        delivery,
        changed_at: seconds(100),
    }
}

fn put(
    store: &Store,
    command: Command,
    deliveries: Vec<CommandDelivery>,
) -> Result<(), CommitError> {
    let write = CommandWrite::Put {
        command: Box::new(command),
        deliveries,
    };
    let change = Change::new(Direction::Grant)
        .write(write)
        .entry(b"asked".to_vec());
    store.commit(change).map(drop)
}

fn neutral(store: &Store, write: CommandWrite) -> Result<(), CommitError> {
    store
        .commit(Change::new(Direction::Neutral).write(write))
        .map(drop)
}

fn open_ones(store: &Store) -> Vec<(CommandId, String, Delivery)> {
    let mut found = Vec::new();
    store
        .for_each_open_delivery(|id, row| found.push((id, row.device.to_string(), row.delivery)))
        .unwrap();
    found
}

fn progress(number: u16, device: &str, delivery: Delivery) -> CommandProgress {
    CommandProgress {
        command: id(number),
        device: device_id(device),
        delivery,
        at: seconds(101),
    }
}

#[test]
fn what_waits_is_sent_or_awaits_an_answer_goes_on_after_a_restart() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let names = ["cam-1", "cam-2", "cam-3", "cam-4"];
    let rows = names.map(|name| delivery(name, AWAY));
    put(&store, command(1, CommandState::Open), rows.to_vec()).unwrap();
    neutral(
        &store,
        CommandWrite::Progress(vec![
            progress(1, "cam-1", Delivery::Sent),
            progress(1, "cam-2", Delivery::Delivered),
            progress(1, "cam-3", Delivery::Delivered),
            progress(1, "cam-9", Delivery::Delivered),
            progress(9, "cam-1", Delivery::Delivered),
        ]),
    )
    .unwrap();
    drop(store);
    let store = open(&data);
    let expected = [
        ("cam-1", Delivery::Sent),
        ("cam-3", Delivery::Delivered),
        ("cam-4", AWAY),
    ];
    let expected = expected.map(|(name, delivery)| (id(1), name.to_owned(), delivery));
    assert_eq!(open_ones(&store), expected);
    assert_eq!(store.deliveries_under_way().unwrap(), 2);
    let counts = [("delivered", 2), ("sent", 1), ("waiting", 1)];
    let counts = counts.map(|(state, count)| (state.to_owned(), count));
    assert_eq!(store.delivery_counts(id(1)).unwrap(), counts);
    let only = store.deliveries(id(1), Some("delivered"), Some(&device_id("cam-2")), 10);
    assert_eq!(only.unwrap().len(), 1);
    assert_eq!(
        store.command(id(1)).unwrap(),
        Some(command(1, CommandState::Open))
    );
}

#[test]
fn a_held_command_goes_out_once_approved_in_time_and_not_otherwise() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let held = vec![
        delivery("cam-1", Delivery::Waiting(DeliveryWait::Approval)),
        delivery("cam-2", Delivery::Refused(DeliveryRefusal::Contained)),
    ];
    put(&store, command(1, CommandState::Held), held.clone()).unwrap();
    assert_eq!(open_ones(&store), []);
    let approve = |at| {
        let write = CommandWrite::Approve {
            command: id(1),
            by: "admin/x".to_owned(),
            at: seconds(at),
        };
        let change = Change::new(Direction::Grant)
            .write(write)
            .entry(b"a".to_vec());
        store.commit(change).map(drop)
    };
    assert!(approve(200).is_err(), "its time is over");
    // What gives is never bookkeeping.
    let write = CommandWrite::Approve {
        command: id(1),
        by: "admin/x".to_owned(),
        at: seconds(150),
    };
    assert!(matches!(
        neutral(&store, write),
        Err(CommitError::Invalid { .. })
    ));
    approve(150).unwrap();
    assert_eq!(open_ones(&store), [(id(1), "cam-1".to_owned(), AWAY)]);
    assert!(approve(150).is_err(), "once");

    put(&store, command(2, CommandState::Held), held).unwrap();
    assert_eq!(store.lapsed_commands(seconds(199)).unwrap(), []);
    assert_eq!(store.lapsed_commands(seconds(200)).unwrap(), [id(2)]);
    let lapse = CommandWrite::End {
        command: id(2),
        state: CommandState::Lapsed,
        by: "plane".to_owned(),
        at: seconds(200),
    };
    neutral(&store, lapse.clone()).unwrap();
    neutral(&store, lapse).unwrap();
    let counts = [("expired", 1), ("refused", 1)];
    let counts = counts.map(|(state, count)| (state.to_owned(), count));
    assert_eq!(store.delivery_counts(id(2)).unwrap(), counts);
}

#[test]
fn a_key_is_its_askers_and_used_once_and_a_device_is_named_once() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    put(
        &store,
        command(1, CommandState::Open),
        vec![delivery("cam-1", AWAY)],
    )
    .unwrap();
    let again = Command {
        key: Some("key-1".to_owned()),
        ..command(2, CommandState::Open)
    };
    assert!(put(&store, again.clone(), Vec::new()).is_err());
    let by_another = Command {
        by: "service/other".to_owned(),
        ..again
    };
    put(&store, by_another, Vec::new()).unwrap();
    let found = store.command_by_key("service/control", "key-1").unwrap();
    assert_eq!(found.unwrap().id, id(1));
    let twice = vec![delivery("cam-1", AWAY), delivery("cam-1", AWAY)];
    assert!(put(&store, command(3, CommandState::Open), twice).is_err());
    assert_eq!(store.command(id(3)).unwrap(), None, "all or nothing");
    let mine = store.commands(Some("service/control"), None, 10).unwrap();
    assert_eq!(mine.len(), 1);
    assert_eq!(store.commands(None, Some(id(2)), 10).unwrap().len(), 1);
}

#[test]
fn what_is_long_over_is_forgotten_with_all_its_deliveries() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    put(
        &store,
        command(1, CommandState::Open),
        vec![delivery("cam-1", AWAY)],
    )
    .unwrap();
    let forget = |before| {
        let expired_before = seconds(before);
        neutral(&store, CommandWrite::Forget { expired_before }).unwrap();
        store.command(id(1)).unwrap().is_some()
    };
    assert!(forget(200));
    assert!(!forget(201));
    assert_eq!(store.deliveries_under_way().unwrap(), 0);
}
