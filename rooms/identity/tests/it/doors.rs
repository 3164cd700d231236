//! Which certificate opens which door, and what each refusal is called.

use crate::support::*;
use identity::{Actor, AnchorRefusal, Anchors, Door, Fact, IdentityKind, OwnCas, Refusal, profile};
use model::{Revocable, RevocationReason, Timestamp};
use std::time::Duration;

fn code<T>(result: Result<T, Refusal>) -> &'static str {
    result.err().expect("it was let in").code()
}

#[test]
fn our_certificate_opens_both_doors_and_names_its_device() {
    let mut world = World::new();
    let leaf = world.issue("d1", &Key::new());
    for door in [Door::Devices, Door::Gateway] {
        let who = world.enter(door, &leaf, NOW).unwrap();
        assert_eq!(who.principal(), &device("d1"));
        assert_eq!(who.kind(), IdentityKind::Ldevid);
        assert_eq!(who.not_after(), NOW.plus(30 * DAY));
    }
}

#[test]
fn a_factory_identity_opens_the_device_door_only() {
    let world = World::new();
    let leaf = world.factory.idevid("maker", "SN1", &Key::new());
    let who = world.enter(Door::Devices, &leaf, NOW).unwrap();
    assert_eq!(who.principal(), &device("d1"));
    assert_eq!(who.kind(), IdentityKind::Idevid);
    let refusal = world.enter(Door::Gateway, &leaf, NOW).unwrap_err();
    assert_eq!(
        (refusal.code(), refusal.who_must_act()),
        ("idevid-at-gateway", Actor::Device)
    );
    let stranger = Ca::factory("other").idevid("other", "SN1", &Key::new());
    for door in [Door::Devices, Door::Gateway] {
        assert_eq!(code(world.enter(door, &stranger, NOW)), "unknown-issuer");
    }
    // Nor would it help to hand on a path from the other door.
    let presented = world.present(Door::Devices, &leaf, NOW).unwrap();
    let refusal = world.registry.authenticate(Door::Gateway, presented, NOW);
    assert_eq!(code(refusal), "idevid-at-gateway");
}

#[test]
fn a_factory_identity_outlives_any_shelf() {
    let world = World::new();
    let leaf = world.factory.idevid("maker", "SN1", &Key::new());
    let in_2090 = Timestamp::from_seconds(3_800_000_000);
    assert!(world.enter(Door::Devices, &leaf, in_2090).is_ok());
}

#[test]
fn the_ends_of_a_life_belong_to_it() {
    let mut world = World::new();
    let leaf = world.issue("d1", &Key::new());
    let second = Duration::from_secs(1);
    let (start, end) = (NOW.minus(profile::BACKDATED), NOW.plus(30 * DAY));
    let enter = |now| world.enter(Door::Gateway, &leaf, now);
    assert!(enter(start).is_ok() && enter(end).is_ok());
    let late = enter(end.plus(second)).unwrap_err();
    assert_eq!(late.code(), "certificate-expired");
    assert_eq!(late.who_must_act(), Actor::Device);
    assert!(
        late.to_string().contains("2026-12-01T00:00:00.000Z"),
        "{late}"
    );
    assert_eq!(
        code(enter(start.minus(second))),
        "certificate-not-yet-valid"
    );
}

#[test]
fn a_cached_path_still_ends() {
    let mut world = World::new();
    let leaf = world.issue("d1", &Key::new());
    let path = world
        .anchors
        .verify_path(Door::Gateway, &leaf, &[], NOW)
        .unwrap();
    let later = NOW.plus(31 * DAY);
    assert_eq!(
        path.check_time(later).unwrap_err().code(),
        "certificate-expired"
    );
    let presented = world.anchors.presented(&path, &leaf).unwrap();
    let refusal = world.registry.authenticate(Door::Gateway, presented, later);
    assert_eq!(code(refusal), "certificate-expired");
}

#[test]
fn a_path_speaks_for_its_own_certificate_only() {
    let mut world = World::new();
    let (mine, other) = (
        world.issue("d1", &Key::new()),
        World::new().issue("d1", &Key::new()),
    );
    let path = world
        .anchors
        .verify_path(Door::Gateway, &mine, &[], NOW)
        .unwrap();
    assert_eq!(
        code(world.anchors.presented(&path, &other)),
        "unknown-issuer"
    );
}

#[test]
fn strangers_and_misfits_are_told_apart() {
    let mut world = World::new();
    let key = Key::new();
    let stranger = World::new().issue("d1", &key);
    assert_eq!(
        code(world.enter(Door::Devices, &stranger, NOW)),
        "unknown-issuer"
    );

    let terms = key.terms(NOW, DAY);
    let server = profile::server(&realm(), &["localhost"], &world.issuing.issuer(), &terms);
    let server = world.issuing.finish(server.unwrap());
    assert_eq!(
        code(world.enter(Door::Gateway, &server, NOW)),
        "certificate-wrong-purpose"
    );
    let ca = world.issuing.der.clone();
    assert_eq!(
        code(world.enter(Door::Gateway, &ca, NOW)),
        "certificate-wrong-purpose"
    );

    // One of ours that does not say what it is for, as RFC 5280 would let pass.
    let own = OwnCas {
        roots: vec![world.root.der.clone()],
        issuing: vec![identity::IssuingCa::of_every_use(world.factory.der.clone())],
    };
    let anchors = Anchors::new(realm(), &own, Vec::new()).unwrap();
    let silent = world.factory.idevid("maker", "SN1", &key);
    let refusal = anchors.verify_path(Door::Devices, &silent, &[], NOW);
    assert_eq!(refusal.unwrap_err().code(), "certificate-wrong-purpose");

    let mut damaged = world.issue("d1", &key);
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    assert_eq!(
        code(world.enter(Door::Gateway, &damaged, NOW)),
        "certificate-bad-signature"
    );
    assert_eq!(
        code(world.enter(Door::Gateway, b"\x30\x00", NOW)),
        "certificate-malformed"
    );
    assert_eq!(
        code(world.enter(Door::Gateway, &[0x30; 9000], NOW)),
        "certificate-chain-too-large"
    );
    let five = [ca.as_slice(); 5];
    let refusal = world.anchors.verify_path(Door::Gateway, &ca, &five, NOW);
    assert_eq!(refusal.unwrap_err().code(), "certificate-chain-too-large");
}

#[test]
fn an_unlisted_serial_and_an_unrecorded_certificate_are_refused() {
    let world = World::new();
    let unlisted = world.factory.idevid("maker", "SN2", &Key::new());
    let refusal = world.enter(Door::Devices, &unlisted, NOW).unwrap_err();
    assert_eq!(
        (refusal.code(), refusal.who_must_act()),
        ("serial-unlisted", Actor::Operator)
    );
    let unrecorded = world.issuing.ldevid("d1", &Key::new(), NOW, DAY);
    assert_eq!(
        code(world.enter(Door::Gateway, &unrecorded, NOW)),
        "certificate-unrecorded"
    );
}

#[test]
fn a_revoked_certificate_bars_itself_and_a_revoked_device_everything() {
    let mut world = World::new();
    let (old, new) = (
        world.issue("d1", &Key::new()),
        world.issue("d1", &Key::new()),
    );
    let idevid = world.factory.idevid("maker", "SN1", &Key::new());
    let (reason, at) = (RevocationReason::KeyCompromise, NOW);
    let certificate = identity::certificate_id(&old).unwrap();
    world
        .registry
        .apply(&Fact::Revoked {
            what: Revocable::Certificate(certificate),
            reason,
            at,
        })
        .unwrap();
    assert_eq!(
        code(world.enter(Door::Gateway, &old, NOW)),
        "certificate-revoked"
    );
    assert!(world.enter(Door::Gateway, &new, NOW).is_ok());
    assert!(world.enter(Door::Devices, &idevid, NOW).is_ok());

    let principal = device("d1");
    world
        .registry
        .apply(&Fact::Revoked {
            what: Revocable::Principal(principal),
            reason,
            at,
        })
        .unwrap();
    for leaf in [&old, &new, &idevid] {
        assert_eq!(
            code(world.enter(Door::Devices, leaf, NOW)),
            "device-revoked"
        );
    }
}

#[test]
fn a_service_enters_by_its_own_name() {
    let mut world = World::new();
    let key = Key::new();
    let terms = key.terms(NOW, DAY);
    let id = "billing".parse().unwrap();
    let unsigned = profile::service(&realm(), &id, None, &world.issuing.issuer(), &terms).unwrap();
    let certificate = unsigned.certificate();
    let leaf = world.issuing.finish(unsigned);
    assert_eq!(identity::certificate_id(&leaf).unwrap(), certificate);
    let principal: model::Principal = "service/billing".parse().unwrap();
    world
        .registry
        .apply(&Fact::CertificateIssued {
            principal: principal.clone(),
            certificate,
            key: identity::public_key_digest(&leaf).unwrap(),
            not_after: NOW.plus(DAY),
        })
        .unwrap();
    let who = world.enter(Door::Gateway, &leaf, NOW).unwrap();
    assert_eq!(who.principal(), &principal);
    let request = renewal_request(&key, "billing");
    let refusal = world
        .registry
        .enroll(identity::Operation::SimpleReenroll, &who, &request, NOW);
    assert_eq!(code(refusal), "enroll-not-a-device");
}

#[test]
fn two_manufacturers_may_not_share_a_ca() {
    let world = World::new();
    let own = OwnCas {
        roots: vec![world.root.der.clone()],
        issuing: vec![identity::IssuingCa::of_every_use(world.issuing.der.clone())],
    };
    let theirs = |der: &Vec<u8>, name| (manufacturer(name), der.clone());
    let both = vec![
        theirs(&world.factory.der, "a"),
        theirs(&world.factory.der, "b"),
    ];
    let refusal = Anchors::new(realm(), &own, both).err();
    assert!(matches!(
        refusal,
        Some(AnchorRefusal::ManufacturersOverlap { .. })
    ));
    let leaf = world.factory.idevid("maker", "SN1", &Key::new());
    let refusal = Anchors::new(realm(), &own, vec![theirs(&leaf, "a")]).err();
    assert!(matches!(refusal, Some(AnchorRefusal::NotACa { .. })));
}
