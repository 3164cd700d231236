//! Certificates as a person looks at them: each once, in the order in which they end, and as all
//! that bars them says.

use crate::fixture::*;
use model::{CertificateId, Digest, ProductId, Revocable, RevocationReason};
use std::collections::BTreeMap;
use store::{
    Certificate, CertificateQuery, CertificateState, Change, Direction, Holder, ListedCertificate,
    Store, Superseded, Write,
};

const NOW: u64 = 1000;

fn put(store: &Store, serial: u8, holder: Holder, ends: u64, key_kind: &str) -> CertificateId {
    let row = Certificate {
        not_after: seconds(ends),
        key_kind: Some(key_kind.to_owned()),
        ..certificate(serial, holder)
    };
    let change = grant(Write::PutCertificate(row)).entry(vec![b'x']);
    store.commit(change).unwrap();
    certificate_id(serial)
}

fn withdraw(store: &Store, what: Revocable, reason: RevocationReason) {
    let revoke = Write::Revoke {
        what,
        at: seconds(NOW),
        reason,
    };
    let change = Change::new(Direction::Withdraw).write(revoke);
    store.commit(change).unwrap();
}

/// All of a query, read in pages of two.
fn all(store: &Store, mut query: CertificateQuery) -> Vec<ListedCertificate> {
    let mut found: Vec<ListedCertificate> = Vec::new();
    loop {
        let page = (store.certificates_by_end(&query, seconds(NOW), 2)).unwrap();
        let Some(last) = page.last() else {
            return found;
        };
        query.after = Some((last.not_after, last.certificate));
        found.extend(page);
    }
}

fn states(found: &[ListedCertificate]) -> Vec<(u8, CertificateState)> {
    let serial = |one: &ListedCertificate| one.certificate.serial()[0];
    found.iter().map(|one| (serial(one), one.state)).collect()
}

/// Five cameras that end at one moment, a service, a server, one that has ended.
fn fleet(store: &Store) {
    for number in 1..=5 {
        let name = format!("cam-{number}");
        enroll(store, &format!("SN{number}"), &name);
        put(
            store,
            number,
            Holder::Device(device_id(&name)),
            5000,
            "P-256",
        );
    }
    put(
        store,
        6,
        Holder::Service(service_id("ingest")),
        4000,
        "RSA 2048",
    );
    put(store, 7, Holder::Server, 9000, "P-256");
    put(store, 8, Holder::Device(device_id("cam-1")), NOW, "P-256");
}

#[test]
fn pages_hold_each_certificate_once_in_the_order_in_which_they_end() {
    use CertificateState::{Current, Ended};
    let (_scratch, data) = scratch();
    let store = open(&data);
    fleet(&store);
    let found = all(&store, CertificateQuery::default());
    let in_order = [6, 1, 2, 3, 4, 5, 7].map(|serial| (serial, Current));
    assert_eq!(
        states(&found),
        in_order,
        "many end at one moment, none is lost or doubled"
    );
    let ended = CertificateQuery {
        state: Some(Ended),
        ..CertificateQuery::default()
    };
    assert_eq!(states(&all(&store, ended)), [(8, Ended)]);
    let rsa = CertificateQuery {
        key_kind: Some("RSA 2048".to_owned()),
        ..CertificateQuery::default()
    };
    assert_eq!(states(&all(&store, rsa)), [(6, Current)]);
    let soon = CertificateQuery {
        ends_before: Some(seconds(4500)),
        ..CertificateQuery::default()
    };
    assert_eq!(states(&all(&store, soon)), [(6, Current)]);
    let cameras = CertificateQuery {
        product: Some(ProductId::new("camera").unwrap()),
        ..CertificateQuery::default()
    };
    assert_eq!(all(&store, cameras).len(), 5);
    let of_another = CertificateQuery {
        issuer: Some(Digest([1; 32])),
        ..CertificateQuery::default()
    };
    assert!(all(&store, of_another).is_empty());
    // The entry of its issue is the one of its own change.
    let leaves: Vec<_> = found.iter().map(|one| one.entry).collect();
    assert!(leaves.iter().all(Option::is_some));
    assert_eq!(found[0].entry, found[5].entry.map(|entry| entry + 1));
}

#[test]
fn a_certificate_stands_as_the_worst_that_bars_it() {
    use CertificateState::{Current, OnHold, Revoked, Superseded as OnItsWay};
    let (_scratch, data) = scratch();
    let store = open(&data);
    fleet(&store);
    withdraw(
        &store,
        Revocable::Certificate(certificate_id(1)),
        RevocationReason::CertificateHold,
    );
    withdraw(
        &store,
        "device/cam-2".parse().unwrap(),
        RevocationReason::KeyCompromise,
    );
    withdraw(
        &store,
        "device/cam-3".parse().unwrap(),
        RevocationReason::CertificateHold,
    );
    let superseded = Superseded {
        certificate: certificate_id(4),
        by: certificate_id(5),
        at: seconds(900),
    };
    let change = Change::new(Direction::Neutral).write(Write::PutSuperseded(vec![superseded]));
    store.commit(change).unwrap();
    let found = all(&store, CertificateQuery::default());
    let expected = [
        (6, Current),
        (1, OnHold),
        (2, Revoked),
        (3, OnHold),
        (4, OnItsWay),
        (5, Current),
        (7, Current),
    ];
    assert_eq!(states(&found), expected);
    assert_eq!(found[4].superseded_at, Some(seconds(900)));
    let by = |at: usize| found[at].barred.as_ref().map(|one| one.by.to_string());
    assert_eq!(by(2).as_deref(), Some("device/cam-2"));
    assert_eq!(by(5), None);

    // A whole product on hold lifts no revocation, and holds what nothing else bars.
    withdraw(
        &store,
        "product/camera".parse().unwrap(),
        RevocationReason::CertificateHold,
    );
    let found = all(&store, CertificateQuery::default());
    let expected = [
        (6, Current),
        (1, OnHold),
        (2, Revoked),
        (3, OnHold),
        (4, OnHold),
        (5, OnHold),
        (7, Current),
    ];
    assert_eq!(states(&found), expected);
    assert_eq!(
        found[2]
            .barred
            .as_ref()
            .map(|one| one.by.to_string())
            .as_deref(),
        Some("device/cam-2"),
        "the revocation, not the hold"
    );
    // And its CA, for good.
    let issuer = certificate_id(1).issuer();
    withdraw(
        &store,
        Revocable::Issuer(issuer),
        RevocationReason::CaCompromise,
    );
    let found = all(&store, CertificateQuery::default());
    assert!(found.iter().all(|one| one.state == Revoked));

    // Counts and pages are one truth.
    let mut by_state: BTreeMap<CertificateState, u64> = BTreeMap::new();
    for one in store.certificate_counts(seconds(NOW)).unwrap() {
        assert_eq!((one.issuer, one.week), (issuer, 0));
        *by_state.entry(one.state).or_default() += one.count;
    }
    for state in CertificateState::ALL {
        let query = CertificateQuery {
            state: Some(state),
            ..CertificateQuery::default()
        };
        let listed = all(&store, query).len() as u64;
        assert_eq!(
            by_state.get(&state).copied().unwrap_or(0),
            listed,
            "{state:?}"
        );
    }
}

#[test]
fn counts_tell_the_week_in_which_certificates_end() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let week = 7 * 86_400;
    for (serial, ends) in [
        (1, NOW + 1),
        (2, NOW + week - 1),
        (3, NOW + week),
        (4, NOW + 30 * week),
    ] {
        put(&store, serial, Holder::Server, ends, "P-256");
    }
    let counts = store.certificate_counts(seconds(NOW)).unwrap();
    let weeks: Vec<_> = counts.iter().map(|one| (one.week, one.count)).collect();
    assert_eq!(weeks, [(0, 2), (1, 1), (30, 1)]);
}

/// `cargo test --release -p store -- --ignored --nocapture a_large_fleet`.
#[test]
#[ignore = "a figure, not a test"]
fn a_large_fleet_is_counted_and_paged() {
    const FLEET: u32 = 100_000;
    let (_scratch, data) = scratch();
    let store = open(&data);
    for number in 0..FLEET {
        let name = format!("cam-{number}");
        let serial = format!("SN{number}");
        let row = Certificate {
            id: CertificateId::new(Digest([9; 32]), &(number + 1).to_be_bytes()).unwrap(),
            not_after: seconds(NOW + 86_400 + u64::from(number) * 20),
            der: vec![7; 600],
            ..certificate(1, Holder::Device(device_id(&name)))
        };
        let mut change = grant(Write::PutDevice(device(&serial, &name)));
        if number == 0 {
            change = grant(Write::PutManufacturer(manufacturer()))
                .write(Write::PutDevice(device(&serial, &name)));
        }
        let change = change.write(Write::PutCertificate(row));
        store.commit(change.entry(vec![7; 300])).unwrap();
    }
    for number in (0..FLEET).step_by(1000) {
        let what = format!("device/cam-{number}").parse().unwrap();
        withdraw(&store, what, RevocationReason::KeyCompromise);
    }
    let took = |what: &str, work: &dyn Fn() -> usize| {
        work();
        let start = std::time::Instant::now();
        let rows = work();
        println!(
            "{FLEET} certificates: {what}, {rows} rows, {:?}",
            start.elapsed()
        );
    };
    took("counts", &|| {
        store.certificate_counts(seconds(NOW)).unwrap().len()
    });
    let page = |query: CertificateQuery| {
        (store.certificates_by_end(&query, seconds(NOW), 50))
            .unwrap()
            .len()
    };
    took("the first page", &|| page(CertificateQuery::default()));
    took("a page of one product", &|| {
        page(CertificateQuery {
            product: Some(ProductId::new("camera").unwrap()),
            ..CertificateQuery::default()
        })
    });
    took("all revoked ones", &|| {
        page(CertificateQuery {
            state: Some(CertificateState::Revoked),
            ..CertificateQuery::default()
        })
    });
    took("those of one device", &|| {
        page(CertificateQuery {
            principal: Some("device/cam-99999".parse().unwrap()),
            ..CertificateQuery::default()
        })
    });
    took("a kind of key that nobody has", &|| {
        page(CertificateQuery {
            key_kind: Some("RSA 2048".to_owned()),
            ..CertificateQuery::default()
        })
    });
}
