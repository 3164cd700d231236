//! The stream of events at the door for people, over TLS, with the session of a browser.

use crate::plane::{Home, PATIENCE, Plane, Settings};
use serde_json::json;
use sim::tls::{Client, Endpoint, Options, Transport};
use std::time::Instant;

/// A browser that signed in.
struct Browser {
    client: Client,
    cookie: String,
}

impl Browser {
    fn sign_in(home: &Home, plane: &Plane) -> Self {
        let answer = plane.post("/api/v1/access/admin-links", &json!({}));
        answer.expect(204);
        let link = std::fs::read_to_string(home.data_dir().join("admin-link")).unwrap();
        let token = link.trim().rsplit('=').next().unwrap().to_owned();
        let endpoint = Endpoint::new(plane.people, "localhost", &[plane.root()]).unwrap();
        let client = Client::new(&endpoint, None, &Options::default()).unwrap();
        let mut browser = Self {
            client,
            cookie: String::new(),
        };
        let body = json!({ "token": token }).to_string();
        let head = browser.read_head(&mut browser.send("POST", "/api/v1/access/sign-in", &body));
        let of_cookie = |line: &str| {
            Some(
                line.strip_prefix("set-cookie: ")?
                    .split(';')
                    .next()?
                    .to_owned(),
            )
        };
        browser.cookie = head
            .lines()
            .find_map(of_cookie)
            .unwrap_or_else(|| panic!("{head}"));
        browser
    }

    fn send(&self, method: &str, path: &str, body: &str) -> Transport {
        let cookie = &self.cookie;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: same-origin\r\n\
             Cookie: {cookie}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        );
        let mut transport = self.client.connect(PATIENCE).unwrap();
        let deadline = Instant::now() + PATIENCE;
        transport.write(request.as_bytes(), deadline).unwrap();
        transport
    }

    fn read_head(&self, transport: &mut Transport) -> String {
        let mut received = Vec::new();
        read_until(transport, &mut received, "\r\n\r\n");
        String::from_utf8(received).unwrap()
    }
}

#[track_caller]
fn read_until(transport: &mut Transport, received: &mut Vec<u8>, end: &str) {
    while !received
        .windows(end.len())
        .any(|part| part == end.as_bytes())
    {
        let read = transport.read(received, Instant::now() + PATIENCE);
        if let Err(refused) = read {
            panic!("{refused} after {}", String::from_utf8_lossy(received));
        }
    }
}

#[test]
fn a_stream_over_tls_tells_what_happens_and_ends_when_its_person_signs_out() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let browser = Browser::sign_in(&home, &plane);
    let stranger = Browser::sign_in(&home, &plane);
    let mut stream = browser.send("GET", "/api/v1/events", "");
    let mut other = stranger.send("GET", "/api/v1/events", "");
    let (mut received, mut of_other) = (Vec::new(), Vec::new());
    read_until(&mut stream, &mut received, ": here");
    read_until(&mut other, &mut of_other, ": here");
    let device = home.device("cam-1");
    plane.expect([&device]);
    read_until(&mut stream, &mut received, "event: entry");

    let mut signing_out = browser.send("POST", "/api/v1/access/sign-out", "");
    let head = browser.read_head(&mut signing_out);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let deadline = Instant::now() + PATIENCE;
    let ended = loop {
        if let Err(ended) = stream.read(&mut received, deadline) {
            break ended;
        }
    };
    assert!(!matches!(ended, sim::Refusal::Timeout), "{ended}");
    // What comes later is not on it; another person's stream goes on.
    plane.revoke(device.id());
    of_other.clear();
    read_until(&mut other, &mut of_other, "event: entry");
    let text = String::from_utf8_lossy(&received).into_owned();
    assert!(!text.contains("device-revoked"), "{text}");
    let mut refused = browser.send("GET", "/api/v1/events", "");
    let head = browser.read_head(&mut refused);
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
}

#[test]
fn a_stream_of_one_device_tells_of_it_alone_and_goes_on_where_it_broke_off() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    plane.expect(&[home.device("cam-1"), home.device("cam-2")]);
    let browser = Browser::sign_in(&home, &plane);
    for wrong in ["kind=all", "severity=bad", "device=%20", "colour=red"] {
        let path = format!("/api/v1/events?{wrong}");
        let head = browser.read_head(&mut browser.send("GET", &path, ""));
        assert!(head.starts_with("HTTP/1.1 400"), "{head}");
    }
    let of_one = "/api/v1/events?kind=device&device=cam-1";
    let mut stream = browser.send("GET", of_one, "");
    let mut received = Vec::new();
    read_until(&mut stream, &mut received, ": here");
    let cut = |device: &str| {
        let cut = json!({ "device": device, "containment": "quarantined", "reason": "test" });
        plane
            .post("/api/v1/response/containments", &cut)
            .expect(201);
    };
    cut("cam-2");
    cut("cam-1");
    read_until(&mut stream, &mut received, "\"cam-1\"");
    let text = String::from_utf8_lossy(&received).into_owned();
    assert!(
        !text.contains("cam-2") && !text.contains("event: entry"),
        "{text}"
    );
    // A beat says how far it is, past what it did not want.
    let last_of = |text: &str| {
        let mut ids = text.lines().filter_map(|line| line.strip_prefix("id: "));
        ids.next_back().map(|id| id.trim().parse::<u64>().unwrap())
    };
    let at = last_of(&text).unwrap();
    received.clear();
    read_until(&mut stream, &mut received, ": beat");
    read_until(&mut stream, &mut received, "\n\n");
    let beat = last_of(&String::from_utf8_lossy(&received)).unwrap();
    assert!(beat > at, "its own entry came behind it: {at} {beat}");
}

#[test]
fn a_tail_of_a_silent_device_ends_when_its_person_signs_out() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    plane.expect(&[home.device("cam-1")]);
    let browser = Browser::sign_in(&home, &plane);
    let mut tail = browser.send("GET", "/api/v1/gateway/tail?device=cam-1", "");
    let mut received = Vec::new();
    read_until(&mut tail, &mut received, ": here");
    // Whoever stands between them sees that it is alive.
    read_until(&mut tail, &mut received, ": beat");
    let mut signing_out = browser.send("POST", "/api/v1/access/sign-out", "");
    let head = browser.read_head(&mut signing_out);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let deadline = Instant::now() + PATIENCE;
    let ended = loop {
        if let Err(ended) = tail.read(&mut received, deadline) {
            break ended;
        }
    };
    assert!(!matches!(ended, sim::Refusal::Timeout), "{ended}");
}
