//! The chapter explains every refusal by its code.

use crate::support::*;
use identity::csr::CsrRefusal;
use identity::est::BodyRefusal;
use identity::{Actor, PathRefusal, Refusal};
use model::{CertificateId, Digest, Revocable, RevocationReason};

#[test]
fn every_refusal_is_in_the_chapter_with_who_must_act() {
    let chapter = include_str!("../../../../docs/identity.md");
    let (now, reason, at) = (NOW, RevocationReason::Unspecified, NOW);
    let manufacturer = manufacturer("maker");
    let certificate = CertificateId::new(Digest([0; 32]), &[1]).unwrap();
    let what = "";
    let path = [
        PathRefusal::UnknownIssuer,
        PathRefusal::FactoryIdentity,
        PathRefusal::Expired { not_after: at, now },
        PathRefusal::NotYetValid {
            not_before: at,
            now,
        },
        PathRefusal::WrongPurpose,
        PathRefusal::BadSignature,
        PathRefusal::Algorithm,
        PathRefusal::Constraint,
        PathRefusal::Malformed { what },
        PathRefusal::TooLarge { what },
    ];
    let barred = |what: &Revocable, reason| Refusal::Revoked {
        what: what.clone(),
        reason,
        at,
    };
    let kinds: [Revocable; 5] = [
        Revocable::Certificate(certificate),
        "device/d1".parse().unwrap(),
        "service/s1".parse().unwrap(),
        "product/p1".parse().unwrap(),
        Revocable::Issuer(certificate.issuer()),
    ];
    let barred: Vec<Refusal> = kinds
        .iter()
        .flat_map(|what| [reason, RevocationReason::CertificateHold].map(|why| barred(what, why)))
        .collect();
    let other = [
        Refusal::NamesNobody,
        Refusal::NoSerialNumber {
            manufacturer: manufacturer.clone(),
        },
        Refusal::ForgedIssuer {
            manufacturer: manufacturer.clone(),
        },
        Refusal::IdevidAtGateway,
        Refusal::KeyOfAnother {
            holder: identity::KeyHolder::Principal("device/d2".parse().unwrap()),
        },
        Refusal::FactoryKeyOfAnother {
            holder: device_id("d2"),
        },
        Refusal::KnownKey {
            flaw: identity::KeyFlaw::Published,
        },
        Refusal::DeviceIsolated {
            device: device_id("d1"),
            at,
        },
        Refusal::UnlistedSerial {
            manufacturer: manufacturer.clone(),
            serial: serial("SN1"),
        },
        Refusal::UnrecordedCertificate { certificate },
        Refusal::NotAnIdevid,
        Refusal::NotAnLdevid,
        Refusal::NotADevice,
        Refusal::NameChanged { uri: String::new() },
        Refusal::EnrollmentRefused {
            manufacturer: manufacturer.clone(),
            serial: serial("SN1"),
            at,
        },
        Refusal::KeyUnwanted {
            wanted: "P-256",
            found: "RSA",
        },
        Refusal::OtherProduct {
            device: device_id("d1"),
            product: "lock".parse().unwrap(),
            label: "camera".parse().unwrap(),
        },
        Refusal::KeygenOff {
            product: "camera".parse().unwrap(),
        },
        Refusal::KeygenEncrypted,
    ];
    let requests = [
        CsrRefusal::TooLarge,
        CsrRefusal::Malformed { what },
        CsrRefusal::BadSignature,
        CsrRefusal::SignatureAlgorithm,
        CsrRefusal::KeyAlgorithm,
        CsrRefusal::RsaSize { bits: 1 },
        CsrRefusal::RsaExponent,
        CsrRefusal::Roca,
        CsrRefusal::ClosePrimes,
        CsrRefusal::PointForm,
    ];
    let bodies = [
        BodyRefusal::MediaType {
            found: String::new(),
        },
        BodyRefusal::TooLarge,
        BodyRefusal::Empty,
        BodyRefusal::NotBase64,
        BodyRefusal::NotPem,
    ];
    let all = path
        .into_iter()
        .map(Refusal::from)
        .chain(other)
        .chain(barred)
        .map(|refusal| (refusal.code(), refusal.who_must_act(), refusal.to_string()))
        .chain(requests.map(|r| (r.code(), r.who_must_act(), r.to_string())))
        .chain(bodies.map(|r| (r.code(), r.who_must_act(), r.to_string())));
    for (code, actor, message) in all {
        let row = chapter
            .lines()
            .find(|line| line.starts_with('|') && line.contains(&format!("`{code}`")))
            .unwrap_or_else(|| panic!("{code} is not in docs/identity.md"));
        assert!(
            row.contains(&format!("| {} |", actor.name())),
            "{code}: {row}"
        );
        let is_told = actor == Actor::Us || message.contains(&format!("{}: ", actor.name()));
        assert!(
            is_told,
            "{code} does not tell the {} what to do: {message}",
            actor.name()
        );
    }
}
