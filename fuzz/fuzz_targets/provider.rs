//! What a provider of identities says, or somebody in its place: of itself, its keys, who signed in
//! and who signed out. Refused in words that can be printed, or whole; and of a token nothing is
//! believed that these keys did not sign.

#![no_main]

use identity::person::id_token;
use identity::person::provider::{Keys, Metadata};
use identity::person::sign_out;
use libfuzzer_sys::fuzz_target;
use model::Timestamp;
use std::sync::OnceLock;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const SIGN_IN: id_token::Asked<'static> = id_token::Asked {
    issuer: "https://login.example.com",
    client: "fleetward",
    nonce: "n-0S6_WzA2Mj",
    now: NOW,
    proven_since: None,
    groups_claim: "groups",
};
const SIGN_OUT: sign_out::Asked<'static> = sign_out::Asked {
    issuer: SIGN_IN.issuer,
    client: SIGN_IN.client,
    now: NOW,
};
const ID_TOKENS: [&str; 2] = [
    include_str!("../seeds/provider/id-token-es256"),
    include_str!("../seeds/provider/id-token-rs256"),
];
const SIGN_OUT_TOKEN: &str = include_str!("../seeds/provider/sign-out-token");

fuzz_target!(|data: &[u8]| {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    let keys = KEYS.get_or_init(|| {
        let keys = Keys::read(include_bytes!("../seeds/provider/keys.json")).unwrap();
        for token in ID_TOKENS {
            assert!(id_token::verify(token, &keys, &SIGN_IN).is_ok());
        }
        assert!(sign_out::verify(SIGN_OUT_TOKEN, &keys, &SIGN_OUT).is_ok());
        keys
    });

    match Metadata::read(data, SIGN_IN.issuer) {
        Ok(read) => assert!(read.token_endpoint.len() < data.len()),
        Err(refusal) => printable(&refusal.to_string()),
    }
    match Keys::read(data) {
        Ok(others) => {
            for token in ID_TOKENS {
                let _ = id_token::verify(token, &others, &SIGN_IN);
            }
        }
        Err(refusal) => printable(&refusal.to_string()),
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    match id_token::verify(text, keys, &SIGN_IN) {
        Ok(_) => assert!(ID_TOKENS.iter().any(|known| signed(known) == signed(text))),
        Err(refusal) => printable(&refusal.to_string()),
    }
    match sign_out::verify(text, keys, &SIGN_OUT) {
        Ok(_) => assert_eq!(signed(text), signed(SIGN_OUT_TOKEN)),
        Err(refusal) => printable(&refusal.to_string()),
    }
});

/// Of one message there is more than one signature that holds.
fn signed(token: &str) -> &str {
    token.rsplit_once('.').unwrap().0
}

#[track_caller]
fn printable(text: &str) {
    assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{text:?}");
}
