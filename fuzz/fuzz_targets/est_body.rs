//! The body of an EST request, with any content type: decoded as written, or refused.

#![no_main]

use identity::est;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Option<String>, Vec<u8>)| {
    let (content_type, body) = input;
    if let Ok(der) = est::decode_body(content_type.as_deref(), &body) {
        // Written again it is read as the same bytes, and as no others.
        let again = est::encode_body(&der);
        assert_eq!(est::decode_body(None, again.as_bytes()).as_ref(), Ok(&der));
        let _ = identity::CertificateRequest::parse(&der);
    }
});
