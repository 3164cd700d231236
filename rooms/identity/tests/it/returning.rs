//! A certificate of ours that has ended: what it still opens, and how long.

use crate::support::*;
use identity::{Door, EnrollmentKind, Fact, PathRefusal, Presented, certificate_id};
use model::{Revocable, RevocationReason, Timestamp};
use std::time::Duration;

const GRACE: Duration = Duration::from_secs(10 * 86_400);

/// As the plane does it for a certificate that has ended.
fn returns(world: &World, leaf: &[u8], now: Timestamp) -> Result<Presented, PathRefusal> {
    let path = world.anchors.verify_ended_path(leaf, &[], now, GRACE)?;
    Ok(world.anchors.presented(&path, leaf).unwrap())
}

#[test]
fn an_ended_certificate_renews_itself_within_the_grace_and_opens_nothing_else() {
    let mut world = World::new();
    let key = Key::new();
    let leaf = world.issue("d1", &key);
    let end = NOW.plus(30 * DAY);
    let request = renewal_request(&key, "d1");
    // Not before its end, not after the grace.
    let second = Duration::from_secs(1);
    assert_eq!(returns(&world, &leaf, end), Err(PathRefusal::UnknownIssuer));
    let over = returns(&world, &leaf, end.plus(GRACE).plus(second));
    assert_eq!(over.unwrap_err().code(), "certificate-expired");

    for now in [end.plus(second), end.plus(GRACE)] {
        let presented = returns(&world, &leaf, now).unwrap();
        let decision = world
            .registry
            .enroll_returning(&presented, &request, now, GRACE)
            .unwrap();
        assert_eq!(
            (decision.device, decision.kind),
            (device_id("d1"), EnrollmentKind::Returning)
        );
        // What it shows is worth nothing at any door.
        for door in [Door::Devices, Door::Gateway] {
            let refusal = world.registry.authenticate(door, presented.clone(), now);
            assert_eq!(refusal.unwrap_err().code(), "certificate-expired");
            assert!(world.anchors.verify_path(door, &leaf, &[], now).is_err());
        }
        // Its own product's grace may be shorter than the longest.
        let code = |grace| {
            let enrolled = world
                .registry
                .enroll_returning(&presented, &request, now, grace);
            enrolled.map(drop).map_err(|refusal| refusal.code())
        };
        assert_eq!(code(Duration::ZERO), Err("certificate-expired"));
        assert_eq!(code(now.since(end)), Ok(()));
    }
}

#[test]
fn attack_a_revoked_an_isolated_and_an_unrecorded_certificate_do_not_return() {
    let now = NOW.plus(31 * DAY);
    let key = Key::new();
    let refused = |prepare: &dyn Fn(&mut World, &[u8])| {
        let mut world = World::new();
        let leaf = world.issuing.ldevid("d1", &key, NOW, 30 * DAY);
        prepare(&mut world, &leaf);
        let presented = returns(&world, &leaf, now).unwrap();
        let request = renewal_request(&key, "d1");
        let registry = &world.registry;
        registry
            .enroll_returning(&presented, &request, now, GRACE)
            .map_err(|refusal| refusal.code())
    };
    let (reason, at) = (RevocationReason::KeyCompromise, NOW);
    assert_eq!(refused(&|_, _| {}), Err("certificate-unrecorded"));
    let revoked = refused(&|world, leaf| {
        world.record("d1", leaf);
        let what = Revocable::Certificate(certificate_id(leaf).unwrap());
        let fact = Fact::Revoked { what, reason, at };
        world.registry.apply(&fact).unwrap();
    });
    assert_eq!(revoked, Err("certificate-revoked"));
    let gone = refused(&|world, leaf| {
        world.record("d1", leaf);
        let what = Revocable::Principal(device("d1"));
        let fact = Fact::Revoked { what, reason, at };
        world.registry.apply(&fact).unwrap();
    });
    assert_eq!(gone, Err("device-revoked"));
    let isolated = refused(&|world, leaf| {
        world.record("d1", leaf);
        let containment = model::Containment::Isolated;
        let device = device_id("d1");
        let fact = Fact::DeviceContained {
            device,
            containment,
            at,
        };
        world.registry.apply(&fact).unwrap();
    });
    assert_eq!(isolated, Err("device-isolated"));
    assert!(refused(&|world, leaf| world.record("d1", leaf)).is_ok());
}

#[test]
fn attack_an_ended_certificate_renews_no_other_name_and_no_factory_identity_returns() {
    let mut world = World::new();
    let key = Key::new();
    let leaf = world.issue("d1", &key);
    let now = NOW.plus(31 * DAY);
    let presented = returns(&world, &leaf, now).unwrap();
    for request in [renewal_request(&key, "d2"), plain_request(&key)] {
        let refusal = world
            .registry
            .enroll_returning(&presented, &request, now, GRACE);
        assert_eq!(refusal.unwrap_err().code(), "reenroll-name-changed");
    }
    // A CA of ours alone vouches for who returns.
    let forged = Ca::factory("maker");
    let stranger = forged.ldevid("d1", &key, NOW, 30 * DAY);
    assert_eq!(
        returns(&world, &stranger, now),
        Err(PathRefusal::UnknownIssuer)
    );
    let manufacturers = world.factory.ldevid("d1", &key, NOW, 30 * DAY);
    assert_eq!(
        returns(&world, &manufacturers, now),
        Err(PathRefusal::UnknownIssuer)
    );
    let idevid = world.factory.idevid("maker", "SN1", &key);
    let idevid = world.present(Door::Devices, &idevid, NOW).unwrap();
    let request = renewal_request(&key, "d1");
    assert!(
        world
            .registry
            .enroll_returning(&idevid, &request, now, GRACE)
            .is_err()
    );
    // A flipped bit of its signature.
    let mut damaged = leaf;
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(
        returns(&world, &damaged, now),
        Err(PathRefusal::BadSignature)
    );
}

#[test]
fn a_genuine_device_on_no_list_is_named_by_its_manufacturer_unless_revoked() {
    let mut world = World::new();
    let idevid = world.factory.idevid("maker", "SN9", &Key::new());
    let presented = world.present(Door::Devices, &idevid, NOW).unwrap();
    let (maker, number) = world.registry.genuine(&presented, NOW).unwrap();
    assert_eq!((maker, number), (&manufacturer("maker"), &serial("SN9")));
    let leaf = world.issue("d1", &Key::new());
    let ours = world.present(Door::Devices, &leaf, NOW).unwrap();
    assert!(world.registry.genuine(&ours, NOW).is_err());
    let fact = Fact::Revoked {
        what: Revocable::Certificate(certificate_id(&idevid).unwrap()),
        reason: RevocationReason::KeyCompromise,
        at: NOW,
    };
    world.registry.apply(&fact).unwrap();
    let refusal = world.registry.genuine(&presented, NOW).unwrap_err();
    assert_eq!(refusal.code(), "certificate-revoked");
}
