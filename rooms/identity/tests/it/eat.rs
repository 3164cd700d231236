//! Entity Attestation Tokens: those of a second implementation (pycose) are read, and attacks on
//! them. `tests/eat/` holds what pycose signed over claims of RFC 9711, with its key.

use crate::support::*;
use identity::AttestationStatus;
use identity::eat::{
    Claims, DebugStatus, EatRefusal, ReferenceClaims, TOKEN_BYTES_MAX, Token, TokenReference,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

const KEY: &[u8] = include_bytes!("../eat/spki.der");
const GOOD: &[u8] = include_bytes!("../eat/good.cwt");
const UNTAGGED: &[u8] = include_bytes!("../eat/untagged.cwt");
const CWT_TAGGED: &[u8] = include_bytes!("../eat/cwt-tagged.cwt");
const NONCES: &[u8] = include_bytes!("../eat/nonces.cwt");
const DEBUG: &[u8] = include_bytes!("../eat/debug.cwt");

fn nonce() -> [u8; 32] {
    std::array::from_fn(|at| u8::try_from(at).unwrap())
}

fn part(name: &str, version: &str) -> Claims {
    Claims {
        swname: Some(name.to_owned()),
        swversion: Some(version.to_owned()),
        ..Claims::default()
    }
}

fn reference() -> ReferenceClaims {
    ReferenceClaims {
        oemid: Some(32_473_u32.to_be_bytes().to_vec()),
        hwmodel: Some(b"hm1".to_vec()),
        swname: Some("app".to_owned()),
        swversion: Some("3.1.0".to_owned()),
        oemboot: Some(true),
        dbgstat_min: Some(DebugStatus::Disabled),
        submods: BTreeMap::from([("modem".to_owned(), "1.2".to_owned())]),
    }
}

#[test]
fn what_a_second_implementation_signed_is_read_as_it_was_meant() {
    let said = Claims {
        ueid: Some([&[1][..], &[0; 16]].concat()),
        oemid: Some(32_473_u32.to_be_bytes().to_vec()),
        hwmodel: Some(b"hm1".to_vec()),
        oemboot: Some(true),
        dbgstat: Some(DebugStatus::DisabledPermanently),
        submods: BTreeMap::from([("modem".to_owned(), part("modem", "1.2"))]),
        ..part("app", "3.1.0")
    };
    for token in [GOOD, UNTAGGED, CWT_TAGGED, NONCES] {
        let read = Token::read(KEY, &nonce(), token).unwrap();
        assert_eq!(*read.claims(), said);
        assert!(Token::nonces(token).unwrap().contains(&nonce().to_vec()));
    }
}

#[test]
fn a_token_agrees_if_it_says_all_that_is_asked() {
    let appraise = |token, wanted: &ReferenceClaims| {
        let references = [TokenReference {
            firmware: "3.1.0",
            claims: wanted,
        }];
        Token::read(KEY, &nonce(), token)
            .unwrap()
            .appraise(&references)
    };
    let good = appraise(GOOD, &reference());
    assert_eq!(good.status, AttestationStatus::Affirming);
    assert_eq!(good.why, "its token tells of firmware 3.1.0");
    let open = appraise(DEBUG, &reference());
    assert_eq!(open.status, AttestationStatus::Contraindicated);
    assert!(
        open.why.ends_with("from which differ: oemboot, dbgstat"),
        "{}",
        open.why
    );
    let wanted = |change: fn(&mut ReferenceClaims)| {
        let mut wanted = reference();
        change(&mut wanted);
        wanted
    };
    for (field, wanted) in [
        ("oemid", wanted(|it| it.oemid = Some(vec![0; 16]))),
        ("hwmodel", wanted(|it| it.hwmodel = Some(b"hm2".to_vec()))),
        ("swname", wanted(|it| it.swname = Some("App".into()))),
        ("swversion", wanted(|it| it.swversion = Some("3.1".into()))),
        ("oemboot", wanted(|it| it.oemboot = Some(false))),
        (
            "dbgstat",
            wanted(|it| it.dbgstat_min = Some(DebugStatus::DisabledFullyAndPermanently)),
        ),
        (
            "submods",
            wanted(|it| drop(it.submods.insert("modem".into(), "1.3".into()))),
        ),
        (
            "submods",
            wanted(|it| drop(it.submods.insert("radio".into(), "1".into()))),
        ),
    ] {
        let told = appraise(GOOD, &wanted);
        assert_eq!(told.status, AttestationStatus::Contraindicated, "{field}");
        assert!(
            told.why.ends_with(&format!("differ: {field}")),
            "{}",
            told.why
        );
    }
    // Nothing asked for is nothing shown; the fleet's files refuse such a value.
    let none = Token::read(KEY, &nonce(), GOOD).unwrap().appraise(&[]);
    assert_eq!(none.status, AttestationStatus::Contraindicated);
}

#[test]
fn a_token_of_another_key_or_another_nonce_is_no_evidence() {
    let other = Key::new();
    let told = Token::read(&other.spki, &nonce(), GOOD);
    assert_eq!(told, Err(EatRefusal::BadSignature));
    let mut replayed = nonce();
    replayed[31] ^= 1;
    let told = Token::read(KEY, &replayed, GOOD);
    assert_eq!(told, Err(EatRefusal::StaleNonce));
    assert_eq!(
        Token::read(KEY, &nonce()[..31], GOOD),
        Err(EatRefusal::StaleNonce)
    );
    assert_eq!(Token::read(KEY, &[], GOOD), Err(EatRefusal::StaleNonce));
    let long = [GOOD, &vec![0; TOKEN_BYTES_MAX]].concat();
    assert_eq!(Token::read(KEY, &nonce(), &long), Err(EatRefusal::TooLarge));
    assert_eq!(Token::nonces(&long), Err(EatRefusal::TooLarge));
}

/// `alg: none`, HMAC by the public key, the algorithm where nobody signed it, a critical header.
#[test]
fn the_algorithm_is_not_the_senders_to_choose() {
    const ES256: [u8; 5] = [0x44, 0xa2, 0x01, 0x26, 0x04];
    let at = GOOD.windows(2).position(|two| two == [0x01, 0x26]).unwrap();
    assert_eq!(ES256[2..4], GOOD[at..at + 2]);
    for algorithm in [0x05, 0x25, 0x27, 0x00] {
        let mut token = GOOD.to_vec();
        token[at + 1] = algorithm;
        assert_eq!(
            Token::read(KEY, &nonce(), &token),
            Err(EatRefusal::Algorithm)
        );
    }
    // The header label is another's: none is named.
    let mut token = GOOD.to_vec();
    token[at] = 0x03;
    assert_eq!(
        Token::read(KEY, &nonce(), &token),
        Err(EatRefusal::Algorithm)
    );
    token[at] = 0x02;
    assert_eq!(
        Token::read(KEY, &nonce(), &token),
        Err(EatRefusal::Algorithm)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// One byte of it is another: it is refused, or says the same.
    #[test]
    fn a_damaged_token_is_refused(at in 0..GOOD.len(), by in 1..=255_u8) {
        let mut token = GOOD.to_vec();
        token[at] ^= by;
        let good = Token::read(KEY, &nonce(), GOOD).unwrap();
        if let Ok(read) = Token::read(KEY, &nonce(), &token) {
            prop_assert_eq!(read, good);
        }
        let _ = Token::nonces(&token);
    }

    #[test]
    fn what_is_no_token_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Token::read(KEY, &nonce(), &bytes).is_err());
        let _ = Token::nonces(&bytes);
    }
}
