//! Passkeys: one of the standard's own vectors, an authenticator in software with each kind of key, and
//! each check by the attack that it is there for.

use crate::support::rsa_parts;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use identity::person::passkey::{
    Asked, CREDENTIAL_BYTES_MAX, Made, Passkey, PasskeyRefusal, Used, prove, register,
};
use proptest::prelude::*;

const ASKED: Asked<'static> = Asked {
    relying_party: "fleet.example.com",
    origin: "https://fleet.example.com:8443",
    challenge: b"thirty-two bytes, all of them new",
};
/// Present, verified.
const HELD: u8 = 0b101;
const ELIGIBLE: u8 = 1 << 3;
const BACKED_UP: u8 = 1 << 4;
const ATTESTED: u8 = 1 << 6;
const EXTENSIONS: u8 = 1 << 7;

enum Signs {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(RsaKeyPair),
}

/// As an authenticator and a browser together; whatever a test bends is a field.
struct Device {
    signs: Signs,
    credential: Vec<u8>,
    flags: u8,
    count: u32,
    relying_party: &'static str,
    origin: &'static str,
    extra: &'static str,
}

impl Device {
    fn new(signs: Signs) -> Self {
        Self {
            signs,
            credential: vec![7; 32],
            flags: HELD,
            count: 0,
            relying_party: ASKED.relying_party,
            origin: ASKED.origin,
            extra: "",
        }
    }

    fn es256() -> Self {
        Self::new(Signs::Es256(
            EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap(),
        ))
    }

    fn all() -> [Self; 3] {
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        [
            Self::es256(),
            Self::new(Signs::EdDsa(Ed25519KeyPair::generate().unwrap())),
            Self::new(Signs::Rs256(rsa)),
        ]
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.signs {
            Signs::Es256(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Signs::EdDsa(pair) => pair.sign(message).as_ref().to_vec(),
            Signs::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .unwrap();
                signature
            }
        }
    }

    fn key(&self) -> Vec<u8> {
        match &self.signs {
            Signs::Es256(pair) => {
                let point = pair.public_key().as_ref();
                ec_key(2, -7, 1, &point[1..33], Some(&point[33..65]))
            }
            Signs::EdDsa(pair) => ec_key(1, -8, 6, pair.public_key().as_ref(), None),
            Signs::Rs256(pair) => {
                let (modulus, exponent) = rsa_parts(pair.public_key().as_ref());
                let mut key = Vec::new();
                cbor::head(&mut key, 5, 4);
                for (label, value) in [(1, 3), (3, -257)] {
                    integer(&mut key, label);
                    integer(&mut key, value);
                }
                for (label, value) in [(-1, &modulus), (-2, &exponent)] {
                    integer(&mut key, label);
                    cbor::bytes(&mut key, value);
                }
                key
            }
        }
    }

    fn authenticator_data(&self, attested: Option<&[u8]>) -> Vec<u8> {
        let mut all = digest(&SHA256, self.relying_party.as_bytes())
            .as_ref()
            .to_vec();
        let flags = self.flags | if attested.is_some() { ATTESTED } else { 0 };
        all.push(flags);
        all.extend(self.count.to_be_bytes());
        if let Some(key) = attested {
            all.extend([0; 16]);
            all.extend(u16::try_from(self.credential.len()).unwrap().to_be_bytes());
            all.extend(&self.credential);
            all.extend(key);
        }
        if flags & EXTENSIONS != 0 {
            cbor::head(&mut all, 5, 1);
            cbor::text(&mut all, "credProtect");
            integer(&mut all, 3);
        }
        all
    }

    fn client_data(&self, ceremony: &str, challenge: &[u8]) -> Vec<u8> {
        format!(
            r#"{{"type":"{ceremony}","challenge":"{}","origin":"{}"{}}}"#,
            URL_SAFE_NO_PAD.encode(challenge),
            self.origin,
            self.extra
        )
        .into_bytes()
    }

    fn register(&self) -> Result<Passkey, PasskeyRefusal> {
        let client_data = self.client_data("webauthn.create", ASKED.challenge);
        self.register_with(
            &client_data,
            &attestation("none", &self.authenticator_data(Some(&self.key())), &[0xa0]),
        )
    }

    fn register_with(
        &self,
        client_data: &[u8],
        attestation: &[u8],
    ) -> Result<Passkey, PasskeyRefusal> {
        register(
            &ASKED,
            &Made {
                client_data,
                attestation,
            },
        )
    }

    fn prove(&self, known: &Passkey) -> Result<u32, PasskeyRefusal> {
        self.answer("webauthn.get", ASKED.challenge, known)
    }

    fn answer(
        &self,
        ceremony: &str,
        challenge: &[u8],
        known: &Passkey,
    ) -> Result<u32, PasskeyRefusal> {
        let client_data = self.client_data(ceremony, challenge);
        let authenticator_data = self.authenticator_data(None);
        let hash = digest(&SHA256, &client_data);
        let signature = self.sign(&[&authenticator_data, hash.as_ref()].concat());
        let used = Used {
            client_data: &client_data,
            authenticator_data: &authenticator_data,
            signature: &signature,
        };
        prove(&ASKED, known, &used).map(|proof| proof.count())
    }
}

fn integer(out: &mut Vec<u8>, value: i64) {
    match u64::try_from(value) {
        Ok(value) => cbor::head(out, 0, value),
        Err(_) => cbor::head(out, 1, u64::try_from(-1 - value).unwrap()),
    }
}

fn ec_key(kind: i64, algorithm: i64, curve: i64, x: &[u8], y: Option<&[u8]>) -> Vec<u8> {
    let mut key = Vec::new();
    cbor::head(&mut key, 5, if y.is_some() { 5 } else { 4 });
    for (label, value) in [(1, kind), (3, algorithm), (-1, curve)] {
        integer(&mut key, label);
        integer(&mut key, value);
    }
    for (label, value) in [(-2, Some(x)), (-3, y)] {
        if let Some(value) = value {
            integer(&mut key, label);
            cbor::bytes(&mut key, value);
        }
    }
    key
}

fn attestation(format: &str, authenticator_data: &[u8], statement: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    cbor::head(&mut all, 5, 3);
    cbor::text(&mut all, "fmt");
    cbor::text(&mut all, format);
    cbor::text(&mut all, "attStmt");
    all.extend(statement);
    cbor::text(&mut all, "authData");
    cbor::bytes(&mut all, authenticator_data);
    all
}

fn packed(algorithm: i64, signature: &[u8]) -> Vec<u8> {
    let mut statement = Vec::new();
    cbor::head(&mut statement, 5, 2);
    cbor::text(&mut statement, "alg");
    integer(&mut statement, algorithm);
    cbor::text(&mut statement, "sig");
    cbor::bytes(&mut statement, signature);
    statement
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// Web Authentication level 3, section 16, "ES256 self-attestation" and "ES256 with no attestation".
const VECTOR_CLIENT: &str = "7b2274797065223a22776562617574686e2e637265617465222c226368616c6c656e6765223a2265476e4374334c55745936366b336a506a796e6962506b31716e666644616966715a774c33417032392d55222c226f726967696e223a2268747470733a2f2f6578616d706c652e6f7267222c2263726f73734f726967696e223a66616c73652c22657874726144617461223a22636c69656e74446174614a534f4e206d617920626520657874656e6465642077697468206164646974696f6e616c206669656c647320696e20746865206675747572652c207375636820617320746869733a205539685458764b453255526b4d6e625f3078594856673d3d227d";
const VECTOR_ATTESTATION: &str = "a363666d74667061636b65646761747453746d74a263616c67266373696758483046022100ae045923ded832b844cae4d5fc864277c0dc114ad713e271af0f0d371bd3ac540221009077a088ed51a673951ad3ba2673d5029bab65b64f4ea67b234321f86fcfac5d68617574684461746158a4bfabc37432958b063360d3ad6461c9c4735ae7f8edd46592a5e0f01452b2e4b55d00000000df850e09db6afbdfab51697791506cfc0020455ef34e2043a87db3d4afeb39bbcb6cc32df9347c789a865ecdca129cbef58ca5010203262001215820eb151c8176b225cc651559fecf07af450fd85802046656b34c18f6cf193843c5225820927b8aa427a2be1b8834d233a2d34f61f13bfd44119c325d5896e183fee484f2";
const UNVERIFIED_CLIENT: &str = "7b2274797065223a22776562617574686e2e637265617465222c226368616c6c656e6765223a22414d4d507434557878475453746e63647134313759447742466938767049612d7077386f4f755657345441222c226f726967696e223a2268747470733a2f2f6578616d706c652e6f7267222c2263726f73734f726967696e223a66616c73652c22657874726144617461223a22636c69656e74446174614a534f4e206d617920626520657874656e6465642077697468206164646974696f6e616c206669656c647320696e20746865206675747572652c207375636820617320746869733a20426b5165446a646354427258426941774a544c4535513d3d227d";
const UNVERIFIED_ATTESTATION: &str = "a363666d74646e6f6e656761747453746d74a068617574684461746158a4bfabc37432958b063360d3ad6461c9c4735ae7f8edd46592a5e0f01452b2e4b559000000008446ccb9ab1db374750b2367ff6f3a1f0020f91f391db4c9b2fde0ea70189cba3fb63f579ba6122b33ad94ff3ec330084be4a5010203262001215820afefa16f97ca9b2d23eb86ccb64098d20db90856062eb249c33a9b672f26df61225820930a56b87a2fca66334b03458abf879717c12cc68ed73290af2e2664796b9220";

fn vector(client: &str, attestation: &str) -> Result<Passkey, PasskeyRefusal> {
    let (client_data, attestation) = (unhex(client), unhex(attestation));
    let read: serde_json::Value = serde_json::from_slice(&client_data).unwrap();
    let challenge = URL_SAFE_NO_PAD.decode(read["challenge"].as_str().unwrap());
    let asked = Asked {
        relying_party: "example.org",
        origin: "https://example.org",
        challenge: &challenge.unwrap(),
    };
    register(
        &asked,
        &Made {
            client_data: &client_data,
            attestation: &attestation,
        },
    )
}

#[test]
fn the_standards_own_vector_is_read_and_one_bit_of_it_is_not() {
    let read = vector(VECTOR_CLIENT, VECTOR_ATTESTATION).unwrap();
    let credential = "455ef34e2043a87db3d4afeb39bbcb6cc32df9347c789a865ecdca129cbef58c";
    assert_eq!(read.credential, unhex(credential));
    assert!(read.synced && read.count == 0);
    let bent = VECTOR_ATTESTATION.replace("2100ae045923", "2100ae045924");
    assert_eq!(
        vector(VECTOR_CLIENT, &bent),
        Err(PasskeyRefusal::Attestation)
    );
    let unverified = vector(UNVERIFIED_CLIENT, UNVERIFIED_ATTESTATION);
    assert_eq!(unverified, Err(PasskeyRefusal::NotVerified));
}

#[test]
fn each_kind_of_key_is_registered_and_proves_its_holder() {
    for mut device in Device::all() {
        let known = device.register().unwrap();
        assert_eq!((known.count, known.synced), (0, false));
        assert_eq!(device.prove(&known), Ok(0));
        device.flags |= EXTENSIONS;
        assert_eq!(device.prove(&known), Ok(0));
        assert!(device.register().is_ok());
    }
}

#[test]
fn a_recorded_answer_is_not_taken_for_another_challenge() {
    let device = Device::es256();
    let known = device.register().unwrap();
    for challenge in [&b""[..], b"another", &ASKED.challenge[1..]] {
        let answer = device.answer("webauthn.get", challenge, &known);
        assert_eq!(answer, Err(PasskeyRefusal::OtherChallenge));
    }
}

#[test]
fn an_empty_challenge_of_ours_is_answered_by_nothing() {
    let device = Device::es256();
    let known = device.register().unwrap();
    let client_data = device.client_data("webauthn.get", b"");
    let authenticator_data = device.authenticator_data(None);
    let used = Used {
        client_data: &client_data,
        authenticator_data: &authenticator_data,
        signature: b"",
    };
    let asked = Asked {
        challenge: b"",
        ..ASKED
    };
    assert_eq!(
        prove(&asked, &known, &used),
        Err(PasskeyRefusal::OtherChallenge)
    );
}

#[test]
fn a_phishing_page_and_a_foreign_frame_get_nothing() {
    let mut device = Device::es256();
    let known = device.register().unwrap();
    for origin in [
        "https://fleet.example.com.evil.example:8443",
        "https://fleet.example.com",
        "http://fleet.example.com:8443",
        "https://Fleet.example.com:8443",
        "https://fleet.example.com:8443/",
        "null",
    ] {
        device.origin = origin;
        assert_eq!(
            device.prove(&known),
            Err(PasskeyRefusal::OtherOrigin),
            "{origin}"
        );
        assert_eq!(device.register(), Err(PasskeyRefusal::OtherOrigin));
    }
    device.origin = ASKED.origin;
    for extra in [
        r#","crossOrigin":true"#,
        r#","topOrigin":"https://evil.example""#,
    ] {
        device.extra = extra;
        assert_eq!(
            device.prove(&known),
            Err(PasskeyRefusal::OtherOrigin),
            "{extra}"
        );
    }
    device.extra = r#","crossOrigin":false,"other_keys_can_be_added_here":"x""#;
    assert_eq!(device.prove(&known), Ok(0));
    device.extra = r#","origin":"https://evil.example""#;
    let twice = device.prove(&known);
    assert_eq!(twice, Err(PasskeyRefusal::Malformed("the browser's part")));
}

#[test]
fn a_passkey_of_another_site_is_none_of_ours() {
    let mut device = Device::es256();
    let known = device.register().unwrap();
    for name in ["example.com", "fleet.example.com:8443", ""] {
        device.relying_party = name;
        assert_eq!(device.prove(&known), Err(PasskeyRefusal::OtherRelyingParty));
        assert_eq!(device.register(), Err(PasskeyRefusal::OtherRelyingParty));
    }
}

#[test]
fn a_found_key_proves_nobody_without_its_holder() {
    let mut device = Device::es256();
    let known = device.register().unwrap();
    for flags in [0, 0b001, 0b100] {
        device.flags = flags;
        assert_eq!(device.prove(&known), Err(PasskeyRefusal::NotVerified));
        assert_eq!(device.register(), Err(PasskeyRefusal::NotVerified));
    }
}

#[test]
fn an_answer_to_the_other_ceremony_is_not_taken() {
    let device = Device::es256();
    let known = device.register().unwrap();
    let answer = device.answer("webauthn.create", ASKED.challenge, &known);
    assert_eq!(answer, Err(PasskeyRefusal::OtherCeremony));
    let client_data = device.client_data("webauthn.get", ASKED.challenge);
    let made = attestation(
        "none",
        &device.authenticator_data(Some(&device.key())),
        &[0xa0],
    );
    let made = device.register_with(&client_data, &made);
    assert_eq!(made, Err(PasskeyRefusal::OtherCeremony));
}

#[test]
fn another_key_under_a_known_name_proves_nothing() {
    for (device, other) in Device::all().into_iter().zip(Device::all()) {
        let known = device.register().unwrap();
        assert_eq!(other.prove(&known), Err(PasskeyRefusal::BadSignature));
    }
}

#[test]
fn a_copy_of_a_passkey_is_known_by_its_count() {
    let mut device = Device::es256();
    device.count = 5;
    let known = device.register().unwrap();
    for (count, answer) in [
        (6, Ok(6)),
        (u32::MAX, Ok(u32::MAX)),
        (5, Err(PasskeyRefusal::Copied)),
        (4, Err(PasskeyRefusal::Copied)),
        // One that stops to count is no reason to stop to look.
        (0, Err(PasskeyRefusal::Copied)),
    ] {
        device.count = count;
        assert_eq!(device.prove(&known), answer, "{count}");
    }
    device.count = 1;
    let never_counted = Passkey { count: 0, ..known };
    assert_eq!(device.prove(&never_counted), Ok(1));
}

#[test]
fn a_passkey_that_was_bound_to_its_device_is_not_suddenly_synced() {
    let mut device = Device::es256();
    let known = device.register().unwrap();
    device.flags = HELD | ELIGIBLE;
    assert_eq!(device.prove(&known), Err(PasskeyRefusal::Changed));
    let synced = device.register().unwrap();
    assert!(synced.synced);
    assert_eq!(device.prove(&synced), Ok(0));
    // Backed up and not to be backed up cannot both be.
    device.flags = HELD | BACKED_UP;
    assert_eq!(device.register(), Err(PasskeyRefusal::Changed));
}

#[test]
fn an_attestation_that_was_not_asked_for_is_not_taken_unchecked() {
    let device = Device::es256();
    let client_data = device.client_data("webauthn.create", ASKED.challenge);
    let authenticator_data = device.authenticator_data(Some(&device.key()));
    let hash = digest(&SHA256, &client_data);
    let signature = device.sign(&[&authenticator_data, hash.as_ref()].concat());
    let with = |format: &str, statement: &[u8]| {
        device.register_with(
            &client_data,
            &attestation(format, &authenticator_data, statement),
        )
    };
    assert!(with("packed", &packed(-7, &signature)).is_ok());
    let other = Device::es256().sign(&authenticator_data);
    for (format, statement) in [
        ("packed", packed(-7, &other)),
        ("packed", packed(-257, &signature)),
        ("packed", vec![0xa0]),
        ("fido-u2f", packed(-7, &signature)),
        ("tpm", vec![0xa0]),
        ("none", packed(-7, &signature)),
    ] {
        assert_eq!(
            with(format, &statement),
            Err(PasskeyRefusal::Attestation),
            "{format}"
        );
    }
}

#[test]
fn a_key_that_is_none_or_of_another_algorithm_is_not_taken() {
    let device = Device::es256();
    let client_data = device.client_data("webauthn.create", ASKED.challenge);
    let with = |key: &[u8]| {
        let made = attestation("none", &device.authenticator_data(Some(key)), &[0xa0]);
        device.register_with(&client_data, &made)
    };
    let malformed = Err(PasskeyRefusal::Malformed("the key"));
    let point = [9; 32];
    // Not on the curve; the point at infinity; half a point.
    assert_eq!(with(&ec_key(2, -7, 1, &point, Some(&point))), malformed);
    assert_eq!(with(&ec_key(2, -7, 1, &[0; 32], Some(&[0; 32]))), malformed);
    assert_eq!(with(&ec_key(2, -7, 1, &point, None)), malformed);
    // A key of one kind under the algorithm of another.
    assert_eq!(with(&ec_key(1, -7, 6, &point, None)), malformed);
    assert_eq!(with(&ec_key(2, -8, 1, &point, Some(&point))), malformed);
    for algorithm in [-35, -47, -65_535, 0, 5] {
        let key = ec_key(2, algorithm, 1, &point, Some(&point));
        assert_eq!(with(&key), Err(PasskeyRefusal::Algorithm), "{algorithm}");
    }
    // An algorithm that is said twice is a choice for the attacker.
    let mut twice = device.key();
    twice[0] += 1;
    integer(&mut twice, 3);
    integer(&mut twice, -8);
    assert_eq!(with(&twice), malformed);
    // RSA too short to stand for years.
    for bytes in [128, 255, 513] {
        let mut key = Vec::new();
        cbor::head(&mut key, 5, 4);
        for (label, value) in [(1, 3), (3, -257)] {
            integer(&mut key, label);
            integer(&mut key, value);
        }
        integer(&mut key, -1);
        cbor::bytes(&mut key, &vec![0xff; bytes]);
        integer(&mut key, -2);
        cbor::bytes(&mut key, &[1, 0, 1]);
        assert_eq!(with(&key), malformed, "{bytes}");
    }
}

#[test]
fn names_of_passkeys_are_bounded_and_promises_of_length_are_not_followed() {
    let mut device = Device::es256();
    device.credential = vec![1; CREDENTIAL_BYTES_MAX];
    assert!(device.register().is_ok());
    let malformed = Err(PasskeyRefusal::Malformed("the authenticator's part"));
    for length in [0, CREDENTIAL_BYTES_MAX + 1] {
        device.credential = vec![1; length];
        assert_eq!(device.register(), malformed);
    }
    let device = Device::es256();
    let client_data = device.client_data("webauthn.create", ASKED.challenge);
    let mut long = device.authenticator_data(Some(&device.key()));
    long.push(0);
    let made = device.register_with(&client_data, &attestation("none", &long, &[0xa0]));
    assert_eq!(made, malformed);
    let mut promise = device.authenticator_data(None);
    promise[32] |= ATTESTED;
    promise.extend([0; 16]);
    promise.extend([0xff, 0xff, 1]);
    let made = device.register_with(&client_data, &attestation("none", &promise, &[0xa0]));
    assert_eq!(made, malformed);
    let huge = device.register_with(&client_data, &[0; 9000]);
    assert_eq!(huge, Err(PasskeyRefusal::Malformed("the attestation")));
    let deep = device.register_with(&client_data, &[0x81; 4000]);
    assert_eq!(deep, Err(PasskeyRefusal::Malformed("the attestation")));
}

proptest! {
    #[test]
    fn no_bytes_make_it_fail_and_no_bent_answer_is_taken(at in 0_usize..4096, bit in 0_u8..8, noise in prop::collection::vec(any::<u8>(), 0..600)) {
        let device = Device::es256();
        let known = device.register().unwrap();
        let mut client_data = device.client_data("webauthn.get", ASKED.challenge);
        let mut authenticator_data = device.authenticator_data(None);
        let hash = digest(&SHA256, &client_data);
        let signature = device.sign(&[&authenticator_data, hash.as_ref()].concat());
        let all = client_data.len() + authenticator_data.len();
        let at = at % all;
        match at.checked_sub(client_data.len()) {
            None => client_data[at] ^= 1 << bit,
            Some(at) => authenticator_data[at] ^= 1 << bit,
        }
        let used = Used { client_data: &client_data, authenticator_data: &authenticator_data, signature: &signature };
        prop_assert!(prove(&ASKED, &known, &used).is_err());
        let client_data = device.client_data("webauthn.create", ASKED.challenge);
        for client_data in [&client_data, &noise] {
            let made = Made { client_data, attestation: &noise };
            prop_assert!(register(&ASKED, &made).is_err());
        }
        let used = Used { client_data: &client_data, authenticator_data: &noise, signature: &noise };
        prop_assert!(prove(&ASKED, &known, &used).is_err());
    }
}
