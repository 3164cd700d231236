//! What a browser hands over of a passkey, or somebody who says that it is one: read whole or refused,
//! never a panic, and nothing is believed that this key did not sign over this challenge.

#![no_main]

use identity::person::passkey::{
    Asked, CREDENTIAL_BYTES_MAX, Made, Passkey, PasskeyRefusal, Used, prove, register,
};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use std::sync::OnceLock;

const ASKED: Asked<'static> = Asked {
    relying_party: "fleet.example.com",
    origin: "https://fleet.example.com:8443",
    challenge: b"thirty-two bytes, all of them new",
};
const MADE: Made<'static> = Made {
    client_data: include_bytes!("../seeds/passkey/made-client-data.json"),
    attestation: include_bytes!("../seeds/passkey/attestation-packed"),
};
const USED: Used<'static> = Used {
    client_data: include_bytes!("../seeds/passkey/used-client-data.json"),
    authenticator_data: include_bytes!("../seeds/passkey/authenticator-data"),
    signature: include_bytes!("../seeds/passkey/signature"),
};

fuzz_target!(|data: &[u8]| {
    static KNOWN: OnceLock<Passkey> = OnceLock::new();
    let known = KNOWN.get_or_init(|| {
        let known = register(&ASKED, &MADE).unwrap();
        assert!(prove(&ASKED, &known, &USED).is_ok());
        known
    });

    let attested = Made { attestation: data, ..MADE };
    if let Ok(new) = register(&ASKED, &attested) {
        assert!((1..=CREDENTIAL_BYTES_MAX).contains(&new.credential.len()));
        let holds = |part: &[u8]| data.windows(part.len()).any(|window| window == part);
        assert!(holds(&new.credential) && holds(&new.key));
        // A key that was taken is one that can be asked later.
        let refused = prove(&ASKED, &new, &USED).err();
        assert!(!matches!(refused, Some(PasskeyRefusal::Malformed(_) | PasskeyRefusal::Algorithm)));
    }
    let client = Made { client_data: data, attestation: include_bytes!("../seeds/passkey/attestation-none") };
    if register(&ASKED, &client).is_ok() {
        // Another reader of JSON reads the same of it.
        let said: Value = serde_json::from_slice(data).unwrap();
        assert_eq!(said["type"], "webauthn.create");
        assert_eq!(said["origin"], ASKED.origin);
    }
    for used in [Used { client_data: data, ..USED }, Used { authenticator_data: data, ..USED }] {
        let same = used.client_data == USED.client_data
            && used.authenticator_data == USED.authenticator_data;
        assert_eq!(prove(&ASKED, known, &used).is_ok(), same);
    }
    // Of one message there is more than one signature that holds, and of one key more than one spelling.
    let _ = prove(&ASKED, known, &Used { signature: data, ..USED });
    let spelled = Passkey { key: data.to_vec(), ..known.clone() };
    let _ = prove(&ASKED, &spelled, &USED);
});
