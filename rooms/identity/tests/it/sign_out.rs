//! Sign-outs that a provider tells of, and each attack on them by its name.

use crate::id_token::{self, ASKED, NOW, Provider};
use identity::person::id_token::{IdTokenRefusal, verify as verify_id_token};
use identity::person::sign_out::{Asked, SignedOut, verify};
use model::Timestamp;
use serde_json::{Value, json};

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

fn asked() -> Asked<'static> {
    Asked {
        issuer: ASKED.issuer,
        client: ASKED.client,
        now: Timestamp::from_seconds(NOW),
    }
}

/// With these claims in place of the good ones; `null` takes one away.
fn word(other: Value) -> Value {
    let mut claims = json!({
        "iss": ASKED.issuer, "aud": ASKED.client, "iat": NOW, "exp": NOW + 120, "jti": "w-1",
        "sub": "248289761001", "sid": "s-1", "events": { EVENT: {} },
    });
    for (name, value) in other.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

fn told_as(header: &Value, claims: &Value) -> Result<SignedOut, IdTokenRefusal> {
    let provider = Provider::new();
    verify(&provider.sign(header, claims), &provider.keys(), &asked())
}

fn told(other: Value) -> Result<SignedOut, IdTokenRefusal> {
    let header = json!({ "alg": "ES256", "kid": "ec", "typ": "logout+jwt" });
    told_as(&header, &word(other))
}

#[test]
fn a_sign_out_is_of_one_session_or_of_all_that_somebody_has() {
    let both = told(json!({})).unwrap();
    assert_eq!(both.id(), "w-1");
    assert_eq!(both.subject(), Some("248289761001"));
    let subject = told(json!({ "sid": null })).unwrap();
    let session = told(json!({ "sub": null })).unwrap();
    assert_eq!(session.subject(), None);
    // Whose it is, what the provider called it, and which of the three end it.
    for (theirs, name, ended) in [
        (true, Some("s-1"), [true, true, true]),
        (true, Some("s-2"), [false, true, false]),
        // The provider never said what it calls the session: then who has it decides.
        (true, None, [true, true, false]),
        // The same name and somebody else is not the session that is meant.
        (false, Some("s-1"), [false, false, true]),
        (false, Some("s-2"), [false, false, false]),
        (false, None, [false, false, false]),
    ] {
        let found = [&both, &subject, &session].map(|over| over.ends(theirs, name));
        assert_eq!(found, ended, "{theirs} {name:?}");
    }
    for header in [
        json!({ "alg": "ES256" }),
        json!({ "alg": "RS256", "kid": "rsa", "typ": "JWT" }),
        json!({ "alg": "ES256", "kid": "ec", "typ": "LOGOUT+JWT" }),
    ] {
        assert!(told_as(&header, &word(json!({}))).is_ok(), "{header}");
    }
}

#[test]
fn an_id_token_signs_nobody_out_and_a_sign_out_nobody_in() {
    let provider = Provider::new();
    for typ in [json!("JWT"), Value::Null] {
        let header = json!({ "alg": "ES256", "kid": "ec", "typ": typ });
        let id_token = provider.sign(&header, &id_token::claims(json!({})));
        assert_eq!(
            verify(&id_token, &provider.keys(), &asked()),
            Err(IdTokenRefusal::OtherKind)
        );
        let word = provider.sign(&header, &word(json!({})));
        assert_eq!(
            verify_id_token(&word, &provider.keys(), &ASKED),
            Err(IdTokenRefusal::OtherNonce)
        );
    }
    let kind = Err(IdTokenRefusal::OtherKind);
    for typ in ["at+jwt", "secevent+jwt", ""] {
        let header = json!({ "alg": "ES256", "kid": "ec", "typ": typ });
        assert_eq!(told_as(&header, &word(json!({}))), kind, "{typ}");
    }
    for events in [
        Value::Null,
        json!({}),
        json!(EVENT),
        json!([EVENT]),
        json!({ EVENT: true }),
        json!({ "http://schemas.openid.net/event/other": {} }),
    ] {
        assert_eq!(told(json!({ "events": events })), kind, "{events}");
    }
    // Also one that says nothing.
    for nonce in [json!("n-0S6_WzA2Mj"), json!("")] {
        assert_eq!(told(json!({ "nonce": nonce })), kind);
    }
}

#[test]
fn a_sign_out_of_another_provider_or_to_another_client_is_refused() {
    let issuer = told(json!({ "iss": "https://evil.example" }));
    assert_eq!(issuer, Err(IdTokenRefusal::OtherIssuer));
    for other in [json!("other"), json!(["other"]), Value::Null] {
        let told = told(json!({ "aud": other }));
        assert_eq!(told, Err(IdTokenRefusal::OtherAudience));
    }
    let stranger = Provider::new().sign(&json!({ "alg": "ES256", "kid": "ec" }), &word(json!({})));
    assert_eq!(
        verify(&stranger, &Provider::new().keys(), &asked()),
        Err(IdTokenRefusal::BadSignature)
    );
    let unsigned = told_as(&json!({ "alg": "none" }), &word(json!({})));
    assert_eq!(unsigned, Err(IdTokenRefusal::Algorithm));
}

#[test]
fn a_sign_out_that_lay_about_is_not_taken() {
    let expired = Err(IdTokenRefusal::Expired);
    for old in [
        json!({ "exp": NOW - 60 }),
        json!({ "iat": NOW - 180, "exp": NOW + 3600 }),
    ] {
        assert_eq!(told(old.clone()), expired, "{old}");
    }
    assert!(told(json!({ "iat": NOW - 179 })).is_ok());
    assert!(told(json!({ "iat": NOW + 60 })).is_ok());
    let early = told(json!({ "iat": NOW + 61 }));
    assert_eq!(early, Err(IdTokenRefusal::NotYet));
    let malformed = Err(IdTokenRefusal::Malformed("the token"));
    for other in [
        json!({ "exp": null }),
        json!({ "iat": null }),
        json!({ "jti": null }),
        json!({ "jti": "" }),
        json!({ "sub": null, "sid": null }),
        json!({ "sub": 7 }),
        json!({ "sub": "" }),
        json!({ "sid": "x".repeat(256) }),
    ] {
        assert_eq!(told(other.clone()), malformed, "{other}");
    }
}
