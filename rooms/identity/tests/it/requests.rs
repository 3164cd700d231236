//! Requests by OpenSSL and by hand: what is accepted, and what each refusal is called.

use crate::openssl::{is_here, read};
use crate::support::*;
use identity::csr::CsrRefusal;
use identity::{CertificateRequest, KeyKind};
use std::path::Path;

fn make(dir: &Path, algorithm: &str, digest: &str) -> Vec<u8> {
    read(dir, &format!("genpkey {algorithm} -out k.pem"));
    read(
        dir,
        &format!(
            "req -new -key k.pem {digest} -subj /serialNumber=SN1/CN=d1 -outform DER -out r.der"
        ),
    );
    std::fs::read(dir.join("r.der")).unwrap()
}

#[test]
fn openssl_requests_of_each_kind_of_key() {
    if !is_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let p256 = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
    let p384 = "-algorithm EC -pkeyopt ec_paramgen_curve:P-384";
    let rsa = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048";
    let kind = |algorithm: &str, digest: &str| {
        CertificateRequest::parse(&make(dir, algorithm, digest)).map(|request| request.key_kind())
    };
    assert_eq!(kind(p256, "-sha256"), Ok(KeyKind::P256));
    assert_eq!(kind(p256, "-sha384"), Ok(KeyKind::P256));
    assert_eq!(kind(p384, "-sha384"), Ok(KeyKind::P384));
    assert_eq!(kind(p384, "-sha256"), Ok(KeyKind::P384));
    assert_eq!(kind("-algorithm ED25519", ""), Ok(KeyKind::Ed25519));
    assert_eq!(kind(rsa, "-sha256"), Ok(KeyKind::Rsa { bits: 2048 }));

    assert_eq!(kind(p256, "-sha512"), Err(CsrRefusal::SignatureAlgorithm));
    assert_eq!(kind(rsa, "-sha1"), Err(CsrRefusal::SignatureAlgorithm));
    assert_eq!(
        kind(rsa, "-sha256 -sigopt rsa_padding_mode:pss"),
        Err(CsrRefusal::SignatureAlgorithm)
    );
    let small = "-algorithm RSA -pkeyopt rsa_keygen_bits:1024";
    assert_eq!(
        kind(small, "-sha256"),
        Err(CsrRefusal::RsaSize { bits: 1024 })
    );
    let three = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_keygen_pubexp:3";
    assert_eq!(kind(three, "-sha256"), Err(CsrRefusal::RsaExponent));
    let other = "-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1";
    assert_eq!(kind(other, "-sha256"), Err(CsrRefusal::KeyAlgorithm));
    let explicit = format!("{p256} -pkeyopt ec_param_enc:explicit");
    assert_eq!(kind(&explicit, "-sha256"), Err(CsrRefusal::KeyAlgorithm));
    assert_eq!(kind("-algorithm ED448", ""), Err(CsrRefusal::KeyAlgorithm));
}

#[test]
fn a_compressed_point_is_refused() {
    if !is_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    read(dir, "ecparam -name prime256v1 -genkey -noout -out full.pem");
    read(dir, "ec -in full.pem -conv_form compressed -out k.pem");
    read(
        dir,
        "req -new -key k.pem -subj /CN=d1 -outform DER -out r.der",
    );
    let der = std::fs::read(dir.join("r.der")).unwrap();
    let refusal = CertificateRequest::parse(&der).unwrap_err();
    assert_eq!(refusal, CsrRefusal::PointForm);
}

#[test]
fn openssl_asks_for_a_renewal() {
    if !is_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut world = World::new();
    let leaf = world.issue("d1", &Key::new());
    let who = world.enter(identity::Door::Devices, &leaf, NOW).unwrap();
    read(dir, "ecparam -name prime256v1 -genkey -noout -out k.pem");
    let uri = "subjectAltName=URI:spiffe://fleet.example/acme/device/d1";
    read(
        dir,
        &format!("req -new -key k.pem -subj /O=acme/CN=d1 -addext {uri} -outform DER -out r.der"),
    );
    let request = CertificateRequest::parse(&std::fs::read(dir.join("r.der")).unwrap()).unwrap();
    let operation = identity::Operation::SimpleReenroll;
    let decision = world
        .registry
        .enroll(operation, &who, &request, NOW)
        .unwrap();
    assert_eq!(decision.kind, identity::EnrollmentKind::Rekey);
}

#[test]
fn attributes_may_be_absent_empty_or_out_of_order() {
    let key = Key::new();
    let parse = |attributes: &[u8]| {
        CertificateRequest::parse(&request_der(&key, &subject("d1"), attributes))
    };
    assert!(parse(&[]).is_ok(), "absent");
    assert!(parse(&[0xa0, 0]).is_ok(), "empty");
    let challenge_oid = tlv(6, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 7]);
    let challenge = [challenge_oid, tlv(0x31, &tlv(0x0c, b"secret"))].concat();
    let challenge = tlv(0x30, &challenge);
    let names = asking_for_names(&uri_name("spiffe://fleet.example/acme/device/d1"));
    let names = names[2..].to_vec();
    for order in [[&names, &challenge], [&challenge, &names]] {
        let attributes = tlv(0xa0, &order.map(Vec::as_slice).concat());
        assert!(
            parse(&attributes).is_ok(),
            "the bytes that came are what was signed"
        );
    }
    let twice = tlv(0xa0, &[names.as_slice(), &names].concat());
    assert_eq!(parse(&twice).unwrap_err().code(), "request-malformed");
    assert_eq!(parse(&[0xa1, 0]).unwrap_err().code(), "request-malformed");
}

/// mbedTLS 2, which small devices run, writes NULL parameters after ecdsa-with-SHA256.
#[test]
fn an_ecdsa_request_as_mbedtls_2_writes_it_is_taken() {
    let key = Key::new();
    let good = request_der(&key, &subject("d1"), &[0xa0, 0]);
    let (bare, null) = ([0x30, 0x0a, 0x06, 0x08], [0x30, 0x0c, 0x06, 0x08]);
    let at = good.windows(4).rposition(|window| window == bare).unwrap();
    // The tag, and one or two bytes of length after the first.
    let head = usize::from(good[1] & 0x7f) + 2;
    let with = |parameters: [u8; 2]| {
        let after = at + 12;
        let inside = [
            &good[head..at],
            &null,
            &good[at + 4..after],
            &parameters,
            &good[after..],
        ];
        CertificateRequest::parse(&tlv(0x30, &inside.concat())).map(|_| ())
    };
    assert_eq!(with([5, 0]), Ok(()));
    let refusal = with([4, 0]).unwrap_err();
    assert_eq!(refusal.code(), "request-signature-algorithm");
}

#[test]
fn damaged_requests_are_refused() {
    let key = Key::new();
    let good = request_der(&key, &subject("d1"), &[0xa0, 0]);
    assert!(CertificateRequest::parse(&good).is_ok());
    let code = |der: &[u8]| CertificateRequest::parse(der).unwrap_err().code();

    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(code(&flipped), "request-bad-signature");
    let trailing = [good.as_slice(), &[0]].concat();
    assert_eq!(code(&trailing), "request-malformed");
    assert_eq!(code(&good[..good.len() - 1]), "request-malformed");
    assert_eq!(code(&[]), "request-malformed");
    assert_eq!(code(&[0x30; 8193]), "request-too-large");

    // Signed by another key than the one asked for: no possession.
    let other = Key::new();
    let info = tlv(
        0x30,
        &[&[2, 1, 0], subject("d1").as_slice(), &key.spki, &[0xa0, 0]].concat(),
    );
    assert_eq!(
        code(&signed(&info, &other.sign(&info))),
        "request-bad-signature"
    );
    let version_2 = tlv(
        0x30,
        &[&[2, 1, 1], subject("d1").as_slice(), &key.spki, &[0xa0, 0]].concat(),
    );
    assert_eq!(
        code(&signed(&version_2, &key.sign(&version_2))),
        "request-malformed"
    );
}
