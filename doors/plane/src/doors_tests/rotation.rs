//! The old certificate's way out: not before the new one was seen, not before the overlap is over.

use super::{House, blocking, id};
use crate::clock;
use crate::flow;
use model::{CertificateId, Principal, RevocationReason};
use sim::Device;
use sim::device::{Manner, Shown};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

impl House {
    /// Its certificates, the latest issued first.
    fn certificates(&self, name: &str) -> Vec<CertificateId> {
        let registry = self.plane.trust().registry();
        let all = registry.certificates_of(&Principal::Device(id(name)));
        all.into_iter()
            .map(|(certificate, _)| certificate)
            .collect()
    }

    /// A session by what it holds, ended again.
    async fn enters(&self, device: Device) -> Device {
        let at = self.at.clone();
        blocking(move || {
            device
                .try_connect(&at, &Manner::default(), Shown::Ldevid)
                .unwrap();
            device
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_certificate_goes_when_the_new_one_was_seen_and_the_overlap_is_over() {
    let mut house = House::with(&["cam-1"]).await;
    let mut new = house.connected("cam-1").await;
    let mut old = house.device("cam-1");
    old.adopt(new.ldevid().unwrap().clone());
    let at = house.at.clone();
    let new = blocking(move || {
        new.reenroll(&at, &Manner::default(), true).unwrap();
        new
    })
    .await;
    let plane = std::sync::Arc::clone(&house.plane);
    let (second, first) = match house.certificates("cam-1").as_slice() {
        [second, first] => (*second, *first),
        other => panic!("{other:?}"),
    };

    // Its answer may be lost: what was only issued supersedes nothing, however long ago.
    let old = house.enters(old).await;
    flow::supersede(&plane).await.unwrap();
    assert_eq!(plane.trust().registry().superseded_by(&first), None);
    assert_eq!(
        flow::retire(&plane, clock::now().plus(9 * DAY))
            .await
            .unwrap(),
        0
    );

    let new = house.enters(new).await;
    flow::supersede(&plane).await.unwrap();
    let noted = plane.trust().registry().superseded_by(&first).unwrap();
    assert_eq!(noted.by, second);
    let mut rows = Vec::new();
    plane
        .store
        .for_each_superseded(|row| rows.push(row))
        .unwrap();
    assert_eq!(
        rows.len(),
        1,
        "on record, so that a restart keeps the overlap's beginning"
    );
    // In the overlap both open doors, and the old one's return moves nothing.
    let old = house.enters(old).await;
    flow::supersede(&plane).await.unwrap();
    assert_eq!(plane.trust().registry().superseded_by(&first), Some(noted));
    let almost = noted.at.plus(DAY - Duration::from_secs(1));
    assert_eq!(flow::retire(&plane, almost).await.unwrap(), 0);

    assert_eq!(flow::retire(&plane, noted.at.plus(DAY)).await.unwrap(), 1);
    let why = plane.trust().registry().certificate_revocation(&first);
    assert_eq!(
        why.map(|one| one.reason),
        Some(RevocationReason::Superseded)
    );
    house.refused(old, "certificate-revoked").await;
    house.enters(new).await;
    assert_eq!(
        flow::retire(&plane, noted.at.plus(2 * DAY)).await.unwrap(),
        0
    );
    house.end().await;
}
