//! What is forgotten with time, and what is made good when it was not told.

use super::{House, blocking, id, is_failure};
use crate::clock;
use crate::entries::Actor;
use crate::flow;
use crate::judge::signals::Told;
use crate::tasks::forget::forget;
use crate::withdrawing::Revoking;
use identity::crl::KEPT_AFTER_END;
use model::{Principal, Revocable, RevocationReason};
use sim::Device;
use sim::device::{Manner, Shown};
use std::time::Duration;

impl House {
    /// Its certificate opens no session, for this reason.
    pub(super) async fn refused(&mut self, device: Device, why: &str) -> Device {
        let at = self.at.clone();
        let device = blocking(move || {
            let refused = device.try_connect(&at, &Manner::default(), Shown::Ldevid);
            assert!(refused.is_err());
            device
        })
        .await;
        self.wait_seen(why, |seen| is_failure(&seen.feature, why))
            .await;
        device
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_stays_barred_until_it_has_ended_and_is_on_no_record_afterwards() {
    let mut house = House::with(&["cam-1", "cam-2"]).await;
    let (revoked, _other) = (
        house.connected("cam-1").await,
        house.connected("cam-2").await,
    );
    let principal = Principal::Device(id("cam-1"));
    let rows = house.plane.store.certificates_of(&principal).unwrap();
    let (certificate, end) = (rows[0].certificate.id, rows[0].certificate.not_after);
    let row = Revocable::Certificate(certificate);
    let what = Revoking::one(row.clone(), RevocationReason::KeyCompromise);
    flow::revoke(&house.plane, &what, &Actor::Plane)
        .await
        .unwrap();

    // Until no list shows it any more it stays on record, and barred for what was done to it.
    for now in [clock::now(), end, end.plus(KEPT_AFTER_END)] {
        assert_eq!(forget(&house.plane, now).await.unwrap(), 0);
    }
    let on_record = |house: &House| {
        house
            .plane
            .store
            .certificate(&certificate)
            .unwrap()
            .is_some()
    };
    let in_memory = |house: &House| house.plane.trust().registry().certificate_count();
    // Two of the device, and our door's own, which lives on.
    assert_eq!((on_record(&house), in_memory(&house)), (true, 3));
    let revoked = house.refused(revoked, "certificate-revoked").await;

    let later = end.plus(KEPT_AFTER_END + Duration::from_secs(600));
    assert_eq!(forget(&house.plane, later).await.unwrap(), 2);
    assert_eq!((on_record(&house), in_memory(&house)), (false, 1));
    assert_eq!(forget(&house.plane, later).await.unwrap(), 0);
    assert!(house.plane.store.revocation(&row).unwrap().is_some());
    // Attack: the clock goes back to when it was valid, as it is here. It does not come back.
    house.refused(revoked, "certificate-unrecorded").await;
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaving_that_did_not_fit_is_made_good_by_the_shards_own_count() {
    let mut house = House::with(&["cam-1", "cam-2"]).await;
    let (leaving, _staying) = (
        house.connected("cam-1").await,
        house.connected("cam-2").await,
    );
    let connected = |house: &House, name: &str| {
        let view = house.plane.inventory.lock().device(&id(name), clock::now());
        view.unwrap().connected
    };
    for name in ["cam-1", "cam-2"] {
        let is_it = |told: &Told| {
            matches!(told, Told::Connected { principal: Principal::Device(device), .. }
                if *device == id(name))
        };
        house.wait_told("connecting", is_it).await;
    }
    house.plane.sight(&std::mem::take(&mut house.told));
    blocking(move || drop(leaving)).await;
    house
        .wait_told("leaving", |told| matches!(told, Told::Disconnected { .. }))
        .await;
    // It is lost on the way.
    house.told.clear();
    assert!(connected(&house, "cam-1") && connected(&house, "cam-2"));

    house.plane.shards().recount();
    for shard in 0..house.plane.shards().shard_count() {
        let is_it = |told: &Told| matches!(told, Told::Sessions { shard: of, .. } if *of == shard);
        house.wait_told("the count", is_it).await;
    }
    house.plane.sight(&house.told);
    assert!(!connected(&house, "cam-1") && connected(&house, "cam-2"));
    house.end().await;
}
