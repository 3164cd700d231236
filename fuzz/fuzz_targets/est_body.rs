//! The body of an EST request, with any content type: decoded as written, or refused.

#![no_main]

use identity::est;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Option<String>, Vec<u8>)| {
    let (content_type, body) = input;
    let accept = content_type.as_deref();
    let _ = est::wants_pem(accept);
    if let Ok(read) = est::decode_body(accept, &body) {
        let der = read.der;
        // Written again it is read as the same bytes, and as no others, if it begins as a request
        // does: base64 of other bytes can look like bare DER.
        if der.first() != Some(&0x30) {
            return;
        }
        let again = est::encode_body(&der);
        assert_eq!(est::decode_body(None, again.as_bytes()).map(|read| read.der).as_ref(), Ok(&der));
        let _ = identity::CertificateRequest::parse(&der);
    }
});
