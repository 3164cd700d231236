//! Mutated input: nothing panics, and nothing that was changed is believed.

use crate::support::*;
use identity::{CertificateRequest, Door, Path, est, expected};
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
        let _ = est::decode_body(None, &body).map(|der| CertificateRequest::parse(&der));
    });
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..600), text in "\\PC{0,200}") {
        let _ = CertificateRequest::parse(&bytes);
        let _ = identity::certificate_id(&bytes);
        let _ = est::decode_body(Some(&text), &bytes);
        let _ = expected::parse_csv(&text);
        let _ = expected::parse_json(&text);
        let _ = expected::parse_csv(&format!("serial,product,groups\n{text}"));
        let _ = expected::parse_json(&format!("[{text}"));
    }

    #[test]
    fn a_body_is_read_however_it_is_wrapped(der in prop::collection::vec(any::<u8>(), 1..2000), width in 1usize..90, crlf: bool) {
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
        prop_assert_eq!(est::decode_body(None, wrapped.as_bytes()).unwrap(), der.clone());
        prop_assert_eq!(est::decode_body(Some("application/pkcs10"), text.as_bytes()).unwrap(), der);
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
        "0\u{0}",
    ] {
        assert_eq!(code(None, body), "body-not-base64", "{body}");
    }
    assert_eq!(code(None, "\u{1}0\u{82}"), "body-not-base64");
    assert_eq!(code(None, &"A".repeat(16 * 1024 + 4)), "body-too-large");
}
