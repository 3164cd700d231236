//! Claim certificates in the room: on which terms, for whom.

use crate::support::*;
use identity::claim_certificate::{ClaimRefusal, ClaimTerms};
use identity::{Actor, Door, Fact, PathRefusal, Refusal};
use model::{Digest, Revocable, RevocationReason};

/// Of a CA that nobody here knows.
fn unknown(key: &Key) -> Vec<u8> {
    Ca::factory("stranger").ldevid("x", key, NOW, 30 * DAY)
}

fn sha256(bytes: &[u8]) -> Digest {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    Digest(hash.as_ref().try_into().unwrap())
}

fn terms() -> ClaimTerms {
    ClaimTerms {
        claim: "batch-17".parse().unwrap(),
        manufacturer: manufacturer("maker"),
        product: "camera".parse().unwrap(),
        template: "camera".to_owned(),
        addresses: vec!["192.0.2.0/24".parse().unwrap()],
        expires_at: NOW.plus(DAY),
        retired_at: None,
    }
}

#[test]
fn every_refusal_stands_in_its_page_with_who_must_act() {
    let page = include_str!("../../../../docs/identity/aws-provisioning.md");
    let (at, claim) = (
        NOW,
        "batch-17".parse::<model::ClaimCertificateId>().unwrap(),
    );
    let device = device_id("d1");
    let product: model::ProductId = "camera".parse().unwrap();
    let all = [
        ClaimRefusal::NothingElse,
        ClaimRefusal::NamesADevice,
        ClaimRefusal::Retired {
            claim: claim.clone(),
            at,
        },
        ClaimRefusal::Ended {
            claim: claim.clone(),
            at,
        },
        ClaimRefusal::Elsewhere {
            claim: claim.clone(),
        },
        ClaimRefusal::UsedUp {
            claim: claim.clone(),
        },
        ClaimRefusal::NoSerialNumber,
        ClaimRefusal::OtherProduct {
            claim,
            device: device.clone(),
            product: product.clone(),
            wanted: product,
        },
        ClaimRefusal::HasCertificate { device },
        ClaimRefusal::TokenUnknown,
        ClaimRefusal::Payload { what: "" },
        ClaimRefusal::KeyWanted,
    ];
    for refusal in all {
        let (code, actor) = (refusal.code(), refusal.who_must_act());
        let row = (page.lines())
            .find(|line| line.starts_with("| `") && line.contains(&format!("`{code}`")))
            .unwrap_or_else(|| panic!("{code} is not in the page"));
        assert!(row.contains(&format!("| {} |", actor.name())), "{row}");
        assert_ne!(actor, Actor::Us);
        let text = refusal.to_string();
        assert!(
            text.contains(&format!("{}: ", actor.name())),
            "{code}: {text}"
        );
    }
}

#[test]
fn its_terms_are_asked_at_each_use() {
    let mut world = World::new();
    let key = Key::new();
    let der = unknown(&key);
    let fingerprint = sha256(&der);
    let add = Fact::ClaimCertificateAdded {
        fingerprint,
        terms: Box::new(terms()),
    };
    assert!(world.registry.claim_path(&der, NOW).is_none());
    world.registry.apply(&add).unwrap();
    let path = world.registry.claim_path(&der, NOW).unwrap().unwrap();
    let presented = world.anchors.presented(&path, &der).unwrap();
    let inside = "192.0.2.9".parse().unwrap();
    let claiming = |world: &World, address, now| world.registry.claiming(&presented, address, now);
    assert!(claiming(&world, inside, NOW).is_ok());
    assert!(claiming(&world, "::ffff:192.0.2.9".parse().unwrap(), NOW).is_ok());
    let elsewhere = claiming(&world, "192.0.3.9".parse().unwrap(), NOW);
    assert_eq!(elsewhere.unwrap_err().code(), "claim-certificate-elsewhere");
    let late = claiming(&world, inside, NOW.plus(DAY + DAY));
    assert_eq!(late.unwrap_err().code(), "claim-certificate-ended");
    // It is nobody at any door.
    for door in [Door::Devices, Door::Gateway] {
        let told = world.registry.authenticate(door, presented.clone(), NOW);
        assert_eq!(told, Err(Refusal::Claim(ClaimRefusal::NothingElse)));
    }
    // Revoked as a certificate, or retired: either way it ends, and saying it again does not help.
    let what = Revocable::Certificate(presented.certificate());
    let mut revoked = World::new();
    revoked.registry.apply(&add).unwrap();
    revoked
        .registry
        .apply(&Fact::Revoked {
            what,
            reason: RevocationReason::KeyCompromise,
            at: NOW,
        })
        .unwrap();
    assert!(claiming(&revoked, inside, NOW).is_err());
    let retire = Fact::ClaimCertificateRetired {
        claim: "batch-17".parse().unwrap(),
        at: NOW,
    };
    world.registry.apply(&retire).unwrap();
    world.registry.apply(&add).unwrap();
    let told = claiming(&world, inside, NOW);
    assert_eq!(told.unwrap_err().code(), "claim-certificate-retired");
    let other = Fact::ClaimCertificateAdded {
        fingerprint: Digest([7; 32]),
        terms: Box::new(terms()),
    };
    assert!(
        world.registry.apply(&other).is_err(),
        "one name, one certificate"
    );
}

#[test]
fn a_shared_key_is_no_way_around_a_hold() {
    let mut world = World::new();
    let key = Key::new();
    let der = unknown(&key);
    world
        .registry
        .apply(&Fact::ClaimCertificateAdded {
            fingerprint: sha256(&der),
            terms: Box::new(terms()),
        })
        .unwrap();
    let path = world.registry.claim_path(&der, NOW).unwrap().unwrap();
    let presented = world.anchors.presented(&path, &der).unwrap();
    let claiming = (world.registry)
        .claiming(&presented, "192.0.2.9".parse().unwrap(), NOW)
        .unwrap();
    let (serial, other) = (serial("SN1"), serial("SN2"));
    let may = |world: &World| world.registry.claimed_device(&claiming, &serial, NOW);
    assert_eq!(may(&world).unwrap().device, device_id("d1"));
    let certificate = model::CertificateId::new(Digest([3; 32]), &[7]).unwrap();
    let what = Revocable::Certificate(certificate);
    for fact in [
        Fact::Revoked {
            what: what.clone(),
            reason: RevocationReason::CertificateHold,
            at: NOW,
        },
        Fact::CertificateReserved { certificate },
        Fact::CertificateIssued {
            principal: device("d1"),
            certificate,
            key: Digest([4; 32]),
            not_after: NOW.plus(DAY),
        },
    ] {
        world.registry.apply(&fact).unwrap();
    }
    // A certificate that waits for its owner is nobody's yet.
    assert!(may(&world).is_ok());
    world
        .registry
        .apply(&Fact::Released { what: what.clone() })
        .unwrap();
    let has_one = Refusal::Claim(ClaimRefusal::HasCertificate {
        device: device_id("d1"),
    });
    assert_eq!(may(&world), Err(has_one.clone()));
    // A person's hold is another thing.
    world
        .registry
        .apply(&Fact::Revoked {
            what: what.clone(),
            reason: RevocationReason::CertificateHold,
            at: NOW,
        })
        .unwrap();
    assert_eq!(may(&world), Err(has_one));
    world
        .registry
        .apply(&Fact::Revoked {
            what,
            reason: RevocationReason::Superseded,
            at: NOW,
        })
        .unwrap();
    assert!(may(&world).is_ok());
    let told = world.registry.claimed_device(&claiming, &other, NOW);
    assert_eq!(told.unwrap_err().code(), "serial-unlisted");
}

#[test]
fn only_what_nothing_else_is_believed_of_may_be_one() {
    let world = World::new();
    let maker = manufacturer("maker");
    let check = |der: &[u8], now| world.anchors.check_claim(der, &maker, now);
    let der = unknown(&Key::new());
    assert!(check(&der, NOW).is_ok());
    let idevid = world.factory.idevid("maker", "SN1", &Key::new());
    let told = check(&idevid, NOW);
    assert_eq!(told, Err(Refusal::Claim(ClaimRefusal::NamesADevice)));
    assert!(check(b"no certificate", NOW).is_err());
    let late = check(&der, NOW.plus(DAY * 4000));
    assert!(
        matches!(late, Err(Refusal::Path(PathRefusal::Expired { .. }))),
        "{late:?}"
    );
}
