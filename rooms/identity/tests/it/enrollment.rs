//! Who may have a certificate, and another.

use crate::support::*;
use identity::{Door, EnrollmentKind, Fact, Operation, certificate_id};
use model::{Revocable, RevocationReason};

#[test]
fn a_device_enrolls_again_whenever_its_factory_identity_holds() {
    let mut world = World::new();
    let key = Key::new();
    let idevid = world.factory.idevid("maker", "SN1", &Key::new());
    let who = world.enter(Door::Devices, &idevid, NOW).unwrap();
    let enroll = |world: &World| {
        world
            .registry
            .enroll(Operation::SimpleEnroll, &who, &plain_request(&key), NOW)
            .unwrap()
    };
    let first = enroll(&world);
    assert_eq!(first.kind, EnrollmentKind::First);
    assert_eq!(first.device, device_id("d1"));
    assert_eq!((first.product.as_str(), first.groups.len()), ("camera", 1));
    world.issue("d1", &key);
    assert_eq!(enroll(&world).kind, EnrollmentKind::Again);
}

#[test]
fn renewal_keeps_the_name_and_may_change_the_key() {
    let mut world = World::new();
    let key = Key::new();
    let leaf = world.issue("d1", &key);
    let who = world.enter(Door::Devices, &leaf, NOW).unwrap();
    let reenroll = |request| {
        world
            .registry
            .enroll(Operation::SimpleReenroll, &who, &request, NOW)
    };
    let kind = |key: &Key| reenroll(renewal_request(key, "d1")).unwrap().kind;
    assert_eq!(kind(&key), EnrollmentKind::Renewal);
    assert_eq!(kind(&Key::new()), EnrollmentKind::Rekey);
    for request in [renewal_request(&key, "d2"), plain_request(&key)] {
        let refusal = reenroll(request).unwrap_err();
        assert_eq!(refusal.code(), "reenroll-name-changed");
        assert!(
            refusal
                .to_string()
                .contains("spiffe://fleet.example/acme/device/d1")
        );
    }
}

#[test]
fn each_operation_takes_its_own_identity() {
    let mut world = World::new();
    let key = Key::new();
    let leaf = world.issue("d1", &key);
    let idevid = world.factory.idevid("maker", "SN1", &Key::new());
    let enter = |leaf: &[u8]| world.enter(Door::Devices, leaf, NOW).unwrap();
    let refusal = |operation, leaf: &[u8]| {
        let request = renewal_request(&key, "d1");
        world
            .registry
            .enroll(operation, &enter(leaf), &request, NOW)
            .unwrap_err()
            .code()
    };
    assert_eq!(
        refusal(Operation::SimpleEnroll, &leaf),
        "enroll-needs-idevid"
    );
    assert_eq!(
        refusal(Operation::SimpleReenroll, &idevid),
        "reenroll-needs-ldevid"
    );
}

#[test]
fn a_revocation_between_handshake_and_request_bites() {
    let mut world = World::new();
    let key = Key::new();
    let leaf = world.issue("d1", &key);
    let who = world.enter(Door::Devices, &leaf, NOW).unwrap();
    world
        .registry
        .apply(&Fact::Revoked {
            what: Revocable::Certificate(certificate_id(&leaf).unwrap()),
            reason: RevocationReason::Superseded,
            at: NOW,
        })
        .unwrap();
    let request = renewal_request(&key, "d1");
    let refusal = world
        .registry
        .enroll(Operation::SimpleReenroll, &who, &request, NOW)
        .unwrap_err();
    assert_eq!(refusal.code(), "certificate-revoked");
    let late = NOW.plus(40 * DAY);
    let refusal = world
        .registry
        .enroll(Operation::SimpleReenroll, &who, &request, late);
    assert_eq!(refusal.unwrap_err().code(), "certificate-expired");
}
