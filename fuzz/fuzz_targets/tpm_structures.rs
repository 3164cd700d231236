//! Structures as a TPM sends them, or somebody who says so: read whole or refused, never a panic,
//! and nothing is believed that no chip signed.

#![no_main]

use identity::tpm::{AttestationKey, EndorsementKey, Public, Signature, Statement};
use libfuzzer_sys::fuzz_target;

const ATTESTATION_KEY: &[u8] = include_bytes!("../../rooms/identity/tests/tpm/ak-ecc.pub");
const SIGNED: &[u8] = include_bytes!("../../rooms/identity/tests/tpm/created-ecc.attest");
const SIGNATURE: &[u8] = include_bytes!("../../rooms/identity/tests/tpm/created-ecc.sig");

fuzz_target!(|data: &[u8]| {
    if let Ok(public) = Public::read(data) {
        // What was read is what came, and its key is one that is certified.
        assert_eq!(public.to_tpm2b(), data);
        assert!(identity::KeyKind::of(public.spki()).is_ok());
        assert_eq!(public.name().as_bytes().len(), 34);
    }
    // A key is for one of the two, never for both.
    assert!(EndorsementKey::read(data).is_err() || AttestationKey::read(data).is_err());
    let _ = Statement::read(data);
    let _ = Signature::read(data);
    let known = AttestationKey::read(ATTESTATION_KEY).unwrap();
    assert!(data == SIGNED || known.verify(data, SIGNATURE).is_err());
    let _ = known.verify(SIGNED, data);
});
