use super::heard::Over;
use super::*;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use identity::person::provider::Keys;
use identity::person::sign_out;
use serde_json::{Value, json};

const BEGUN: Timestamp = Timestamp::from_seconds(1_000_000);

fn later(seconds: u64) -> Timestamp {
    BEGUN.plus(Duration::from_secs(seconds))
}

fn subject(name: &str) -> Digest {
    digest(name.as_bytes())
}

/// The provider's word, signed and read.
fn over(who: Option<&str>, session: Option<&str>, now: Timestamp) -> Over {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let point = pair.public_key().as_ref();
    let keys = json!({ "keys": [{
        "kty": "EC", "crv": "P-256", "kid": "k", "use": "sig", "alg": "ES256",
        "x": text(&point[1..33]), "y": text(&point[33..65]),
    }] });
    let mut claims = json!({
        "iss": "https://id.example", "aud": "fleetward", "jti": "j",
        "iat": now.as_seconds(), "exp": now.as_seconds() + 120,
        "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
    });
    for (claim, value) in [("sub", who), ("sid", session)] {
        if let Some(value) = value {
            claims[claim] = value.into();
        }
    }
    let part = |value: &Value| text(value.to_string().as_bytes());
    let signed = format!(
        "{}.{}",
        part(&json!({ "alg": "ES256", "kid": "k" })),
        part(&claims)
    );
    let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    let asked = sign_out::Asked {
        issuer: "https://id.example",
        client: "fleetward",
        now,
    };
    let keys = Keys::read(keys.to_string().as_bytes()).unwrap();
    let token = format!("{signed}.{}", text(signature.as_ref()));
    Over {
        word: sign_out::verify(&token, &keys, &asked).unwrap(),
        subject: who.map(subject),
    }
}

/// Of Ada, in her session `s-1` at the provider.
fn session(name: &str, way: Way, begun_at: Timestamp) -> Session {
    Session {
        person: PersonId::new("ada").unwrap(),
        name: name.to_owned(),
        way,
        proven_at: begun_at,
        expires_at: begun_at.plus(SESSION_LIFETIME),
        at_provider: Some(Arc::new(AtProvider {
            begun_at,
            subject: subject("ada"),
            session: Some("s-1".to_owned()),
            token: Zeroizing::default(),
        })),
    }
}

#[test]
fn a_sign_out_ends_a_sign_in_that_is_under_way_whichever_comes_first() {
    let hers = [
        (Some("ada"), Some("s-1")),
        (Some("ada"), None),
        (None, Some("s-1")),
    ];
    let others = [
        (Some("grace"), None),
        (Some("grace"), Some("s-1")),
        (Some("ada"), Some("s-2")),
        (None, Some("s-2")),
    ];
    let all = hers.map(|word| (word, true)).into_iter();
    for ((who, at_provider), is_hers) in all.chain(others.map(|word| (word, false))) {
        let word = || over(who, at_provider, later(5));
        let case = format!("{who:?} {at_provider:?}");
        // The word before the session.
        let sign_ins = SignIns::new().unwrap();
        assert!(sign_ins.hear(word(), later(5)).is_empty());
        let opened = sign_ins.open("c", session("x", Way::Provider, BEGUN), None, later(6));
        assert_eq!(opened, !is_hers, "{case}");
        assert_eq!(sign_ins.find("c", later(7)).is_none(), is_hers, "{case}");
        // The session before the word.
        let sign_ins = SignIns::new().unwrap();
        assert!(sign_ins.open("c", session("x", Way::Provider, BEGUN), None, later(4)));
        assert_eq!(
            sign_ins.hear(word(), later(5)).len(),
            usize::from(is_hers),
            "{case}"
        );
        assert_eq!(sign_ins.find("c", later(7)).is_none(), is_hers, "{case}");
    }
}

#[test]
fn whoever_begins_after_the_sign_out_was_heard_is_let_in() {
    let sign_ins = SignIns::new().unwrap();
    sign_ins.hear(over(Some("ada"), None, later(5)), later(5));
    let open = |begun_at| {
        let session = session("x", Way::Provider, begun_at);
        sign_ins.open("c", session, None, later(20))
    };
    // In the same instant nobody can tell.
    assert!(!open(later(5)));
    assert!(open(later(6)));
    // Forgotten words may have been about whoever began before them, and about nobody who began since.
    sign_ins.hear(over(Some("grace"), None, later(5000)), later(5000));
    assert!(!open(later(5)));
    assert!(open(later(6)));
    // A clock that was put back keeps nobody out who begins after it was.
    sign_ins.hear(over(Some("grace"), None, later(9000)), later(9000));
    assert!(!open(later(3)));
    let session = session("x", Way::Provider, later(21));
    assert!(sign_ins.open("c", session, None, later(22)));
}

#[test]
fn a_passkey_does_not_prolong_a_session_that_ended_while_it_was_asked_for() {
    let before = session("before", Way::Provider, BEGUN);
    let next = || session("next", Way::Passkey, BEGUN);
    for ends in [false, true] {
        let sign_ins = SignIns::new().unwrap();
        assert!(sign_ins.open("c", before.clone(), None, later(1)));
        if ends {
            let word = over(Some("ada"), Some("s-1"), later(3600));
            assert_eq!(sign_ins.hear(word, later(3600)).len(), 1);
        }
        let opened = sign_ins.open("d", next(), Some(&before), later(3601));
        assert_eq!(opened, !ends);
        assert!(sign_ins.find("c", later(3602)).is_none());
        assert_eq!(sign_ins.find("d", later(3602)).is_some(), !ends);
    }
    let sign_ins = SignIns::new().unwrap();
    assert!(sign_ins.open("c", before.clone(), None, later(1)));
    sign_ins.close("before");
    assert!(!sign_ins.open("d", next(), Some(&before), later(2)));
}
