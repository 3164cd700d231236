//! A certificate request as a stranger may send it: refused or whole, never a panic.

#![no_main]

use identity::{CertificateRequest, KeyKind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(request) = CertificateRequest::parse(data) {
        // What was accepted can be certified: its key is one that the profiles take.
        assert!(KeyKind::of(request.public_key()).is_ok());
        assert_eq!(request.digest(), CertificateRequest::parse(data).unwrap().digest());
    }
});
