//! Passkeys at the door for people: an authenticator in software, and what does not sign in.

use crate::http::Answer;
use crate::people::Asker;
use crate::plane::{Home, Plane, Settings};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

const PASSKEYS: &str = "/api/v1/access/passkeys";
const QUESTION: &str = "/api/v1/access/sign-in/challenges";
const BY_PASSKEY: &str = "/api/v1/access/sign-in/passkey";
const TOKENS: &str = "/api/v1/access/tokens";
/// Present and verified.
const HELD: u8 = 0b101;
const ATTESTED: u8 = 1 << 6;

struct Authenticator {
    pair: EcdsaKeyPair,
    credential: Vec<u8>,
    count: u32,
    origin: String,
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Authenticator {
    fn new(plane: &Plane, name: u8) -> Self {
        Self {
            pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap(),
            credential: vec![name; 32],
            count: 1,
            origin: format!("https://localhost:{}", plane.people.port()),
        }
    }

    fn client_data(&self, ceremony: &str, challenge: &Value) -> Vec<u8> {
        let data = json!({ "type": ceremony, "challenge": challenge, "origin": self.origin });
        data.to_string().into_bytes()
    }

    fn authenticator_data(&self, flags: u8) -> Vec<u8> {
        let site = digest(&SHA256, b"localhost");
        [site.as_ref(), &[flags], &self.count.to_be_bytes()].concat()
    }

    fn made(&self, challenge: &Value) -> Value {
        let mut authenticator_data = self.authenticator_data(HELD | ATTESTED);
        authenticator_data.extend([0; 16]);
        authenticator_data.extend([0, 32]);
        authenticator_data.extend(&self.credential);
        // EC2, ES256, P-256.
        authenticator_data.extend([0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01]);
        let point = self.pair.public_key().as_ref();
        for (label, coordinate) in [(0x21, &point[1..33]), (0x22, &point[33..65])] {
            authenticator_data.push(label);
            cbor::bytes(&mut authenticator_data, coordinate);
        }
        let mut attestation = Vec::new();
        cbor::head(&mut attestation, 5, 3);
        cbor::text(&mut attestation, "fmt");
        cbor::text(&mut attestation, "none");
        cbor::text(&mut attestation, "attStmt");
        cbor::head(&mut attestation, 5, 0);
        cbor::text(&mut attestation, "authData");
        cbor::bytes(&mut attestation, &authenticator_data);
        json!({
            "challenge": challenge, "client_data": text(&self.client_data("webauthn.create", challenge)),
            "attestation": text(&attestation), "note": "laptop",
        })
    }

    fn used(&mut self, challenge: &Value) -> Value {
        self.count += 1;
        let client_data = self.client_data("webauthn.get", challenge);
        let authenticator_data = self.authenticator_data(HELD);
        let hash = digest(&SHA256, &client_data);
        let signed = [&authenticator_data, hash.as_ref()].concat();
        let signature = self.pair.sign(&SystemRandom::new(), &signed).unwrap();
        json!({
            "challenge": challenge, "credential": text(&self.credential),
            "client_data": text(&client_data), "authenticator_data": text(&authenticator_data),
            "signature": text(signature.as_ref()),
        })
    }

    fn register(&self, asker: &Asker<'_>) -> Answer {
        let offer = asker.post(&format!("{PASSKEYS}/challenges"), &json!({}));
        let offer = offer.expect(200).json();
        assert_eq!(offer["relying_party"], "localhost");
        asker.post(PASSKEYS, &self.made(&offer["challenge"]))
    }

    fn sign_in(&mut self, asker: &mut Asker<'_>) -> Answer {
        let asked = asker.post(QUESTION, &json!({})).expect(200).json();
        let answer = self.used(&asked["challenge"]);
        asker.sign_in(BY_PASSKEY, &answer)
    }
}

#[track_caller]
fn refused(answer: Answer, code: &str) {
    let text = answer.text();
    assert_eq!(answer.expect(409).json()["code"], code, "{text}");
}

fn token() -> Value {
    json!({ "note": "ci", "roles": ["viewer"], "days": 1 })
}

#[test]
fn a_passkey_signs_in_and_a_link_alone_is_no_fresh_proof_any_more() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let mut first = Asker::first(&home, &plane);
    let ways = Asker::stranger(&plane).get("/api/v1/access/sign-in");
    assert_eq!(
        ways.expect(200).json(),
        json!({ "passkey": true, "provider": null })
    );
    first.post(TOKENS, &token()).expect(201);
    let mut own = Authenticator::new(&plane, 1);
    let added = own.register(&first).expect(201).json();
    assert_eq!(added["passkey"]["note"], "laptop");
    let who = first.who();
    assert_eq!(
        (&who["has_passkey"], &who["fresh_until"]),
        (&json!(true), &Value::Null)
    );
    // Whoever has the cookie or read the link has not the passkey.
    let stolen = first.copy();
    for answer in [first.post(TOKENS, &token()), own.register_again(&first)] {
        assert_eq!(answer.expect(403).json()["code"], "fresh-proof-needed");
    }
    let asked = first.post(QUESTION, &json!({})).expect(200).json();
    assert_eq!(asked["passkeys"], json!([text(&own.credential)]));
    own.sign_in(&mut first).expect(204);
    assert_eq!(first.who()["signed_in_by"], "passkey");
    first.post(TOKENS, &token()).expect(201);
    // The session that it took the place of is over.
    stolen.get(PASSKEYS).expect(401);

    // Somebody of whom nothing is known yet is who the passkey says.
    let mut other = Asker::stranger(&plane);
    let asked = other.post(QUESTION, &json!({})).expect(200).json();
    assert_eq!(asked["passkeys"], json!([]));
    own.sign_in(&mut other).expect(204);
    assert_eq!(other.who()["actor"], first.who()["actor"]);
    drop((first, other, stolen));
    plane.stop_well();
    let plane = home.start();
    own.origin = format!("https://localhost:{}", plane.people.port());
    let mut again = Asker::stranger(&plane);
    own.sign_in(&mut again).expect(204);
    let used = again.get(PASSKEYS).expect(200).json();
    assert!(used[0]["used_at"].is_string(), "{used}");
    let entries = plane.entries();
    let added = entries
        .iter()
        .filter(|one| one["action"] == "access.passkey-added");
    assert_eq!(added.count(), 1);
    let by_passkey =
        |one: &&Value| one["action"] == "access.signed-in" && one["details"]["by"] == "passkey";
    assert_eq!(entries.iter().filter(by_passkey).count(), 3);
}

impl Authenticator {
    /// By whoever is not asked for a challenge any more.
    fn register_again(&self, asker: &Asker<'_>) -> Answer {
        asker.post(PASSKEYS, &self.made(&json!("AAAA")))
    }
}

#[test]
fn a_recorded_a_borrowed_and_a_copied_answer_sign_nobody_in() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let mut first = Asker::first(&home, &plane);
    let (_, ada) = first.invite(&["viewer"]);
    let mut own = Authenticator::new(&plane, 1);
    // What one session was offered is no answer in another.
    let offer = ada.post(&format!("{PASSKEYS}/challenges"), &json!({}));
    let borrowed = own.made(&offer.expect(200).json()["challenge"]);
    refused(first.post(PASSKEYS, &borrowed), "passkey-other-challenge");
    own.register(&first).expect(201);
    let twice = Authenticator::new(&plane, 1);
    refused(twice.register(&ada), "passkey-known");

    let mut stranger = Asker::stranger(&plane);
    let asked = stranger.post(QUESTION, &json!({})).expect(200).json();
    let answer = own.used(&asked["challenge"]);
    stranger.sign_in(BY_PASSKEY, &answer).expect(204);
    let mut thief = Asker::stranger(&plane);
    let replayed = thief.sign_in(BY_PASSKEY, &answer);
    assert!(
        ["passkey-other-challenge", "passkey-copied"]
            .contains(&replayed.expect(409).json()["code"].as_str().unwrap())
    );
    own.count = 1;
    refused(own.sign_in(&mut thief), "passkey-copied");
    own.count = 9;
    let made_up = own.used(&json!(text(&[7; 64])));
    refused(
        thief.sign_in(BY_PASSKEY, &made_up),
        "passkey-other-challenge",
    );
    let mut nobody = Authenticator::new(&plane, 2);
    refused(nobody.sign_in(&mut thief), "passkey-unknown");
    nobody.credential.clone_from(&own.credential);
    nobody.count = 20;
    refused(nobody.sign_in(&mut thief), "passkey-bad-signature");
    let origin = std::mem::replace(&mut own.origin, "https://localhost:1".into());
    refused(own.sign_in(&mut thief), "passkey-other-origin");
    own.origin = origin;
    // Somebody else's session does not become theirs.
    let mut ada = ada;
    refused(own.sign_in(&mut ada), "another-person");
    own.sign_in(&mut first).expect(204);

    // Each of them stands where whoever can help looks, and no secret does.
    let told = first.get("/api/v1/access/sign-in/refusals").expect(200);
    let codes: Vec<Value> = (told.json().as_array().unwrap().iter())
        .map(|one| one["code"].clone())
        .collect();
    assert!(codes.contains(&json!("passkey-other-origin")), "{codes:?}");
    assert_eq!(told.json()[0]["from"], "127.0.0.1");
    ada.get("/api/v1/access/sign-in/refusals").expect(403);
}

#[test]
fn a_passkey_that_was_taken_away_opens_nothing_nor_does_one_of_whom_was_let_in_no_more() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let first = Asker::first(&home, &plane);
    let (id, mut ada) = first.invite(&["viewer"]);
    let (mut lost, mut kept) = (Authenticator::new(&plane, 1), Authenticator::new(&plane, 2));
    let added = lost.register(&ada).expect(201).json();
    let name = added["passkey"]["passkey"].as_str().unwrap().to_owned();
    lost.sign_in(&mut ada).expect(204);
    kept.register(&ada).expect(201);
    let people = first.get("/api/v1/access/people").expect(200).json();
    assert_eq!(people[2]["passkeys"].as_array().unwrap().len(), 2);
    ada.delete(&format!("{PASSKEYS}/k-0000000000")).expect(404);
    // By an administrator, and the machine: whoever lost theirs cannot prove anything.
    let path = format!("/api/v1/access/people/{id}/passkeys/{name}");
    first.delete(&path).expect(200);
    ada.get(PASSKEYS).expect(401);
    let mut thief = Asker::stranger(&plane);
    refused(lost.sign_in(&mut thief), "passkey-unknown");
    kept.sign_in(&mut ada).expect(204);
    let own = ada.get(PASSKEYS).expect(200).json();
    let kept_name = own[0]["passkey"].as_str().unwrap();
    ada.delete(&format!("{PASSKEYS}/{kept_name}")).expect(200);
    // It was their own act: they stay signed in.
    assert_eq!(ada.get(PASSKEYS).expect(200).json(), json!([]));
    kept.register(&ada).expect(201);
    first
        .delete(&format!("/api/v1/access/people/{id}"))
        .expect(200);
    refused(kept.sign_in(&mut thief), "passkey-unknown");
    drop((first, ada, thief));
    plane.stop_well();
    let plane = home.start();
    kept.origin = format!("https://localhost:{}", plane.people.port());
    let mut thief = Asker::stranger(&plane);
    refused(kept.sign_in(&mut thief), "passkey-unknown");
    let entries = plane.entries();
    let removed = entries
        .iter()
        .filter(|one| one["action"] == "access.passkey-removed");
    assert_eq!(removed.count(), 2);
}

#[test]
fn a_console_that_is_reached_by_an_address_makes_no_passkeys_and_says_why() {
    let more = "[access]\nconsole_url = \"https://127.0.0.1:8443\"\n".to_owned();
    let home = Home::new(&Settings {
        more,
        ..Settings::default()
    });
    let plane = home.start_prepared();
    let stranger = Asker::stranger(&plane);
    let ways = stranger.get("/api/v1/access/sign-in").expect(200).json();
    assert_eq!(ways["passkey"], false);
    refused(stranger.post(QUESTION, &json!({})), "passkeys-need-a-name");
    let begun = stranger.post("/api/v1/access/sign-in/provider", &json!({}));
    assert_eq!(begun.expect(404).json()["code"], "no-provider");
    // A program has no passkeys, and a stranger none of anybody's.
    stranger.get(PASSKEYS).expect(401);
    stranger.post(PASSKEYS, &json!({})).expect(401);
    plane.post(PASSKEYS, &json!({})).expect(403);
}
