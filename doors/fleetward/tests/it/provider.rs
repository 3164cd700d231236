//! A provider of identities at the door for people, where no browser is: who signs in by it, and who
//! signed out there. A real provider and a real browser are in the console's tests.

use crate::http::Answer;
use crate::people::Asker;
use crate::plane::{Home, Plane, Settings, wait_until};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

const BEGIN: &str = "/api/v1/access/sign-in/provider";
const CODE: &str = "/api/v1/access/sign-in/provider/code";
const WORD: &str = "/api/v1/access/sign-in/provider/sign-out";
const WHO: &str = "/api/v1/access/whoami";
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// So that each word has a name of its own.
static WORDS: AtomicU64 = AtomicU64::new(0);

/// As much of one as a plane asks of it.
struct Provider {
    issuer: String,
    pair: EcdsaKeyPair,
    /// What the next code is traded for.
    next: Mutex<Value>,
    /// If somebody waits for it: it says that it was asked to trade a code, and answers once it may.
    pause: Mutex<Option<(SyncSender<()>, Receiver<()>)>>,
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap().as_secs()
}

impl Provider {
    /// Answers until the tests end.
    fn listen() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let provider = Arc::new(Self {
            issuer: format!("http://{}", listener.local_addr().unwrap()),
            pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            next: Mutex::default(),
            pause: Mutex::default(),
        });
        let own = Arc::clone(&provider);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = stream.and_then(|stream| own.answer(stream));
            }
        });
        provider
    }

    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(&stream);
        let (mut first, mut length) = (String::new(), 0);
        reader.read_line(&mut first)?;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let said = self.said(first.split(' ').nth(1).unwrap()).to_string();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
        let length = said.len();
        write!(&stream, "{head}Content-Length: {length}\r\n\r\n{said}")
    }

    fn said(&self, path: &str) -> Value {
        let at = |path: &str| format!("{}{path}", self.issuer);
        let point = self.pair.public_key().as_ref();
        match path {
            "/.well-known/openid-configuration" => json!({
                "issuer": self.issuer,
                "authorization_endpoint": at("/auth"),
                "token_endpoint": at("/token"),
                "jwks_uri": at("/keys"),
                "end_session_endpoint": at("/out?ui=plain"),
            }),
            "/keys" => json!({ "keys": [{
                "kty": "EC", "crv": "P-256", "kid": "k", "use": "sig", "alg": "ES256",
                "x": text(&point[1..33]), "y": text(&point[33..65]),
            }] }),
            "/token" => {
                if let Some((asked, go)) = self.pause.lock().unwrap().take() {
                    asked.send(()).unwrap();
                    go.recv().unwrap();
                }
                json!({ "id_token": self.sign(&self.next.lock().unwrap()) })
            }
            _ => panic!("{path} is not asked for"),
        }
    }

    fn sign(&self, claims: &Value) -> String {
        let header = json!({ "alg": "ES256", "kid": "k" });
        let part = |value: &Value| text(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(&header), part(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes());
        format!("{signed}.{}", text(signature.unwrap().as_ref()))
    }

    fn home(&self) -> Home {
        let more = format!(
            "[access.provider]\nissuer = \"{}\"\nclient_id = \"fleetward\"\nroles = {{ ops = \
             [\"operator\"] }}\n",
            self.issuer
        );
        Home::new(&Settings {
            more,
            ..Settings::default()
        })
    }

    /// Somebody who signed in there, in a session of this name there.
    fn sign_in<'p>(&self, plane: &'p Plane, subject: &str, session: &str) -> Asker<'p> {
        let (asker, answer) = self.try_sign_in(plane, subject, session);
        answer.expect(204);
        asker
    }

    fn try_sign_in<'p>(
        &self,
        plane: &'p Plane,
        subject: &str,
        session: &str,
    ) -> (Asker<'p>, Answer) {
        let mut asker = Asker::stranger(plane);
        let begun = asker.sign_in(BEGIN, &json!({})).expect(200).json();
        let location = begun["location"].as_str().unwrap();
        assert!(location.starts_with(&format!("{}/auth?", self.issuer)));
        let said = |name: &str| -> String {
            let mut pairs = location.split(['?', '&']);
            let value = pairs.find_map(|pair| pair.strip_prefix(&format!("{name}=")));
            value.unwrap().to_owned()
        };
        *self.next.lock().unwrap() = json!({
            "iss": self.issuer, "aud": "fleetward", "sub": subject, "sid": session,
            "nonce": said("nonce"), "iat": now(), "exp": now() + 300, "auth_time": now(),
            "groups": ["ops"],
        });
        let answer = json!({ "code": "c", "state": said("state") });
        let answer = asker.sign_in(CODE, &answer);
        (asker, answer)
    }

    /// Its word that somebody signed out; `null` takes a claim away.
    fn word(&self, other: Value) -> String {
        let mut claims = json!({
            "iss": self.issuer, "aud": "fleetward", "iat": now(), "exp": now() + 120,
            "jti": WORDS.fetch_add(1, Relaxed).to_string(),
            "events": { EVENT: {} },
        });
        for (name, value) in other.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
            .as_object_mut()
            .unwrap()
            .retain(|_, value| !value.is_null());
        self.sign(&claims)
    }
}

fn tell(plane: &Plane, word: &str) -> Answer {
    let stranger = Asker::stranger(plane);
    stranger.post_form(WORD, &format!("more=1&logout_token={word}"))
}

#[test]
fn whoever_signs_out_at_the_provider_is_out_here_and_nobody_else_is() {
    let provider = Provider::listen();
    let home = provider.home();
    let plane = home.start_prepared();
    let ada = provider.sign_in(&plane, "ada", "s-1");
    let ada_elsewhere = provider.sign_in(&plane, "ada", "s-2");
    let grace = provider.sign_in(&plane, "grace", "s-1");
    let first = Asker::first(&home, &plane);
    let are_in = || {
        let all = [&ada, &ada_elsewhere, &grace, &first];
        all.map(|asker| asker.get(WHO).status == 200)
    };
    assert_eq!(are_in(), [true; 4]);
    let person = ada.who()["actor"].clone();
    let one = provider.word(json!({ "sub": "ada", "sid": "s-1" }));
    tell(&plane, &one).expect(200);
    assert_eq!(are_in(), [false, true, true, true]);
    // All of theirs; and by a session's name alone, whose ever it is.
    tell(&plane, &provider.word(json!({ "sub": "ada" }))).expect(200);
    assert_eq!(are_in(), [false, false, true, true]);
    tell(&plane, &provider.word(json!({ "sid": "s-9" }))).expect(200);
    tell(&plane, &provider.word(json!({ "sub": "nobody" }))).expect(200);
    assert_eq!(are_in(), [false, false, true, true]);
    tell(&plane, &provider.word(json!({ "sid": "s-1" }))).expect(200);
    assert_eq!(are_in(), [false, false, false, true]);

    let mut told = Vec::new();
    wait_until("all three are in the log", || {
        told = plane.entries();
        told.retain(|entry| entry["action"] == "access.signed-out");
        told.len() == 3
    });
    assert!(
        told.iter()
            .all(|entry| entry["details"]["by"] == "provider")
    );
    assert_eq!((&told[0]["object"], &told[1]["object"]), (&person, &person));

    // Whoever recorded the first word ends nothing that began since.
    let again = provider.sign_in(&plane, "ada", "s-1");
    tell(&plane, &one).expect(200);
    again.get(WHO).expect(200);
}

#[test]
fn whoever_signs_out_while_the_same_sign_in_opens_is_not_in() {
    let provider = Provider::listen();
    let home = provider.home();
    let plane = home.start_prepared();
    let hers = [
        json!({ "sub": "ada", "sid": "s-1" }),
        json!({ "sub": "ada" }),
        json!({ "sid": "s-1" }),
    ];
    for (word, code) in hers
        .into_iter()
        .map(|word| (word, Some("signed-out-meanwhile")))
        .chain([(json!({ "sub": "grace", "sid": "s-1" }), None)])
    {
        let (asked, was_asked) = sync_channel(0);
        let (go, may_go) = sync_channel(0);
        *provider.pause.lock().unwrap() = Some((asked, may_go));
        std::thread::scope(|scope| {
            let signing_in = scope.spawn(|| provider.try_sign_in(&plane, "ada", "s-1"));
            was_asked.recv().unwrap();
            tell(&plane, &provider.word(word.clone())).expect(200);
            go.send(()).unwrap();
            let (asker, answer) = signing_in.join().unwrap();
            match code {
                Some(code) => {
                    assert_eq!(answer.expect(409).json()["code"], code, "{word}");
                    asker.get(WHO).expect(401);
                }
                None => {
                    answer.expect(204);
                    asker.get(WHO).expect(200);
                }
            }
        });
    }
    // Begun since, she is in.
    provider.sign_in(&plane, "ada", "s-1").get(WHO).expect(200);
    // Who was not let in was not signed in.
    let entries = plane.entries();
    let count = |action: &str| {
        let of = |entry: &&Value| entry["action"] == action && entry["details"]["by"] == "provider";
        entries.iter().filter(of).count()
    };
    assert_eq!(count("access.signed-in"), 2, "{entries:?}");
}

#[test]
fn attack_a_word_that_is_not_the_providers_signs_nobody_out() {
    let provider = Provider::listen();
    let home = provider.home();
    let plane = home.start_prepared();
    let ada = provider.sign_in(&plane, "ada", "s-1");
    let id_token = provider.sign(&provider.next.lock().unwrap());
    let word = |other: Value| {
        let mut claims = json!({ "sub": "ada" });
        for (name, value) in other.as_object().unwrap() {
            claims[name] = value.clone();
        }
        provider.word(claims)
    };
    for (false_word, code) in [
        (id_token, "id-token-other-kind"),
        (word(json!({ "nonce": "x" })), "id-token-other-kind"),
        (word(json!({ "events": {} })), "id-token-other-kind"),
        (word(json!({ "aud": "other" })), "id-token-other-audience"),
        (
            word(json!({ "iss": "https://evil.example" })),
            "id-token-other-issuer",
        ),
        (word(json!({ "exp": now() - 120 })), "id-token-expired"),
        (word(json!({ "iat": now() - 600 })), "id-token-expired"),
        (word(json!({ "sub": null })), "id-token-malformed"),
        (word(json!({ "jti": null })), "id-token-malformed"),
        (
            Provider::listen().word(json!({ "sub": "ada" })),
            "id-token-bad-signature",
        ),
        ("x".to_owned(), "id-token-malformed"),
        (String::new(), "id-token-malformed"),
    ] {
        let refused = tell(&plane, &false_word).expect(400).json();
        assert_eq!(refused["code"], code, "{refused}");
    }
    let stranger = Asker::stranger(&plane);
    let true_word = provider.word(json!({ "sub": "ada" }));
    for form in [
        "",
        "logout_tokens=x",
        &format!("logout_token={true_word}&logout_token=x"),
    ] {
        stranger.post_form(WORD, form).expect(400);
    }
    let other_form = json!({ "logout_token": true_word });
    stranger.post(WORD, &other_form).expect(415);
    // A page elsewhere that got hold of one.
    let form = format!("logout_token={true_word}");
    let page = stranger.post_form_saying(WORD, &["Sec-Fetch-Site: cross-site"], &form);
    page.expect(403);
    ada.get(WHO).expect(200);
    stranger.post_form(WORD, &form).expect(200);
    ada.get(WHO).expect(401);
}

#[test]
fn whoever_signs_out_here_is_told_where_to_sign_out_at_the_provider() {
    let provider = Provider::listen();
    let home = provider.home();
    let plane = home.start_prepared();
    let ada = provider.sign_in(&plane, "ada", "s-1");
    let id_token = provider.sign(&provider.next.lock().unwrap());
    let out = |asker: &Asker<'_>| {
        let answer = asker.post("/api/v1/access/sign-out", &json!({}));
        answer.expect(200).json()["provider_location"].clone()
    };
    let location = out(&ada);
    let location = location.as_str().unwrap();
    let there = format!(
        "{}/out?ui=plain&client_id=fleetward&post_logout_redirect_uri=https%3A%2F%2Flocalhost%3A{}%2F\
         &id_token_hint=",
        provider.issuer,
        plane.people.port()
    );
    let hint = location
        .strip_prefix(&there)
        .unwrap_or_else(|| panic!("{location}"));
    // The signature is another each time.
    let signed = |token: &str| token.rsplit_once('.').unwrap().0.to_owned();
    assert_eq!(signed(hint), signed(&id_token));
    ada.get(WHO).expect(401);
    // Who came by a link has nothing to end there.
    assert_eq!(out(&Asker::first(&home, &plane)), Value::Null);
    // No token stands where whoever looks on could take it.
    let entries = serde_json::to_string(&plane.entries()).unwrap();
    let lines = plane.stop_well().concat();
    assert!(!entries.contains(&signed(hint)) && !lines.contains(&signed(hint)));
}
