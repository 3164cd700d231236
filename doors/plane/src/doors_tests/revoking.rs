//! What is withdrawn: one thing, many by one fact, a whole list; for good or on hold.

use super::{House, PATIENCE, blocking};
use crate::entries::Actor;
use crate::flow;
use crate::respond::deciding;
use crate::withdrawing::{Releasing, RevocationReceipt, Revoking};
use model::{Digest, Revocable, RevocationReason};
use sim::Device;
use sim::device::{Manner, Shown};
use std::time::Instant;

impl House {
    pub(super) async fn revoke(&self, what: &str, reason: RevocationReason) -> RevocationReceipt {
        let what = Revoking::one(what.parse().unwrap(), reason);
        deciding::revoke(&self.plane, &what, &Actor::Plane)
            .await
            .unwrap()
    }

    pub(super) async fn release(&self, what: &str) -> Result<store::Receipt, String> {
        let releasing = Releasing {
            what: what.parse().unwrap(),
            reason: "found again".into(),
        };
        let released = flow::release(&self.plane, &releasing, &Actor::Plane).await;
        released.map_err(|trouble| trouble.to_string())
    }

    /// Its session is closed by the plane, and neither of its certificates brings it back.
    async fn is_out(&self, mut device: Device) -> Device {
        let at = self.at.clone();
        blocking(move || {
            if let Some(session) = device.session() {
                let ended = session.next(Instant::now() + PATIENCE).unwrap_err();
                assert!(ended.is_by_server(), "{ended}");
                drop(device.take_session());
            }
            let back = device.try_return(&at, &Manner::default());
            assert!(
                back.reconnect_refused() && back.reenroll_refused(),
                "{back:?}"
            );
            device
        })
        .await
    }

    pub(super) async fn is_in(&self, device: Device) -> Device {
        let at = self.at.clone();
        blocking(move || {
            let manner = Manner::default();
            device.try_connect(&at, &manner, Shown::Ldevid).unwrap();
            device
        })
        .await
    }

    fn entries(&self) -> Vec<audit::Entry> {
        let leaves = self.plane.store.leaves(0, 1000).unwrap();
        leaves
            .iter()
            .map(|leaf| audit::Entry::from_leaf(leaf).unwrap())
            .collect()
    }

    fn told_of(&self, entry: u64) -> (String, String) {
        let entry = self.entries().swap_remove(usize::try_from(entry).unwrap());
        (entry.action, entry.object)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_on_hold_is_out_until_it_is_released_and_a_revocation_is_for_good() {
    let house = House::with(&["cam-1", "cam-2"]).await;
    let (camera, neighbour) = (
        house.connected("cam-1").await,
        house.connected("cam-2").await,
    );
    let done = house
        .revoke("device/cam-1", RevocationReason::CertificateHold)
        .await;
    assert_eq!((done.unknown, done.sessions_closed), (0, 1));
    let told = house.told_of(done.entry);
    assert_eq!(told.0, "identity.device-revoked");
    let camera = house.is_out(camera).await;
    let receipt = house.release("device/cam-1").await.unwrap();
    let told = house.told_of(receipt.first_leaf_index);
    let wanted = (
        "identity.hold-released".to_owned(),
        "device/cam-1".to_owned(),
    );
    assert_eq!(told, wanted);
    let camera = house.is_in(camera).await;
    assert!(
        house
            .release("device/cam-1")
            .await
            .unwrap_err()
            .contains("not on hold")
    );

    house
        .revoke("device/cam-1", RevocationReason::CertificateHold)
        .await;
    house
        .revoke("device/cam-1", RevocationReason::KeyCompromise)
        .await;
    house
        .revoke("device/cam-1", RevocationReason::CertificateHold)
        .await;
    let said = house.release("device/cam-1").await.unwrap_err();
    assert!(said.contains("revoked for good (key-compromise)"), "{said}");
    house.is_out(camera).await;
    house.is_in(neighbour).await;
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_product_bars_all_its_devices_as_one_fact() {
    let house = House::with(&["cam-1", "cam-2"]).await;
    let cameras = [
        house.connected("cam-1").await,
        house.connected("cam-2").await,
    ];
    let what: Revocable = "product/camera".parse().unwrap();
    let preview = house.plane.preview(vec![what.clone()]).await.unwrap();
    let found = (
        preview.reach.devices,
        preview.reach.certificates,
        preview.sessions,
    );
    assert_eq!((found, preview.unknown), ((2, 2, 2), 0));
    let done = house
        .revoke("product/camera", RevocationReason::CertificateHold)
        .await;
    assert_eq!(done.sessions_closed, 2);
    assert_eq!(house.told_of(done.entry).1, "product/camera");
    let [first, second] = cameras;
    let (first, second) = (house.is_out(first).await, house.is_out(second).await);
    let revoked = house.plane.inventory.lock().summary(sim::now()).revoked;
    assert_eq!(revoked, 2);
    house.release("product/camera").await.unwrap();
    house.is_in(first).await;
    house.is_in(second).await;
    house.end().await;
}

/// A shard ends a bounded number of connections in one turn: the receipt waits for the last.
#[tokio::test(flavor = "multi_thread")]
async fn more_sessions_than_one_turn_ends_are_all_closed_by_the_receipt() {
    const DEVICES: usize = 140;
    let names: Vec<String> = (0..DEVICES).map(|number| format!("cam-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let house = House::with(&names).await;
    let mut cameras = Vec::new();
    for name in names {
        cameras.push(house.connected(name).await);
    }
    let done = house
        .revoke("product/camera", RevocationReason::CertificateHold)
        .await;
    assert_eq!(usize::try_from(done.sessions_closed).unwrap(), DEVICES);
    assert!(done.in_force_after <= done.closed_after);
    let left = house.plane.shards().reports().await;
    let left: usize = left.iter().map(|report| report.connections).sum();
    assert_eq!(left, 0);
    blocking(move || {
        for mut camera in cameras {
            let ended = camera.session().unwrap().next(Instant::now() + PATIENCE);
            assert_eq!(ended.unwrap_err().kind(), "disconnect:0x98");
        }
    })
    .await;
    house.end().await;
}

/// Closed at once, the kernel would answer what is on its way with a reset, and the device would
/// be told nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_speaks_while_it_is_revoked_hears_why() {
    const DEVICES: usize = 20;
    let names: Vec<String> = (0..DEVICES).map(|number| format!("cam-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let house = House::with(&names).await;
    for name in names {
        let mut camera = house.connected(name).await;
        let (begun, begins) = tokio::sync::oneshot::channel();
        let topic = format!("v1/{name}/up");
        let speaks = blocking(move || {
            let session = camera.session().unwrap();
            let mut begun = Some(begun);
            // It never looks whether anything came, until it cannot write any more.
            for number in 0..20_000 {
                if let Err(ended) = session.send(&topic, &[0; 100]) {
                    return ended.kind();
                }
                if number == 100 {
                    begun.take().unwrap().send(()).unwrap();
                }
            }
            loop {
                if let Err(ended) = session.next(Instant::now() + PATIENCE) {
                    return ended.kind();
                }
            }
        });
        let revoked = async {
            begins.await.unwrap();
            let what = format!("device/{name}");
            house.revoke(&what, RevocationReason::KeyCompromise).await
        };
        let (heard, _) = tokio::join!(speaks, revoked);
        assert_eq!(heard, "disconnect:0x98", "{name}");
    }
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_ca_ends_all_that_it_issued_and_issues_nothing_more() {
    let house = House::with(&["cam-1", "cam-2"]).await;
    let camera = house.connected("cam-1").await;
    let ca = format!(
        "ca/{}",
        house.plane.tree().for_device(None).unwrap().issuer.id()
    );
    let done = house.revoke(&ca, RevocationReason::CaCompromise).await;
    assert_eq!((done.unknown, done.sessions_closed), (0, 1));
    house.is_out(camera).await;
    let mut other = house.device("cam-2");
    let at = house.at.clone();
    let refused = blocking(move || other.enroll(&at, &Manner::default())).await;
    assert!(
        refused.is_err(),
        "a certificate of a revoked CA was handed out"
    );
    assert!(house.release(&ca).await.unwrap_err().contains("for good"));
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_one_act_with_an_entry_for_each_line() {
    let house = House::with(&["cam-1", "cam-2", "cam-3"]).await;
    let mut cameras = Vec::new();
    for name in ["cam-1", "cam-2", "cam-3"] {
        cameras.push(house.connected(name).await);
    }
    let before = house.plane.store.leaf_count().unwrap();
    let lines = ["device/cam-1", "device/cam-2", "device/ghost"];
    let revoking = Revoking {
        what: lines.iter().map(|line| line.parse().unwrap()).collect(),
        list: Some(Digest([7; 32])),
        ..Revoking::nothing(RevocationReason::PrivilegeWithdrawn)
    };
    let done = deciding::revoke(&house.plane, &revoking, &Actor::Plane)
        .await
        .unwrap();
    assert_eq!((done.unknown, done.sessions_closed), (1, 2));
    let entries = house.entries().split_off(usize::try_from(before).unwrap());
    let objects: Vec<&str> = entries.iter().map(|entry| entry.object.as_str()).collect();
    assert_eq!(objects[..3], lines);
    let sum = &entries[3];
    assert_eq!(sum.action, "identity.list-revoked");
    assert_eq!(
        (sum.details["revoked"].as_str(), done.entry),
        ("3", before + 3)
    );
    let third = cameras.pop().unwrap();
    for camera in cameras {
        house.is_out(camera).await;
    }
    house.is_in(third).await;
    house.end().await;
}

/// Longer than one change may be: all of it is in force first, then recorded in parts.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_is_recorded_in_parts() {
    let house = House::with(&["cam-1"]).await;
    let camera = house.connected("cam-1").await;
    let before = house.plane.store.leaf_count().unwrap();
    let mut what: Vec<Revocable> = (0..12_000)
        .map(|number| format!("device/ghost-{number}").parse().unwrap())
        .collect();
    what.push("device/cam-1".parse().unwrap());
    let revoking = Revoking {
        what,
        list: Some(Digest([8; 32])),
        ..Revoking::nothing(RevocationReason::CessationOfOperation)
    };
    let done = deciding::revoke(&house.plane, &revoking, &Actor::Plane)
        .await
        .unwrap();
    assert_eq!((done.unknown, done.sessions_closed), (12_000, 1));
    assert!(done.in_force_after <= done.recorded_after);
    assert_eq!(house.plane.store.leaf_count().unwrap(), before + 12_002);
    assert_eq!(done.entry, before + 12_001);
    let stored = house.plane.store.revocation(&revoking.what[7]).unwrap();
    assert_eq!(
        stored.unwrap().reason,
        RevocationReason::CessationOfOperation
    );
    house.is_out(camera).await;
    house.end().await;
}
