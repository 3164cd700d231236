//! Mutated input: nothing panics, and nothing that was changed is believed.

use crate::support::*;
use identity::{CertificateRequest, Door, IdentityKind, Path, est, expected};
use proptest::prelude::*;

/// What a mutation does, told by numbers so that a failure can be replayed.
pub fn mutate(bytes: &mut Vec<u8>, edits: &[(u8, usize, u8)]) {
    for (kind, at, value) in edits {
        if bytes.is_empty() {
            return;
        }
        let at = at % bytes.len();
        match kind % 5 {
            0 => bytes[at] ^= value | 1,
            1 => bytes.insert(at, *value),
            2 => {
                bytes.remove(at);
            }
            3 => bytes.truncate(at),
            _ => {
                let piece = bytes[at..].to_vec();
                bytes.extend(piece.iter().take(usize::from(*value)));
            }
        }
    }
}

pub fn edits() -> impl Strategy<Value = Vec<(u8, usize, u8)>> {
    prop::collection::vec((any::<u8>(), any::<usize>(), any::<u8>()), 1..6)
}

#[test]
fn mutated_certificates_and_requests_do_no_harm() {
    let mut world = World::new();
    let key = Key::new();
    let leaf = world.issue("d1", &key);
    let idevid = world.factory.idevid("maker", "SN1", &key);
    let uri = realm().uri_of(&device("d1"));
    let request = request_der(&key, &subject("d1"), &asking_for_names(&uri_name(&uri)));
    let path_of = |der: &[u8]| -> Option<Path> {
        world.anchors.verify_path(Door::Devices, der, &[], NOW).ok()
    };
    let genuine = path_of(&leaf).unwrap();
    proptest!(ProptestConfig::with_cases(1500), |(edits in edits())| {
        for good in [&leaf, &idevid] {
            let mut der = good.clone();
            mutate(&mut der, &edits);
            // What is read without a path must not panic either.
            let _ = identity::certificate_id(&der);
            let _ = world.anchors.presented(&genuine, &der);
            let _ = identity::profile::Issuer::from_certificate(&der);
            prop_assert!(der == *good || path_of(&der).is_none(), "a changed certificate was believed");
            let _ = world.anchors.verify_path(Door::Devices, good, &[&der], NOW);
        }
        let mut der = request.clone();
        mutate(&mut der, &edits);
        prop_assert!(der == request || CertificateRequest::parse(&der).is_err());
        let body = est::encode_body(&request);
        let mut body = body.into_bytes();
        mutate(&mut body, &edits);
        let _ = est::decode_body(None, &body).map(|read| CertificateRequest::parse(&read.der));
    });
}

/// Behind the signature: whatever our CA or a factory's would sign, by a stolen key or a fault of
/// its own, is read without harm, and names one of ours only as a profile of ours would.
#[test]
fn whatever_a_ca_signs_is_read_without_harm() {
    use x509_cert::der::{Decode, Encode};
    let world = World::new();
    let key = Key::new();
    let tbs_of = |der: &[u8]| {
        let certificate = x509_cert::Certificate::from_der(der).unwrap();
        certificate.tbs_certificate().to_der().unwrap()
    };
    let ours = tbs_of(&world.issuing.ldevid("d1", &key, NOW, 30 * DAY));
    let theirs = tbs_of(&world.factory.idevid("maker", "SN1", &key));
    let (believed, named) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    proptest!(ProptestConfig::with_cases(2000), |(edits in edits())| {
        for (good, ca) in [(&ours, &world.issuing), (&theirs, &world.factory)] {
            let mut tbs = good.clone();
            mutate(&mut tbs, &edits);
            let der = signed(&tbs, &ca.key.sign(&tbs));
            let _ = world.anchors.verify_path(Door::Devices, &der, &[&der], NOW);
            let Ok(path) = world.anchors.verify_path(Door::Devices, &der, &[], NOW) else {
                continue;
            };
            believed.set(believed.get() + 1);
            let Ok(presented) = world.anchors.presented(&path, &der) else {
                continue;
            };
            named.set(named.get() + 1);
            prop_assert_eq!(identity::certificate_id(&der).unwrap(), presented.certificate());
            let text = presented.to_string();
            let is_ours = *path.voucher() == identity::Voucher::Ours;
            prop_assert_eq!(is_ours, presented.kind() == IdentityKind::Ldevid, "{}", &text);
            prop_assert!(text.starts_with(if is_ours { "device/" } else { "idevid maker " }), "{}", text);
        }
    });
    let (believed, named) = (believed.get(), named.get());
    println!("of 4000 certificates {believed} were believed and {named} named somebody");
    assert!(named > 0);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..600), text in "\\PC{0,200}") {
        let _ = CertificateRequest::parse(&bytes);
        let _ = identity::certificate_id(&bytes);
        let _ = est::decode_body(Some(&text), &bytes);
        let _ = est::decode_body(None, &bytes);
        let _ = est::request_in_pem(&bytes);
        let _ = est::wants_pem(Some(&text));
        let _ = expected::parse_csv(&text);
        let _ = expected::parse_json(&text);
        let _ = expected::parse_csv(&format!("serial,product,groups\n{text}"));
        let _ = expected::parse_json(&format!("[{text}"));
    }

    #[test]
    fn a_body_is_read_however_it_is_wrapped(rest in prop::collection::vec(any::<u8>(), 0..2000), width in 1usize..90, crlf: bool) {
        // As all DER of a request begins.
        let der = [&[0x30], rest.as_slice()].concat();
        let end = if crlf { "\r\n" } else { "\n" };
        let text = est::encode_body(&der);
        let mut wrapped = String::new();
        for (at, character) in text.chars().enumerate() {
            if at > 0 && at % width == 0 {
                wrapped.push_str(end);
            }
            wrapped.push(character);
        }
        wrapped.push_str(end);
        prop_assert_eq!(est::decode_body(None, wrapped.as_bytes()).unwrap().der, der.clone());
        prop_assert_eq!(est::decode_body(Some("application/pkcs10"), text.as_bytes()).unwrap().der, der);
    }
}

#[test]
fn bodies_that_are_not_plain_base64_are_refused() {
    let text = est::encode_body(b"some request");
    let code = |header, body: &str| {
        est::decode_body(header, body.as_bytes())
            .unwrap_err()
            .code()
    };
    for header in [
        "application/pkcs10",
        "Application/PKCS10; x=y",
        " application/pkcs10 ",
    ] {
        assert!(
            est::decode_body(Some(header), text.as_bytes()).is_ok(),
            "{header}"
        );
    }
    assert_eq!(code(Some("text/plain"), &text), "body-media-type");
    assert_eq!(code(Some(""), &text), "body-media-type");
    assert_eq!(code(None, ""), "body-empty");
    assert_eq!(code(None, "\r\n"), "body-empty");
    let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n");
    for body in [
        &pem,
        "c29t ZQ==",
        "c29tZQ",
        "c29tZQ=",
        "c29tZR==",
        "c29t*Q==",
        "c29t-_==",
        "=",
    ] {
        assert_eq!(code(None, body), "body-not-base64", "{body}");
    }
    assert_eq!(code(None, "\u{1}0\u{82}"), "body-not-base64");
    assert_eq!(code(None, &"A".repeat(16 * 1024 + 4)), "body-too-large");
}

#[test]
fn a_request_comes_in_pem_under_its_own_media_type_only() {
    let der = b"0 some request, longer than what fits in one line of PEM".to_vec();
    let base64 = est::encode_body(&der);
    let (first, rest) = base64.split_at(64);
    let pem = |label: &str, end: &str| {
        format!("-----BEGIN {label}-----{end}{first}{end}{rest}{end}-----END {label}-----{end}")
    };
    let read = |body: &str| est::decode_body(Some("application/x-pem-file"), body.as_bytes());
    let good = pem("CERTIFICATE REQUEST", "\n");
    for body in [
        good.clone(),
        pem("CERTIFICATE REQUEST", "\r\n"),
        pem("NEW CERTIFICATE REQUEST", "\n"),
        format!("{good}\0"),
    ] {
        let read = read(&body).unwrap();
        assert_eq!((&read.der, read.form), (&der, est::BodyForm::Pem), "{body}");
    }
    for body in [
        base64.clone(),
        pem("CERTIFICATE", "\n"),
        good.clone() + &good,
        format!("text before\n{good}"),
        good.replace("-----END CERTIFICATE", "-----END NEW CERTIFICATE"),
        good.replace(first, "%%%"),
        "-----BEGIN CERTIFICATE REQUEST-----".to_owned(),
    ] {
        assert_eq!(read(&body).unwrap_err().code(), "body-not-pem", "{body}");
    }
    for body in [
        "",
        "\r\n\0",
        &pem("CERTIFICATE REQUEST", "").replace(&base64, ""),
    ] {
        assert_eq!(read(body).unwrap_err().code(), "body-empty", "{body}");
    }
    assert_eq!(
        read(&"A".repeat(16 * 1024 + 1)).unwrap_err().code(),
        "body-too-large"
    );
    let code = |header| {
        est::decode_body(header, good.as_bytes())
            .unwrap_err()
            .code()
    };
    assert_eq!(code(Some("application/pkcs10")), "body-not-base64");
    assert_eq!(code(None), "body-not-base64");
}

#[test]
fn bare_der_is_told_from_base64() {
    let read = est::decode_body(None, b"0\x03\x02\x01\x00").unwrap();
    assert_eq!(read.form, est::BodyForm::Der);
    assert_eq!(read.der, b"0\x03\x02\x01\x00");
    let read = est::decode_body(None, est::encode_body(&read.der).as_bytes()).unwrap();
    assert_eq!(read.form, est::BodyForm::Base64);
}

#[test]
fn pem_is_for_who_asks_for_it_by_name() {
    for accept in [
        "application/pem-certificate-chain",
        "Application/PEM-Certificate-Chain;q=0.4",
        "text/plain, application/pem-certificate-chain;q=0.9, application/pkcs7-mime; q=0.5, */*",
    ] {
        assert!(est::wants_pem(Some(accept)), "{accept}");
    }
    assert!(!est::wants_pem(None));
    for accept in [
        "",
        "*/*",
        "application/*",
        "application/pkcs7-mime",
        "application/pkcs7-mime, application/pem-certificate-chain",
        "application/pem-certificate-chain;q=0",
        "application/pem-certificate-chain;q=x",
        "application/pem-certificate-chains",
    ] {
        assert!(!est::wants_pem(Some(accept)), "{accept}");
    }
}
