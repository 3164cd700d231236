//! An OCSP request as a stranger may send it: refused or answered whole, never a panic.

#![no_main]

use identity::Registry;
use identity::ocsp::{self, Request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(request) = Request::parse(data) else {
        return;
    };
    assert!(request.nonce().is_none_or(|nonce| (1..=ocsp::NONCE_BYTES_MAX).contains(&nonce.len())));
    // We answer for no CA here, so there is never a decision.
    assert_eq!(
        ocsp::decide(&Registry::new(), &[], &request),
        Err(ocsp::NoAnswer::Unauthorized)
    );
});
