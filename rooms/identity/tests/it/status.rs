//! What outsiders are told of our certificates, and whether OpenSSL reads it so.

use crate::openssl::{at, is_here, put, read, run};
use crate::support::*;
use identity::crl::{self, Shard};
use identity::ocsp::{self, Authority, NoAnswer, Request, Status};
use identity::profile::{self, Issuer};
use identity::{Fact, Registry, StatusPoint, certificate_id};
use model::{CertificateId, Digest, Principal, Revocable, RevocationReason, Timestamp};
use proptest::prelude::*;
use std::path::Path;
use std::time::{Duration, Instant};

const BASE: &str = "http://status.example";

/// An issuing CA with a responder.
struct Responder {
    key: Key,
    certificate: Vec<u8>,
}

impl Responder {
    fn of(world: &World) -> Self {
        let key = Key::new();
        let terms = key.terms(NOW, 7 * DAY);
        let issuer = world.issuing.issuer();
        let unsigned = profile::ocsp_responder(&realm(), &issuer, &terms).unwrap();
        Self {
            certificate: world.issuing.finish(unsigned),
            key,
        }
    }

    /// As the plane does it.
    fn answer(&self, world: &World, der: &[u8], now: Timestamp) -> Vec<u8> {
        let authority = Authority::from_certificate(&world.issuing.der).unwrap();
        let answer = || -> Result<Vec<u8>, NoAnswer> {
            let request = Request::parse(der)?;
            let decision = ocsp::decide(&world.registry, &[authority], &request)?;
            let hour = Duration::from_secs(3600);
            let statuses = &decision.statuses;
            let unsigned = ocsp::respond(&request, statuses, &self.key.spki, now, hour).unwrap();
            let signature = self.key.sign(unsigned.to_be_signed());
            Ok(unsigned.assemble(&signature, &self.certificate).unwrap())
        };
        answer().unwrap_or_else(ocsp::refuse)
    }
}

fn revoke(world: &mut World, what: Revocable, reason: RevocationReason) {
    let fact = Fact::Revoked {
        what,
        reason,
        at: NOW,
    };
    world.registry.apply(&fact).unwrap();
}

/// Asks OpenSSL for a request, answers it, and has OpenSSL say what it reads.
fn asked(dir: &Path, world: &World, responder: &Responder, arguments: &str) -> String {
    read(
        dir,
        &format!("ocsp -issuer issuing.pem {arguments} -reqout r.der"),
    );
    let request = std::fs::read(dir.join("r.der")).unwrap();
    let answer = responder.answer(world, &request, NOW);
    std::fs::write(dir.join("a.der"), answer).unwrap();
    let nonce = if arguments.contains("-no_nonce") {
        ""
    } else {
        "-reqin r.der"
    };
    let ids = if nonce.is_empty() { arguments } else { "" };
    let verify = format!(
        "ocsp {nonce} -issuer issuing.pem {ids} -respin a.der -CAfile root.pem -verify_other \
         issuing.pem {} -validity_period 999999999 -text",
        at()
    );
    let output = run(dir, &verify);
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn openssl_reads_our_ocsp_answers() {
    if !is_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut world = World::new();
    let responder = Responder::of(&world);
    put(dir, "root.pem", &[&world.root.der]);
    put(dir, "issuing.pem", &[&world.issuing.der]);
    let leaf = world.issue("d1", &Key::new());
    put(dir, "c.pem", &[&leaf]);
    let held = world.issue("d1", &Key::new());
    put(dir, "h.pem", &[&held]);

    for hash in ["-sha1", "-sha256"] {
        for nonce in ["", "-no_nonce"] {
            let said = asked(
                dir,
                &world,
                &responder,
                &format!("{hash} -cert c.pem {nonce}"),
            );
            assert!(
                said.contains("Response verify OK") && said.contains("Cert Status: good"),
                "{said}"
            );
            assert_eq!(said.contains("OCSP Nonce"), nonce.is_empty(), "{said}");
            assert!(!said.contains("WARNING"), "{said}");
        }
    }
    let said = asked(dir, &world, &responder, "-serial 0x4badf00d -no_nonce");
    assert!(said.contains("Cert Status: unknown"), "{said}");

    let hold = Revocable::Certificate(certificate_id(&held).unwrap());
    revoke(&mut world, hold.clone(), RevocationReason::CertificateHold);
    let said = asked(dir, &world, &responder, "-cert h.pem -cert c.pem -no_nonce");
    assert!(
        said.contains("certificateHold") && said.contains("Cert Status: good"),
        "{said}"
    );
    world
        .registry
        .apply(&Fact::Released { what: hold })
        .unwrap();
    let said = asked(dir, &world, &responder, "-cert h.pem -no_nonce");
    assert!(said.contains("Cert Status: good"), "{said}");

    let device = Revocable::Principal(device("d1"));
    revoke(&mut world, device, RevocationReason::KeyCompromise);
    let said = asked(dir, &world, &responder, "-cert c.pem -no_nonce");
    assert!(
        said.contains("Cert Status: revoked") && said.contains("keyCompromise"),
        "{said}"
    );
    assert!(said.contains("Nov  1 00:00:00 2026 GMT"), "{said}");
    let text = {
        put(dir, "o.pem", &[&responder.certificate]);
        read(dir, "x509 -in o.pem -noout -text")
    };
    assert!(
        text.contains("OCSP Signing") && text.contains("OCSP No Check"),
        "{text}"
    );
}

#[test]
fn openssl_reads_why_there_is_no_answer() {
    if !is_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (why, text) in [
        (NoAnswer::Malformed, "malformedrequest (1)"),
        (NoAnswer::Internal, "internalerror (2)"),
        (NoAnswer::TryLater, "trylater (3)"),
        (NoAnswer::Unauthorized, "unauthorized (6)"),
    ] {
        std::fs::write(dir.join("a.der"), ocsp::refuse(why)).unwrap();
        let output = run(dir, "ocsp -respin a.der -text");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.contains(text), "{said}");
    }
}

/// CertID with SHA-256 hashes.
fn certificate_id_der(name: &[u8], key: &[u8], serial: &[u8]) -> Vec<u8> {
    let sha256 = [
        0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01,
    ];
    let parts = [sha256.to_vec(), tlv(4, name), tlv(4, key), tlv(2, serial)];
    tlv(0x30, &parts.concat())
}

/// A request by hand: CertIDs, and what follows the list of them, tag included.
fn request(ids: &[Vec<u8>], rest: &[u8]) -> Vec<u8> {
    let all: Vec<u8> = ids.iter().flat_map(|id| tlv(0x30, id)).collect();
    tlv(0x30, &tlv(0x30, &[tlv(0x30, &all), rest.to_vec()].concat()))
}

fn with_nonce(nonce: &[u8]) -> Vec<u8> {
    let oid = [0x06, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2];
    let value = tlv(4, &tlv(4, nonce));
    let extension = tlv(0x30, &[oid.to_vec(), value].concat());
    tlv(0xa2, &tlv(0x30, &extension))
}

#[test]
fn attack_requests_that_would_cost_or_confuse_are_refused() {
    let id = certificate_id_der(&[1; 32], &[2; 32], &[0x40, 1]);
    let one = std::slice::from_ref(&id);
    assert!(Request::parse(&request(one, &[])).is_ok());
    assert!(Request::parse(&request(&vec![id.clone(); 8], &[])).is_ok());
    for nonce in [1, 16, 32, 128] {
        let der = request(one, &with_nonce(&vec![7; nonce]));
        let read = Request::parse(&der).unwrap();
        assert_eq!(read.nonce(), Some(vec![7; nonce].as_slice()));
    }
    let critical = {
        let oid = [0x06, 3, 0x2a, 3, 4];
        let extension = [oid.to_vec(), vec![1, 1, 0xff], tlv(4, &[])].concat();
        tlv(0xa2, &tlv(0x30, &tlv(0x30, &extension)))
    };
    let twice = {
        let one = with_nonce(&[7; 16]);
        let extension = &one[4..];
        tlv(0xa2, &tlv(0x30, &[extension, extension].concat()))
    };
    let mut trailing = request(one, &[]);
    trailing.push(0);
    let hostile = [
        ("no certificate", request(&[], &[])),
        ("nine certificates", request(&vec![id.clone(); 9], &[])),
        ("an empty nonce", request(one, &with_nonce(&[]))),
        ("a nonce of 129 bytes", request(one, &with_nonce(&[7; 129]))),
        ("two nonces", request(one, &twice)),
        ("a critical extension", request(one, &critical)),
        ("bytes behind it", trailing),
        ("too large", request(&vec![id.clone(); 30], &[])),
        (
            "a negative serial",
            request(&[certificate_id_der(&[1; 32], &[2; 32], &[0x80])], &[]),
        ),
        ("nothing", Vec::new()),
        ("a sequence of nothing", vec![0x30, 0]),
    ];
    for (what, der) in hostile {
        assert_eq!(Request::parse(&der), Err(NoAnswer::Malformed), "{what}");
    }
}

#[test]
fn a_certificate_of_another_ca_has_no_answer_and_a_revoked_ca_takes_all_with_it() {
    let mut world = World::new();
    let leaf = world.issue("d1", &Key::new());
    let own = Authority::from_certificate(&world.issuing.der).unwrap();
    let other_world = World::new();
    let other = Authority::from_certificate(&other_world.issuing.der).unwrap();
    let id_in = |ca: &Ca, certificate: CertificateId| {
        let issuer = ca.issuer();
        assert_eq!(issuer.id().0.len(), 32);
        let key = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &ca.key.spki[26..]);
        certificate_id_der(&issuer.id().0, key.as_ref(), certificate.serial())
    };
    let certificate = certificate_id(&leaf).unwrap();
    let ours = id_in(&world.issuing, certificate);
    let theirs = id_in(&other_world.issuing, certificate);
    let decide = |world: &World, authorities: &[Authority], ids: &[Vec<u8>]| {
        let der = request(ids, &[]);
        let request = Request::parse(&der).unwrap();
        ocsp::decide(&world.registry, authorities, &request).map(|decision| decision.statuses)
    };
    let both = [own.clone(), other];
    let ids = [ours.clone(), theirs.clone()];
    assert_eq!(decide(&world, &both, &ids[..1]), Ok(vec![Status::Good]));
    assert_eq!(decide(&world, &both, &ids[1..]), Ok(vec![Status::Unknown]));
    assert_eq!(decide(&world, &both, &ids), Err(NoAnswer::Unauthorized));
    assert_eq!(
        decide(&world, &[own], &ids[1..]),
        Err(NoAnswer::Unauthorized)
    );
    let ca = Revocable::Issuer(world.issuing.issuer().id());
    revoke(&mut world, ca, RevocationReason::CaCompromise);
    let told = decide(&world, &both, &ids[..1]).unwrap();
    assert!(
        matches!(told[0], Status::Revoked(why) if why.reason == RevocationReason::CaCompromise)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// A request of any bytes is refused or answered, and what was read is answered whole.
    #[test]
    fn any_request_is_refused_or_answered(
        at in 0usize..400,
        flips in prop::collection::vec((0usize..200, any::<u8>()), 0..4),
    ) {
        let id = certificate_id_der(&[1; 32], &[2; 32], &[0x40, 1]);
        let mut der = request(&[id.clone(), id], &with_nonce(&[7; 16]));
        for (place, value) in flips {
            let length = der.len();
            der[place % length] = value;
        }
        der.truncate(at.max(1));
        if let Ok(read) = Request::parse(&der) {
            // Its answer repeats what was asked, so it must stand when it is read again.
            prop_assert_eq!(read.name(), Request::parse(&der).unwrap().name());
        }
    }

    #[test]
    fn every_certificate_is_on_one_list(serial in prop::collection::vec(any::<u8>(), 1..20), power in 0u32..9) {
        let Some(id) = CertificateId::new(Digest([1; 32]), &serial) else { return Ok(()) };
        let count = 1u16 << power;
        let on: Vec<u16> = (0..count)
            .filter(|index| Shard::new(*index, count).unwrap().holds(&id))
            .collect();
        prop_assert_eq!(on, vec![Shard::of(&id, count).index()]);
    }
}

fn shard_list(
    world: &World,
    issuer: &Issuer,
    point: &StatusPoint,
    shard: Shard,
    number: u64,
) -> Vec<u8> {
    let entries = world.registry.crl_entries(issuer.id(), shard, NOW);
    let urls: Vec<String> = [point.crl_url(issuer.id(), shard)].into();
    let unsigned = crl::crl(issuer, number, &urls, &entries, NOW, NOW.plus(DAY)).unwrap();
    let signature = world.issuing.key.sign(unsigned.to_be_signed());
    unsigned.assemble(&signature).unwrap()
}

/// Both ways: the list that the certificate names decides, and no other one is taken for it.
#[test]
fn openssl_takes_the_list_that_the_certificate_names() {
    if !is_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut world = World::new();
    let issuer = world.issuing.issuer();
    let point = StatusPoint::new(BASE, 4).unwrap();
    let key = Key::new();
    let unsigned = profile::ldevid(
        &realm(),
        &device_id("d1"),
        Some(&point),
        &issuer,
        &key.terms(NOW, 30 * DAY),
    )
    .unwrap();
    let certificate = unsigned.certificate();
    let leaf = world.issuing.finish(unsigned);
    world.record("d1", &leaf);
    put(dir, "root.pem", &[&world.root.der]);
    put(dir, "issuing.pem", &[&world.issuing.der]);
    put(dir, "c.pem", &[&leaf]);
    let text = read(dir, "x509 -in c.pem -noout -text");
    assert!(text.contains(&point.crl_url_of(&certificate)), "{text}");
    assert!(
        text.contains("OCSP - URI:http://status.example/status/ocsp"),
        "{text}"
    );
    let own = Shard::of(&certificate, 4);
    let other = Shard::new((own.index() + 1) % 4, 4).unwrap();
    let mut number = 0;
    let mut verify = |world: &World, shard| {
        number += 1;
        let list = shard_list(world, &issuer, &point, shard, number);
        std::fs::write(dir.join("list.crl"), list).unwrap();
        read(dir, "crl -inform DER -in list.crl -out list.pem");
        let text = read(dir, "crl -in list.pem -noout -CAfile issuing.pem -text");
        assert!(
            text.contains("X509v3 Issuing Distribution Point: critical"),
            "{text}"
        );
        let arguments = format!(
            "verify -x509_strict -crl_check {} -CAfile root.pem -untrusted issuing.pem -CRLfile \
             list.pem c.pem",
            at()
        );
        let output = run(dir, &arguments);
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let said = verify(&world, own);
    assert!(said.contains("c.pem: OK"), "{said}");
    let said = verify(&world, other);
    assert!(said.contains("ifferent CRL scope"), "{said}");
    let product = Revocable::Product("camera".parse().unwrap());
    revoke(
        &mut world,
        product.clone(),
        RevocationReason::CertificateHold,
    );
    let said = verify(&world, own);
    assert!(said.contains("certificate revoked"), "{said}");
    world
        .registry
        .apply(&Fact::Released { what: product })
        .unwrap();
    let said = verify(&world, own);
    assert!(
        said.contains("c.pem: OK"),
        "a released certificate left the list: {said}"
    );
}

/// 100,000 revoked among 200,000: what one list and one of sixteen cost. Prints, asserts no time.
#[test]
fn a_hundred_thousand_revoked_in_one_list_and_in_sixteen() {
    let world = World::new();
    let issuer = world.issuing.issuer();
    let mut registry = Registry::new();
    registry.apply(&expected("maker", "SN1", "d1")).unwrap();
    let principal: Principal = device("d1");
    for number in 0u32..200_000 {
        let mut serial = [0x41; 16];
        serial[12..].copy_from_slice(&number.to_be_bytes());
        let certificate = CertificateId::new(issuer.id(), &serial).unwrap();
        let issued = Fact::CertificateIssued {
            principal: principal.clone(),
            certificate,
            key: Digest([0; 32]),
            not_after: NOW.plus(DAY),
        };
        registry.apply(&issued).unwrap();
        if number % 2 == 0 {
            let revoked = Fact::Revoked {
                what: Revocable::Certificate(certificate),
                reason: RevocationReason::KeyCompromise,
                at: NOW,
            };
            registry.apply(&revoked).unwrap();
        }
    }
    let mut listed = 0;
    for (shard, urls) in [
        (Shard::WHOLE, Vec::new()),
        (Shard::new(0, 16).unwrap(), vec![format!("{BASE}/x.crl")]),
    ] {
        let started = Instant::now();
        let entries = registry.crl_entries(issuer.id(), shard, NOW);
        let found = started.elapsed();
        let list = crl::crl(&issuer, 1, &urls, &entries, NOW, NOW.plus(DAY)).unwrap();
        println!(
            "list {} of {}: {} entries, found in {found:?}, built in {:?}, {} bytes",
            shard.index(),
            shard.count(),
            entries.len(),
            started.elapsed().saturating_sub(found),
            list.to_be_signed().len()
        );
        listed = entries.len();
        if shard == Shard::WHOLE {
            assert_eq!(entries.len(), 100_000);
        }
    }
    let sixteenth = 100_000 / 16;
    assert!((sixteenth / 2..sixteenth * 2).contains(&listed), "{listed}");
}

#[test]
fn only_addresses_that_fit_into_a_certificate_are_taken() {
    for base in ["http://a", "https://a.example:8080/x", "http://[::1]:80"] {
        assert!(StatusPoint::new(base, 16).is_ok(), "{base}");
    }
    for base in [
        "",
        "a.example",
        "ldap://a",
        "http://",
        "http:///x",
        "http://a/",
        "http://a b",
        "http://user@a",
        "http://a?x",
        "http://a#x",
        "http://ä",
    ] {
        assert!(StatusPoint::new(base, 1).is_err(), "{base:?}");
    }
    assert!(StatusPoint::new(&format!("http://{}", "a".repeat(200)), 1).is_err());
    for shards in [0, 3, 512] {
        assert!(StatusPoint::new("http://a", shards).is_err());
    }
}

#[test]
fn a_root_s_list_is_read_back_and_another_s_or_a_part_of_one_is_refused() {
    let world = World::new();
    let (root, other) = (world.root.issuer(), World::new());
    let revoked = crl::Entry {
        certificate: certificate_id(&world.issuing.der).unwrap(),
        reason: RevocationReason::CaCompromise,
        at: NOW,
    };
    let sign = |urls: &[String], by: &Ca| {
        let entries = [revoked];
        let list = crl::crl(&root, 7, urls, &entries, NOW, NOW.plus(DAY)).unwrap();
        let signature = by.key.sign(list.to_be_signed());
        (
            list.to_be_signed().to_vec(),
            list.assemble(&signature).unwrap(),
        )
    };
    let (unsigned, signed) = sign(&[], &world.root);
    let read = crl::Contents::verified(&signed, &world.root.der).unwrap();
    assert_eq!(crl::Contents::read(&unsigned).unwrap(), read);
    assert_eq!((read.number, read.issuer), (7, root.id()));
    assert_eq!(read.entries, [revoked]);
    let foreign = Err(crl::CrlRefusal::ForeignIssuer);
    assert_eq!(crl::Contents::verified(&signed, &other.root.der), foreign);
    let (_, forged) = sign(&[], &other.root);
    assert_eq!(crl::Contents::verified(&forged, &world.root.der), foreign);
    let (_, part) = sign(&[format!("{BASE}/x.crl")], &world.root);
    let refused = crl::Contents::verified(&part, &world.root.der);
    assert!(matches!(refused, Err(crl::CrlRefusal::NotAList { .. })));
    for cut in 0..signed.len() {
        assert!(crl::Contents::verified(&signed[..cut], &world.root.der).is_err());
    }
}
