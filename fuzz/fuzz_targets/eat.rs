//! Tokens as a device sends them, or somebody who says so: read whole or refused, never a panic, and
//! nothing is believed that this key did not sign over this nonce.

#![no_main]

use identity::eat::Token;
use libfuzzer_sys::fuzz_target;

const KEY: &[u8] = include_bytes!("../../rooms/identity/tests/eat/spki.der");
const KNOWN: [&[u8]; 5] = [
    include_bytes!("../../rooms/identity/tests/eat/good.cwt"),
    include_bytes!("../../rooms/identity/tests/eat/untagged.cwt"),
    include_bytes!("../../rooms/identity/tests/eat/cwt-tagged.cwt"),
    include_bytes!("../../rooms/identity/tests/eat/nonces.cwt"),
    include_bytes!("../../rooms/identity/tests/eat/debug.cwt"),
];

fuzz_target!(|data: &[u8]| {
    let nonce: [u8; 32] = std::array::from_fn(|at| u8::try_from(at).unwrap());
    let _ = Token::nonces(data);
    if let Ok(token) = Token::read(KEY, &nonce, data) {
        // Headers that nobody signed may differ; what is believed is what was signed.
        let known = KNOWN.map(|known| Token::read(KEY, &nonce, known).unwrap());
        assert!(known.contains(&token));
    }
});
