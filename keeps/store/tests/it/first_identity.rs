//! Existing fleets, attributes and claim tokens, as they are kept.

use crate::fixture::*;
use model::{CertificateId, Digest};
use store::{
    Change, ClaimToken, ClaimTokenUse, CommitError, Described, Direction, ImportedFleet,
    PinnedLeaf, Write,
};

fn fleet(naming: &str) -> ImportedFleet {
    ImportedFleet {
        fleet: "legacy".parse().unwrap(),
        naming: naming.to_owned(),
        until: seconds(9_000),
        accept_expired: false,
        cas: vec![vec![1, 2, 3]],
        imported_at: seconds(1),
        retired_at: None,
    }
}

fn commit(
    store: &store::Store,
    direction: Direction,
    writes: Vec<Write>,
) -> Result<(), CommitError> {
    let change = writes
        .into_iter()
        .fold(Change::new(direction), Change::write);
    store.commit(change.entry(b"act".to_vec())).map(drop)
}

fn expected(serial: &str, device: &str) -> store::ExpectedDevice {
    store::ExpectedDevice {
        manufacturer: "legacy".parse().unwrap(),
        serial: serial.parse().unwrap(),
        product: "sensor".parse().unwrap(),
        device: device_id(device),
        groups: Vec::new(),
    }
}

#[test]
fn a_fleet_its_pins_and_attributes_come_back_as_they_were_put() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let grant = Direction::Grant;
    let pin = |device: &str, shared| PinnedLeaf {
        fingerprint: Digest([7; 32]),
        device: device_id(device),
        shared,
    };
    let described = Described {
        device: device_id("o1"),
        attributes: vec![
            ("client_id".parse().unwrap(), "urn:dev:1".parse().unwrap()),
            ("site".parse().unwrap(), "north".parse().unwrap()),
        ],
    };
    let writes = vec![
        Write::PutImportedFleet(fleet("cn")),
        Write::PutExpectedDevices(vec![expected("S1", "o1"), expected("S2", "o2")]),
        Write::DescribeDevices(vec![described.clone()]),
        Write::PinLeaves(vec![pin("o1", false)]),
    ];
    let shown = |device| Write::PutShownKey {
        device: device_id(device),
        key: Digest([5; 32]),
    };
    commit(&store, grant, vec![shown("o1"), shown("o2")]).unwrap();
    commit(&store, grant, writes.clone()).unwrap();
    // Once more changes nothing; more CAs and a later end are taken.
    commit(&store, grant, writes).unwrap();
    let more = ImportedFleet {
        until: seconds(10_000),
        cas: vec![vec![9]],
        ..fleet("cn")
    };
    commit(&store, grant, vec![Write::PutImportedFleet(more)]).unwrap();
    drop(store);
    let store = open(&data);
    let mut shown = Vec::new();
    store
        .for_each_shown_key(|device, key| shown.push((device, key)))
        .unwrap();
    assert_eq!(shown, [(device_id("o1"), Digest([5; 32]))]);
    let kept = store.imported_fleets().unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!((kept[0].until, kept[0].cas.len()), (seconds(10_000), 2));
    let mut pins = Vec::new();
    store.for_each_pinned_leaf(|row| pins.push(row)).unwrap();
    assert_eq!(pins, [pin("o1", false)]);
    let mut all = Vec::new();
    store.for_each_described(|row| all.push(row)).unwrap();
    assert_eq!(all, [described]);
    // An imported fleet is no manufacturer, and none can take its name.
    let mut manufacturers = 0;
    store.for_each_manufacturer(|_| manufacturers += 1).unwrap();
    assert_eq!(manufacturers, 0);

    // What is one device's is no other's, and a rule or a retirement is for good.
    for refused in [
        Write::PinLeaves(vec![pin("o2", false)]),
        Write::PinLeaves(vec![pin("o2", true)]),
        Write::PutImportedFleet(fleet("serial-number")),
    ] {
        let error = commit(&store, grant, vec![refused]).unwrap_err();
        assert!(matches!(error, CommitError::Conflict { .. }), "{error}");
    }
    let retire = Write::RetireImportedFleet {
        fleet: "legacy".parse().unwrap(),
        at: seconds(5),
    };
    commit(&store, Direction::Withdraw, vec![retire]).unwrap();
    assert!(commit(&store, grant, vec![Write::PutImportedFleet(fleet("cn"))]).is_err());
    assert_eq!(
        store.imported_fleets().unwrap()[0].retired_at,
        Some(seconds(5))
    );
}

#[test]
fn a_claim_token_is_used_once_and_only_with_what_it_is_used_for() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let token = |hash: u8| ClaimToken {
        manufacturer: "legacy".parse().unwrap(),
        serial: "S1".parse().unwrap(),
        hash: Digest([hash; 32]),
        made_at: seconds(1),
        expires_at: seconds(100),
        used: None,
    };
    let listed = vec![
        Write::PutImportedFleet(fleet("cn")),
        Write::PutExpectedDevices(vec![expected("S1", "o1")]),
    ];
    let unlisted = commit(
        &store,
        Direction::Grant,
        vec![Write::PutClaimTokens(vec![token(1)])],
    );
    assert!(matches!(unlisted, Err(CommitError::Conflict { .. })));
    commit(&store, Direction::Grant, listed).unwrap();
    commit(
        &store,
        Direction::Grant,
        vec![Write::PutClaimTokens(vec![token(1)])],
    )
    .unwrap();
    commit(
        &store,
        Direction::Grant,
        vec![Write::PutClaimTokens(vec![token(2)])],
    )
    .unwrap();
    let used = |hash: u8, at: u64| Write::UseClaimToken {
        manufacturer: "legacy".parse().unwrap(),
        serial: "S1".parse().unwrap(),
        hash: Digest([hash; 32]),
        used: ClaimTokenUse {
            at: seconds(at),
            key: Digest([4; 32]),
            certificate: CertificateId::new(Digest([5; 32]), &[6]).unwrap(),
        },
    };
    // Replaced; ended.
    assert!(commit(&store, Direction::Grant, vec![used(1, 50)]).is_err());
    assert!(commit(&store, Direction::Grant, vec![used(2, 100)]).is_err());
    // A change that fails for another reason uses nothing up.
    let failing = vec![used(2, 50), Write::PutImportedFleet(fleet("serial-number"))];
    assert!(commit(&store, Direction::Grant, failing).is_err());
    commit(&store, Direction::Grant, vec![used(2, 50)]).unwrap();
    assert!(commit(&store, Direction::Grant, vec![used(2, 50)]).is_err());
    let kept = store.claim_tokens_of(&"S1".parse().unwrap()).unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(
        kept[0].used.as_ref().map(|used| used.key),
        Some(Digest([4; 32]))
    );
    // Withdrawing leaves what answers a lost answer.
    let withdraw = Write::DropClaimTokens {
        manufacturer: "legacy".parse().unwrap(),
        serial: None,
    };
    commit(&store, Direction::Withdraw, vec![withdraw]).unwrap();
    assert_eq!(
        store.claim_tokens_of(&"S1".parse().unwrap()).unwrap().len(),
        1
    );
}
