//! ID tokens of a provider, and each attack on them by its name.

use crate::support::rsa_parts;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use aws_lc_rs::{hmac, signature::EcdsaSigningAlgorithm};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use identity::person::id_token::{Asked, IdTokenRefusal, verify};
use identity::person::provider::Keys;
use model::Timestamp;
use serde_json::{Value, json};

pub const NOW: u64 = 1_800_000_000;
pub const ASKED: Asked<'static> = Asked {
    issuer: "https://login.example.com",
    client: "fleetward",
    nonce: "n-0S6_WzA2Mj",
    now: Timestamp::from_seconds(NOW),
    proven_since: None,
    groups_claim: "groups",
};

pub struct Provider {
    ec: EcdsaKeyPair,
    rsa: RsaKeyPair,
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Provider {
    pub fn new() -> Self {
        let algorithm: &'static EcdsaSigningAlgorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        Self {
            ec: EcdsaKeyPair::generate(algorithm).unwrap(),
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
        }
    }

    fn rsa_public(&self) -> (Vec<u8>, Vec<u8>) {
        rsa_parts(self.rsa.public_key().as_ref())
    }

    fn jwks(&self) -> Value {
        let point = self.ec.public_key().as_ref();
        let (n, e) = self.rsa_public();
        json!({ "keys": [
            { "kty": "EC", "crv": "P-256", "kid": "ec", "use": "sig", "alg": "ES256",
              "x": text(&point[1..33]), "y": text(&point[33..65]) },
            { "kty": "RSA", "kid": "rsa", "use": "sig", "n": text(&n), "e": text(&e) },
            { "kty": "OKP", "crv": "Ed25519", "kid": "other", "x": "AA" },
            { "kty": "RSA", "kid": "enc", "use": "enc", "n": text(&n), "e": text(&e) },
        ] })
    }

    pub fn keys(&self) -> Keys {
        Keys::read(self.jwks().to_string().as_bytes()).unwrap()
    }

    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = format!(
            "{}.{}",
            text(header.to_string().as_bytes()),
            text(claims.to_string().as_bytes())
        );
        let random = SystemRandom::new();
        let signature = if header["alg"] == "ES256" {
            let signature = self.ec.sign(&random, signed.as_bytes()).unwrap();
            signature.as_ref().to_vec()
        } else {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa
                .sign(
                    &RSA_PKCS1_SHA256,
                    &random,
                    signed.as_bytes(),
                    &mut signature,
                )
                .unwrap();
            signature
        };
        format!("{signed}.{}", text(&signature))
    }

    /// With these claims in place of the good ones; `null` takes one away.
    fn token(&self, other: Value) -> String {
        self.sign(&json!({ "alg": "ES256", "kid": "ec" }), &claims(other))
    }

    fn ask(&self, other: Value) -> Result<(), IdTokenRefusal> {
        verify(&self.token(other), &self.keys(), &ASKED).map(drop)
    }
}

pub fn claims(other: Value) -> Value {
    let mut claims = json!({
        "iss": ASKED.issuer, "sub": "248289761001", "aud": ASKED.client, "nonce": ASKED.nonce,
        "exp": NOW + 300, "iat": NOW, "auth_time": NOW - 10,
        "name": "Ada Lovelace", "groups": ["fleet-operators", "staff"],
    });
    for (name, value) in other.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

#[test]
fn a_token_of_either_algorithm_tells_who_signed_in() {
    let provider = Provider::new();
    for (alg, kid) in [("ES256", "ec"), ("RS256", "rsa")] {
        for header in [
            json!({ "alg": alg, "kid": kid, "typ": "JWT" }),
            json!({ "alg": alg }),
        ] {
            let token = provider.sign(&header, &claims(json!({})));
            let known = verify(&token, &provider.keys(), &ASKED).unwrap();
            assert_eq!(known.subject(), "248289761001");
            assert_eq!(known.name(), "Ada Lovelace");
            assert_eq!(known.groups(), ["fleet-operators", "staff"]);
            assert_eq!(known.proven_at(), Some(Timestamp::from_seconds(NOW - 10)));
            assert_eq!(known.session(), None);
        }
    }
}

#[test]
fn a_token_without_a_signature_is_none() {
    let provider = Provider::new();
    for alg in ["none", "None", "NONE", ""] {
        let header = text(json!({ "alg": alg, "kid": "ec" }).to_string().as_bytes());
        let body = text(claims(json!({})).to_string().as_bytes());
        let token = format!("{header}.{body}.");
        let refused = verify(&token, &provider.keys(), &ASKED);
        assert_eq!(refused, Err(IdTokenRefusal::Algorithm), "{alg}");
    }
}

#[test]
fn the_public_key_is_no_shared_secret_of_hs256() {
    let provider = Provider::new();
    let (modulus, _) = provider.rsa_public();
    for secret in [&modulus[..], provider.jwks().to_string().as_bytes()] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        for kid in ["rsa", "ec"] {
            let header = json!({ "alg": "HS256", "kid": kid });
            let signed = format!(
                "{}.{}",
                text(header.to_string().as_bytes()),
                text(claims(json!({})).to_string().as_bytes())
            );
            let tag = hmac::sign(&key, signed.as_bytes());
            let token = format!("{signed}.{}", text(tag.as_ref()));
            let refused = verify(&token, &provider.keys(), &ASKED);
            assert_eq!(refused, Err(IdTokenRefusal::Algorithm));
        }
    }
}

#[test]
fn a_key_of_one_algorithm_is_not_asked_for_another() {
    let provider = Provider::new();
    for (alg, kid) in [("ES256", "rsa"), ("RS256", "ec")] {
        let token = provider.sign(&json!({ "alg": alg, "kid": kid }), &claims(json!({})));
        let refused = verify(&token, &provider.keys(), &ASKED);
        assert_eq!(refused, Err(IdTokenRefusal::Algorithm), "{alg} by {kid}");
    }
    // A key for encryption, one of another kind, one that is not there.
    for kid in ["enc", "other", "nobody"] {
        let token = provider.sign(&json!({ "alg": "RS256", "kid": kid }), &claims(json!({})));
        let refused = verify(&token, &provider.keys(), &ASKED);
        assert_eq!(refused, Err(IdTokenRefusal::UnknownKey), "{kid}");
    }
}

#[test]
fn a_token_of_another_providers_key_and_a_bent_one_do_not_hold() {
    let provider = Provider::new();
    let token = Provider::new().token(json!({}));
    assert_eq!(
        verify(&token, &provider.keys(), &ASKED),
        Err(IdTokenRefusal::BadSignature)
    );
    let token = provider.token(json!({}));
    let (header, rest) = token.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let others = text(claims(json!({ "sub": "root" })).to_string().as_bytes());
    let bent = format!("{header}.{others}.{signature}");
    assert_eq!(
        verify(&bent, &provider.keys(), &ASKED),
        Err(IdTokenRefusal::BadSignature)
    );
}

#[test]
fn a_token_of_another_issuer_is_refused() {
    let provider = Provider::new();
    for issuer in [
        json!("https://evil.example"),
        json!("https://login.example.com/"),
        json!("https://login.example.com.evil.example"),
        json!(["https://login.example.com"]),
        Value::Null,
    ] {
        let refused = provider.ask(json!({ "iss": issuer }));
        assert_eq!(refused, Err(IdTokenRefusal::OtherIssuer), "{issuer}");
    }
}

#[test]
fn a_token_for_another_client_is_refused() {
    let provider = Provider::new();
    for other in [
        json!({ "aud": "other" }),
        json!({ "aud": ["other"] }),
        json!({ "aud": null }),
        json!({ "aud": { "fleetward": true } }),
        // For others too, and nobody says that it is ours.
        json!({ "aud": ["fleetward", "other"] }),
        json!({ "aud": ["fleetward", "other"], "azp": "other" }),
        json!({ "azp": "other" }),
    ] {
        let refused = provider.ask(other.clone());
        assert_eq!(refused, Err(IdTokenRefusal::OtherAudience), "{other}");
    }
    assert_eq!(provider.ask(json!({ "aud": ["fleetward"] })), Ok(()));
    let named = json!({ "aud": ["fleetward", "other"], "azp": "fleetward" });
    assert_eq!(provider.ask(named), Ok(()));
}

#[test]
fn a_token_of_another_sign_in_is_refused() {
    let provider = Provider::new();
    for nonce in [json!("n-0S6_WzA2Mk"), json!(""), json!(7), Value::Null] {
        let refused = provider.ask(json!({ "nonce": nonce }));
        assert_eq!(refused, Err(IdTokenRefusal::OtherNonce), "{nonce}");
    }
    let none_asked = Asked { nonce: "", ..ASKED };
    let token = provider.token(json!({ "nonce": "" }));
    assert_eq!(
        verify(&token, &provider.keys(), &none_asked),
        Err(IdTokenRefusal::OtherNonce)
    );
}

#[test]
fn a_token_that_ended_or_lay_about_or_is_of_tomorrow_is_refused() {
    let provider = Provider::new();
    let expired = Err(IdTokenRefusal::Expired);
    assert_eq!(provider.ask(json!({ "exp": NOW - 60 })), expired);
    assert_eq!(provider.ask(json!({ "exp": NOW - 59 })), Ok(()));
    assert_eq!(
        provider.ask(json!({ "iat": NOW - 700, "exp": NOW + 3600 })),
        expired
    );
    assert_eq!(provider.ask(json!({ "iat": NOW + 60 })), Ok(()));
    let not_yet = Err(IdTokenRefusal::NotYet);
    assert_eq!(provider.ask(json!({ "iat": NOW + 61 })), not_yet);
    assert_eq!(provider.ask(json!({ "nbf": NOW + 61 })), not_yet);
    assert_eq!(provider.ask(json!({ "auth_time": NOW + 61 })), not_yet);
    let malformed = Err(IdTokenRefusal::Malformed("the token"));
    for other in [
        json!({ "exp": null }),
        json!({ "iat": null }),
        json!({ "exp": "1900000000" }),
        json!({ "exp": -1 }),
        json!({ "exp": 1e300 }),
        json!({ "sub": "" }),
        json!({ "sub": "x".repeat(256) }),
        json!({ "sub": 7 }),
    ] {
        assert_eq!(provider.ask(other.clone()), malformed, "{other}");
    }
    assert_eq!(provider.ask(json!({ "exp": NOW as f64 + 300.5 })), Ok(()));
}

#[test]
fn an_old_session_at_the_provider_is_no_fresh_proof() {
    let provider = Provider::new();
    let since = Some(Timestamp::from_seconds(NOW - 5));
    let asked = Asked {
        proven_since: since,
        ..ASKED
    };
    for (auth_time, answer) in [
        (json!(NOW - 3), Ok(())),
        (json!(NOW - 65), Ok(())),
        (json!(NOW - 66), Err(IdTokenRefusal::NotFresh)),
        (json!(NOW - 3600), Err(IdTokenRefusal::NotFresh)),
        (Value::Null, Err(IdTokenRefusal::NotFresh)),
    ] {
        let token = provider.token(json!({ "auth_time": auth_time }));
        assert_eq!(
            verify(&token, &provider.keys(), &asked).map(drop),
            answer,
            "{auth_time}"
        );
    }
}

#[test]
fn an_access_token_and_one_with_conditions_are_no_id_tokens() {
    let provider = Provider::new();
    for header in [
        json!({ "alg": "ES256", "kid": "ec", "typ": "at+jwt" }),
        json!({ "alg": "ES256", "kid": "ec", "typ": "logout+jwt" }),
        json!({ "alg": "ES256", "kid": "ec", "crit": ["b64"], "b64": false }),
    ] {
        let token = provider.sign(&header, &claims(json!({})));
        let refused = verify(&token, &provider.keys(), &ASKED);
        assert_eq!(refused, Err(IdTokenRefusal::OtherKind), "{header}");
    }
}

#[test]
fn groups_that_are_none_give_nothing() {
    let provider = Provider::new();
    for (groups, expected) in [
        (json!("one"), vec!["one"]),
        (json!(["a", 7, { "b": 1 }, null]), vec!["a"]),
        (json!({ "admin": true }), vec![]),
        (json!(7), vec![]),
        (Value::Null, vec![]),
    ] {
        let token = provider.token(json!({ "groups": groups }));
        let known = verify(&token, &provider.keys(), &ASKED).unwrap();
        assert_eq!(known.groups(), expected);
    }
}

#[test]
fn what_is_no_token_and_no_key_set_is_refused_without_a_fall() {
    let provider = Provider::new();
    let malformed = IdTokenRefusal::Malformed("the token");
    for token in [
        "",
        ".",
        "..",
        "...",
        "a.b",
        "a.b.c",
        "e30.e30.",
        &"x".repeat(40_000),
    ] {
        let refused = verify(token, &provider.keys(), &ASKED);
        assert_eq!(refused, Err(malformed), "{token}");
    }
    for keys in ["", "[]", "{}", r#"{"keys":{}}"#] {
        assert!(Keys::read(keys.as_bytes()).is_err(), "{keys}");
    }
    let none = Keys::read(br#"{"keys":[{},7,{"kty":"EC"},{"kty":"RSA","n":"","e":""}]}"#).unwrap();
    let refused = verify(&provider.token(json!({})), &none, &ASKED);
    assert_eq!(refused, Err(IdTokenRefusal::UnknownKey));
    let many = json!({ "keys": vec![json!({}); 65] }).to_string();
    assert!(Keys::read(many.as_bytes()).is_err());
}
