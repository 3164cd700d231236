//! Rows come back as they were written, one by one, in pages and in streams.

use crate::fixture::*;
use model::{Digest, Principal, Revocable, RevocationReason};
use store::{Change, CommitError, Direction, Guard, Holder, Revocation, Store, Superseded, Write};

#[test]
fn a_device_and_its_certificates_come_back_as_written() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    enroll(&store, "SN1", "cam-1");
    let holder = Holder::Device(device_id("cam-1"));
    let first = certificate(1, holder.clone());
    let mut second = certificate(2, holder);
    second.not_after = seconds(90);
    store
        .commit(grant(Write::PutCertificate(first.clone())))
        .unwrap();
    store
        .commit(grant(Write::PutCertificate(second.clone())))
        .unwrap();
    store
        .commit(grant(Write::PutCertificate(certificate(3, Holder::Server))))
        .unwrap();
    store
        .commit(Change::new(Direction::Withdraw).write(Write::Revoke {
            what: Revocable::Certificate(first.id),
            at: seconds(40),
            reason: RevocationReason::Superseded,
        }))
        .unwrap();

    let row = store.device(&device_id("cam-1")).unwrap().unwrap();
    assert_eq!(
        (row.device, row.version, row.revoked),
        (device("SN1", "cam-1"), 1, None)
    );
    let revoked = Some(Revocation {
        at: seconds(40),
        reason: RevocationReason::Superseded,
    });
    let stored = store.certificate(&first.id).unwrap().unwrap();
    assert_eq!((&stored.certificate, stored.revoked), (&first, revoked));
    let own = store
        .certificates_of(&Principal::Device(device_id("cam-1")))
        .unwrap();
    let own: Vec<_> = own.into_iter().map(|row| row.certificate).collect();
    assert_eq!(own, [second, first.clone()]);
    let mut all = Vec::new();
    assert_eq!(store.for_each_certificate(|row| all.push(row)).unwrap(), 3);
    assert_eq!(all.iter().filter(|row| row.revoked.is_some()).count(), 1);
    assert!(
        all.iter()
            .any(|row| row.certificate.holder == Holder::Server)
    );
}

#[test]
fn a_superseded_certificate_stays_noted_until_it_is_revoked_or_forgotten() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    enroll(&store, "SN1", "cam-1");
    let holder = || Holder::Device(device_id("cam-1"));
    let all = |store: &Store| {
        let mut all = Vec::new();
        store.for_each_superseded(|row| all.push(row)).unwrap();
        all
    };
    // Numbers against the order of time: the order of issue is that of time.
    for (number, begins) in [(9, 10), (7, 20), (8, 30)] {
        let row = store::Certificate {
            not_before: seconds(begins),
            ..certificate(number, holder())
        };
        store.commit(grant(Write::PutCertificate(row))).unwrap();
    }
    let of_door = store::Certificate {
        not_before: seconds(40),
        ..certificate(6, Holder::Server)
    };
    store.commit(grant(Write::PutCertificate(of_door))).unwrap();
    let mut issued = Vec::new();
    store
        .for_each_issued(|row| issued.push((row.certificate, row.principal.is_some())))
        .unwrap();
    let wanted = [(9, true), (7, true), (8, true), (6, false)];
    assert_eq!(
        issued,
        wanted.map(|(number, held)| (certificate_id(number), held))
    );

    let note = |number, by, at| Superseded {
        certificate: certificate_id(number),
        by: certificate_id(by),
        at: seconds(at),
    };
    let put = |rows| Change::new(Direction::Neutral).write(Write::PutSuperseded(rows));
    let notes = vec![note(7, 8, 40), note(9, 8, 40)];
    store.commit(put(notes.clone())).unwrap();
    // The first proof counts.
    store.commit(put(vec![note(9, 7, 50)])).unwrap();
    assert_eq!(all(&store), notes);
    drop(store);
    let store = open(&data);
    assert_eq!(all(&store), notes);
    let revoked = Write::Revoke {
        what: Revocable::Certificate(certificate_id(9)),
        at: seconds(60),
        reason: RevocationReason::Superseded,
    };
    store
        .commit(Change::new(Direction::Withdraw).write(revoked))
        .unwrap();
    store.commit(put(vec![note(9, 8, 70)])).unwrap();
    assert_eq!(all(&store), [note(7, 8, 40)]);
    let forget = Write::ForgetCertificates {
        ended_before: seconds(u32::MAX.into()),
    };
    store
        .commit(Change::new(Direction::Neutral).write(forget))
        .unwrap();
    assert_eq!(all(&store), []);
}

#[test]
fn a_serial_number_is_never_issued_twice() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let put = || grant(Write::PutCertificate(certificate(1, Holder::Server)));
    store.commit(put()).unwrap();
    assert!(matches!(
        store.commit(put()),
        Err(CommitError::Conflict { .. })
    ));
    let guard = Guard::CertificateUnknown(certificate_id(1));
    let refused = store.commit(put().guard(guard.clone()));
    assert_eq!(refused, Err(CommitError::Guard(guard)));
    // Nor one that was revoked in a history this database no longer has.
    store
        .commit(Change::new(Direction::Withdraw).write(Write::Revoke {
            what: Revocable::Certificate(certificate_id(2)),
            at: seconds(1),
            reason: RevocationReason::Unspecified,
        }))
        .unwrap();
    let refused = store.commit(grant(Write::PutCertificate(certificate(2, Holder::Server))));
    assert!(matches!(refused, Err(CommitError::Guard(_))));
}

#[test]
fn a_serial_makes_one_device_and_a_device_has_one_serial() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    enroll(&store, "SN1", "cam-1");
    for (serial, id) in [("SN1", "cam-2"), ("SN2", "cam-1")] {
        let refused = store.commit(grant(Write::PutDevice(device(serial, id))));
        assert!(
            matches!(refused, Err(CommitError::Conflict { .. })),
            "{serial} {id}"
        );
    }
    let orphan = certificate(1, Holder::Device(device_id("cam-9")));
    let refused = store.commit(grant(Write::PutCertificate(orphan)));
    assert!(matches!(refused, Err(CommitError::Conflict { .. })));
}

#[test]
fn a_list_can_be_imported_again_but_names_stay_unique() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let import = |rows| store.commit(grant(Write::PutExpectedDevices(rows)));
    let unregistered = import(vec![expected("SN1", "cam-1")]);
    let Err(CommitError::Conflict { what }) = unregistered else {
        panic!("{unregistered:?}");
    };
    assert!(what.contains("maker is not registered"), "{what}");
    store
        .commit(grant(Write::PutManufacturer(manufacturer())))
        .unwrap();
    let list = || vec![expected("SN1", "cam-1"), expected("SN2", "cam-2")];
    import(list()).unwrap();
    import(list()).unwrap();
    // A new name for a listed serial would leave its certificates and revocations behind.
    let renamed = import(vec![expected("SN2", "cam-3")]);
    let Err(CommitError::Conflict { what }) = renamed else {
        panic!("{renamed:?}");
    };
    assert!(what.contains("SN2") && what.contains("cam-3"), "{what}");
    let taken = import(vec![expected("SN4", "cam-4"), expected("SN3", "cam-1")]);
    let Err(CommitError::Conflict { what }) = taken else {
        panic!("{taken:?}");
    };
    assert!(what.contains("cam-1") && what.contains("SN3"), "{what}");
    let mut all = Vec::new();
    store.for_each_expected_device(|row| all.push(row)).unwrap();
    assert_eq!(all, list());
    let one = store
        .expected_device(&all[0].manufacturer, &all[0].serial)
        .unwrap();
    assert_eq!(one, Some(all[0].clone()));
}

#[test]
fn pages_join_to_the_whole() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    store
        .commit(grant(Write::PutManufacturer(manufacturer())))
        .unwrap();
    let names: Vec<_> = (0..25).map(|n| format!("cam-{n:02}")).collect();
    let mut import = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let serial = format!("SN {number:02}");
        store
            .commit(grant(Write::PutDevice(device(&serial, name))))
            .unwrap();
        import.push(expected(&serial, name));
    }
    store
        .commit(grant(Write::PutExpectedDevices(import.clone())))
        .unwrap();
    store.commit(revoke_device("cam-07")).unwrap();

    let mut devices: Vec<store::DeviceRow> = Vec::new();
    loop {
        let page = store
            .devices(devices.last().map(|row| &row.device.id), 10)
            .unwrap();
        let last = page.len() < 10;
        devices.extend(page);
        if last {
            break;
        }
    }
    let ids: Vec<_> = devices
        .iter()
        .map(|row| row.device.id.to_string())
        .collect();
    assert_eq!(ids, names);
    let barred: Vec<_> = devices.iter().filter(|row| row.revoked.is_some()).collect();
    assert_eq!(barred.len(), 1);
    assert_eq!(barred[0].device.id, device_id("cam-07"));
    let mut streamed = Vec::new();
    store.for_each_device(|row| streamed.push(row)).unwrap();
    assert_eq!(streamed, devices);

    let mut listed: Vec<store::ExpectedDevice> = Vec::new();
    loop {
        let after = listed.last().map(|row| (&row.manufacturer, &row.serial));
        let page = store.expected_devices(after, 7).unwrap();
        let last = page.len() < 7;
        listed.extend(page);
        if last {
            break;
        }
    }
    assert_eq!(listed, import);
    let population = store.population().unwrap();
    assert_eq!((population.devices, population.expected_devices), (25, 25));
}

/// After a backup was restored the database may hold a revocation and no device.
#[test]
fn a_revocation_of_something_unknown_is_kept_and_bites() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    store.commit(revoke_device("cam-1")).unwrap();
    store
        .commit(grant(Write::PutManufacturer(manufacturer())))
        .unwrap();
    let refused = store.commit(grant(Write::PutDevice(device("SN1", "cam-1"))));
    assert!(matches!(refused, Err(CommitError::Guard(_))));
    let mut all = Vec::new();
    store
        .for_each_revocation(|what, revocation| all.push((what, revocation)))
        .unwrap();
    let expected = Revocation {
        at: seconds(30),
        reason: RevocationReason::KeyCompromise,
    };
    let who = Revocable::Principal(Principal::Device(device_id("cam-1")));
    assert_eq!(all, [(who, expected)]);
}

#[test]
fn a_reader_may_read_again_inside_its_callback() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    enroll(&store, "SN1", "cam-1");
    let mut seen = 0;
    store
        .for_each_device(|row| {
            assert!(store.device(&row.device.id).unwrap().is_some());
            store.commit(put_meta("inside", b"1")).unwrap();
            seen += 1;
        })
        .unwrap();
    assert_eq!(seen, 1);
}

#[test]
fn a_device_s_word_on_roots_replaces_the_one_before() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let (one, two) = (Digest([1; 32]), Digest([2; 32]));
    let say = |name: &str, roots: Vec<Digest>| {
        let write = Write::PutLearnedRoots {
            device: device_id(name),
            roots,
            at: seconds(1),
        };
        store.commit(Change::new(Direction::Neutral).write(write))
    };
    say("cam-1", vec![one, two]).unwrap();
    say("cam-2", vec![one]).unwrap();
    say("cam-1", vec![two]).unwrap();
    assert_eq!(store.learned_roots(&device_id("cam-1")).unwrap(), [two]);
    let who = |root: &Digest| {
        let mut all = Vec::new();
        store
            .for_each_learned(root, |device| all.push(device))
            .unwrap();
        all
    };
    assert_eq!(who(&one), [device_id("cam-2")]);
    assert_eq!(who(&two), [device_id("cam-1")]);
    assert!(say("cam-1", vec![one; 17]).is_err());
}
