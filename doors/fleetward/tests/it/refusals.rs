//! Whoever may not come in is refused with exactly one line, which says what happened and who must
//! act; and nothing else has happened.
//!
//! That a line is the only one is seen by an attempt made after it, whose own line cannot be
//! mistaken. Certificates of *our* CA that have ended or not yet begun cannot be had from outside,
//! so those two stand at the EST door with the manufacturer's; at the MQTT door all that does not
//! come from our CA is one: unknown.

use crate::plane::{Home, PATIENCE, Plane, Settings};
use crate::tools::{curl, curl_at, have, mosquitto, openssl, write_credential, write_root};
use mqtt::{Connect, Version};
use serde_json::json;
use sim::device::Manner;
use sim::tls::{Client, Endpoint, Options, Versions};
use sim::{Credential, Factory, Flaw, Session};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};

/// A plane with `cam` (enrolled), `gone` (revoked) and `once` (its certificate revoked).
struct Scene {
    home: Home,
    plane: Plane,
    sentinels: AtomicU32,
}

fn scene() -> Scene {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let (doors, manner) = (plane.doors(), Manner::default());
    let mut devices = ["cam", "gone", "once"].map(|name| home.device(name));
    plane.expect(&devices);
    for device in &mut devices {
        device.enroll(&doors, &manner).unwrap();
        let (id, idevid) = (device.id().as_str(), format!("{}-idevid", device.id()));
        write_credential(&home, device.ldevid().unwrap(), id);
        write_credential(&home, device.idevid(), &idevid);
    }
    plane.revoke(devices[1].id());
    let told = plane
        .get("/api/v1/identity/devices/once")
        .expect(200)
        .json();
    let certificate = told["certificates"][0]["certificate"].as_str().unwrap();
    let asked = json!({ "certificate": certificate, "reason": "superseded" });
    plane
        .post("/api/v1/identity/revocations", &asked)
        .expect(201);
    for (name, flaw) in [
        ("namesake", Flaw::Stranger),
        ("expired", Flaw::Expired),
        ("early", Flaw::NotYetValid),
        ("unlisted", Flaw::None),
    ] {
        write_credential(&home, home.flawed_device(name, flaw).idevid(), name);
    }
    let foreign = Factory::new("Elsewhere", sim::now()).unwrap();
    let serial = model::SerialNumber::new("SN-cam").unwrap();
    let stranger = foreign.idevid(&serial, Flaw::None, sim::now()).unwrap();
    write_credential(&home, &stranger, "stranger");
    write_root(&home, &plane);
    Scene {
        home,
        plane,
        sentinels: AtomicU32::new(0),
    }
}

impl Scene {
    /// Does what must be refused, then asks for a name that is nobody's, at the same door.
    #[track_caller]
    fn assert_one_line(&self, door: SocketAddr, code: &str, actor: &str, attempt: impl FnOnce()) {
        let (plane, mark) = (&self.plane, self.plane.lines.mark());
        let before = (
            plane.acts(),
            plane.metric("fleetward_identity_certificates"),
        );
        attempt();
        let own = format!("refused {code}: ");
        plane.lines.wait_for(mark, &own);
        let name = format!(
            "sentinel-{}",
            self.sentinels.fetch_add(1, Ordering::Relaxed)
        );
        let _ = self.connect(door, &name, None, &Options::default());
        let last = plane.lines.wait_for(mark, &name);

        let lines = plane.lines.from(mark);
        let told: Vec<_> = lines.iter().take_while(|line| **line != last).collect();
        assert_eq!(told.len(), 1, "{code}: {lines:#?}");
        assert!(told[0].contains(&own), "{code}: {told:?}");
        assert!(
            told[0].ends_with(&format!("[{actor} must act]")),
            "{code}: {told:?}"
        );
        assert!(told[0].contains("127.0.0.1:"), "{code}: {told:?}");
        assert_eq!(plane.connected(), [""; 0], "{code}");
        let after = (
            plane.acts(),
            plane.metric("fleetward_identity_certificates"),
        );
        assert_eq!(after, before, "{code}");
    }

    fn client(
        &self,
        door: SocketAddr,
        name: &str,
        shown: Option<&Credential>,
        tls: &Options,
    ) -> Client {
        let endpoint = Endpoint::new(door, name, &[self.plane.root()]).unwrap();
        Client::new(&endpoint, shown.map(Credential::presented).as_ref(), tls).unwrap()
    }

    fn connect(
        &self,
        door: SocketAddr,
        name: &str,
        shown: Option<&Credential>,
        tls: &Options,
    ) -> Result<(), sim::Refusal> {
        let client = self.client(door, name, shown, tls);
        Session::open(&client, &Connect::new(Version::V5, "cam"), PATIENCE).map(drop)
    }

    fn credential(&self, name: &str) -> Credential {
        Credential::read(&self.home.path(""), name).unwrap()
    }
}

#[test]
fn at_the_mqtt_door() {
    let scene = scene();
    let door = scene.plane.mqtt;
    for (code, actor, shown) in [
        ("unknown-issuer", "operator", Some("stranger")),
        ("certificate-bad-signature", "device", Some("namesake")),
        ("idevid-at-gateway", "device", Some("cam-idevid")),
        ("idevid-at-gateway", "device", Some("gone-idevid")),
        ("device-revoked", "operator", Some("gone")),
        ("certificate-revoked", "device", Some("once")),
        ("no-certificate", "device", None),
    ] {
        let shown = shown.map(|name| scene.credential(name));
        scene.assert_one_line(door, code, actor, || {
            let refused = scene.connect(door, "localhost", shown.as_ref(), &Options::default());
            assert!(refused.unwrap_err().is_by_server());
        });
        if have(&["mosquitto_pub"]) {
            let name = shown.as_ref().map_or("nothing", |shown| {
                write_credential(&scene.home, shown, "tried");
                "tried"
            });
            scene.assert_one_line(door, code, actor, || {
                let more = [
                    "-i",
                    "cam",
                    "-t",
                    "v1/sensor/cam/telemetry/x",
                    "-m",
                    "x",
                    "-q",
                    "1",
                ];
                let ran = mosquitto(&scene.home, &scene.plane, "mosquitto_pub", name, &more);
                assert!(!ran.good, "{code}");
            });
        }
    }
}

#[test]
fn at_the_mqtt_door_for_how_it_speaks() {
    let scene = scene();
    let door = scene.plane.mqtt;
    let cam = scene.credential("cam");
    let only_12 = Options {
        versions: Versions::Only12,
        ..Options::default()
    };
    scene.assert_one_line(door, "tls-version", "device", || {
        assert!(
            scene
                .connect(door, "localhost", Some(&cam), &only_12)
                .is_err()
        );
    });
    let http_2 = Options {
        alpn: vec![b"h2".to_vec()],
        ..Options::default()
    };
    scene.assert_one_line(door, "tls-alpn", "device", || {
        assert!(
            scene
                .connect(door, "localhost", Some(&cam), &http_2)
                .is_err()
        );
    });
    scene.assert_one_line(door, "unknown-server-name", "device", || {
        assert!(
            scene
                .connect(door, "evil.example", Some(&cam), &Options::default())
                .is_err()
        );
    });
    scene.assert_one_line(door, "not-tls", "device", || plain_http(door));
    scene.assert_one_line(door, "handshake-left", "device", || {
        drop(TcpStream::connect(door).unwrap());
    });
    // The control: the same client with nothing wrong.
    scene
        .connect(door, "localhost", Some(&cam), &Options::default())
        .unwrap();
}

#[test]
fn at_the_est_door() {
    let scene = scene();
    let door = scene.plane.devices;
    for (code, actor, shown) in [
        ("unknown-issuer", "operator", "stranger"),
        ("certificate-bad-signature", "device", "namesake"),
        ("certificate-expired", "device", "expired"),
        ("certificate-not-yet-valid", "operator", "early"),
        ("device-revoked", "operator", "gone"),
        ("device-revoked", "operator", "gone-idevid"),
        ("certificate-revoked", "device", "once"),
    ] {
        let shown = scene.credential(shown);
        scene.assert_one_line(door, code, actor, || {
            let client = scene.client(door, "localhost", Some(&shown), &Options::default());
            let refused = sim::est::simpleenroll(&client, "cam", "SN-cam", PATIENCE).unwrap_err();
            assert!(refused.is_by_server(), "{code}: {refused}");
        });
        if have(&["curl"]) {
            write_credential(&scene.home, &shown, "tried");
            scene.assert_one_line(door, code, actor, || {
                let arguments = ["--cert", "tried.pem", "--key", "tried.key"];
                let path = "/.well-known/est/csrattrs";
                let answer = curl(&scene.home, &scene.plane, path, &arguments);
                assert_eq!(answer.status, 0, "{answer:?}");
            });
        }
    }
    scene.assert_one_line(door, "unknown-server-name", "device", || {
        assert!(
            scene
                .connect(door, "evil.example", None, &Options::default())
                .is_err()
        );
    });
    scene.assert_one_line(door, "not-tls", "device", || plain_http(door));
}

/// Past the handshake, where EST itself says no.
#[test]
fn at_the_est_door_by_the_operation() {
    let scene = scene();
    let door = scene.plane.devices;
    let good = Options::default();
    let (cam, idevid) = (scene.credential("cam"), scene.credential("cam-idevid"));
    let body = good_request(&scene);
    for (code, shown, operation, media_type, status) in [
        (
            "enroll-needs-idevid",
            &cam,
            "simpleenroll",
            "application/pkcs10",
            400..=403,
        ),
        (
            "reenroll-needs-ldevid",
            &idevid,
            "simplereenroll",
            "application/pkcs10",
            400..=403,
        ),
        // It may wait for a first certificate, and has none to renew.
        (
            "serial-unlisted",
            &scene.credential("unlisted"),
            "simplereenroll",
            "application/pkcs10",
            400..=403,
        ),
        (
            "body-not-base64",
            &idevid,
            "simpleenroll",
            "application/pkcs10",
            400..=400,
        ),
        (
            "body-media-type",
            &idevid,
            "simpleenroll",
            "text/plain",
            415..=415,
        ),
    ] {
        let actor = match code {
            "serial-unlisted" => "operator",
            _ => "device",
        };
        scene.assert_one_line(door, code, actor, || {
            let client = scene.client(door, "localhost", Some(shown), &good);
            let body = if code == "body-not-base64" {
                "%%%"
            } else {
                &body
            };
            let answer = sim::est::post(&client, operation, media_type, body.as_bytes(), PATIENCE);
            let Err(sim::Refusal::Http { status: got, .. }) = answer else {
                panic!("{code}: {answer:?}");
            };
            assert!(status.contains(&got), "{code}: {got}");
        });
    }
}

/// The API is for those who signed in, at the one door, and for services, at the other. What a
/// stranger may read is what clients need before they trust anybody.
#[test]
fn at_the_api_nobody_acts_without_a_right() {
    if !have(&["curl"]) {
        return;
    }
    let scene = scene();
    let (home, plane) = (&scene.home, &scene.plane);
    let before = plane.acts();
    let device = ["--cert", "cam.pem", "--key", "cam.key"];
    // In HTTP/2 an answer that does not wait for the body resets the stream, which some versions
    // of curl take for a failure.
    let json = [
        "--http1.1",
        "-H",
        "Content-Type: application/json",
        "--data-binary",
        "{}",
    ];
    for (method, path) in [
        ("GET", "/metrics"),
        ("GET", "/api/v1/identity/devices"),
        ("GET", "/api/v1/identity/devices/cam"),
        ("GET", "/api/v1/gateway/sessions"),
        ("GET", "/api/v1/audit/entries"),
        ("GET", "/api/v1/audit/bundle"),
        ("GET", "/api/v1/access/fleet"),
        ("GET", "/log/checkpoint"),
        ("PUT", "/api/v1/access/fleet"),
        ("POST", "/api/v1/identity/revocations"),
        ("POST", "/api/v1/identity/manufacturers"),
        (
            "POST",
            "/api/v1/identity/expected-devices?manufacturer=acme",
        ),
        ("POST", "/api/v1/identity/services/ingest/certificates"),
        ("DELETE", "/api/v1/audit/seal"),
    ] {
        let more = if method == "GET" { &[][..] } else { &json };
        let asked = [&["-X", method][..], more].concat();
        curl_at(home, plane.people, path, &asked).expect(401);
        let with_cookie = [&asked[..], &["-H", "Cookie: __Host-fleetward=AAAA"]].concat();
        curl_at(home, plane.people, path, &with_cookie).expect(401);
        curl_at(home, plane.devices, path, &asked).expect(401);
        curl_at(home, plane.devices, path, &[&device[..], &asked].concat()).expect(403);
    }
    // Links are made on the plane's own machine only.
    let link = "/api/v1/access/admin-links";
    curl_at(home, plane.people, link, &["-X", "POST"]).expect(401);
    for path in ["/healthz", "/readyz"] {
        curl_at(home, plane.people, path, &[]).expect(204);
    }
    curl_at(home, plane.people, "/api/v1/identity/ca", &[]).expect(200);
    // EST is not at the door for people.
    curl_at(home, plane.people, "/.well-known/est/cacerts", &[]).expect(404);
    assert_eq!(plane.acts(), before);
}

/// Stands between a client and a door, and goes on speaking after the door has said its last word
/// and closed its side. A door that does not listen any more answers with a reset, which takes its
/// last word out of the hands of a client that has not read it yet.
fn still_listens_after_its_last_word(door: SocketAddr, client: impl FnOnce(SocketAddr)) -> bool {
    let between = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = between.local_addr().unwrap();
    let stands_between = std::thread::spawn(move || {
        let (mut client, _) = between.accept().unwrap();
        let mut server = TcpStream::connect(door).unwrap();
        let (mut from_client, mut to_server) =
            (client.try_clone().unwrap(), server.try_clone().unwrap());
        let forward = std::thread::spawn(move || {
            // However the client ends: what counts is seen below.
            let _ = std::io::copy(&mut from_client, &mut to_server);
        });
        let is_closed = std::io::copy(&mut server, &mut client).is_ok();
        // A reset is the answer to the first of these, and the second finds it.
        let is_heard = (0..3).all(|_| server.write_all(b"and then").is_ok());
        let _ = server.shutdown(std::net::Shutdown::Both);
        let _ = client.shutdown(std::net::Shutdown::Both);
        forward.join().unwrap();
        is_closed && is_heard
    });
    client(address);
    stands_between.join().unwrap()
}

#[test]
fn a_door_listens_until_whoever_it_refuses_or_ends_has_heard_why() {
    if !have(&["openssl"]) {
        return;
    }
    let scene = scene();
    for (door, name) in [
        (scene.plane.mqtt, "gone"),
        (scene.plane.mqtt, "stranger"),
        (scene.plane.devices, "stranger"),
    ] {
        let listens = still_listens_after_its_last_word(door, |at| {
            let at = format!("localhost:{}", at.port());
            let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
            let arguments = [
                "s_client",
                "-quiet",
                "-connect",
                &at,
                "-CAfile",
                "root.pem",
                "-cert",
                &certificate,
                "-key",
                &key,
            ];
            openssl(&scene.home, &arguments, b"hello");
        });
        assert!(listens, "{name} at {door}");
    }
    // A live session that is ended.
    let listens = still_listens_after_its_last_word(scene.plane.mqtt, |at| {
        let door = Endpoint::new(at, "localhost", &[scene.plane.root()]).unwrap();
        let presented = scene.credential("cam").presented();
        let client = Client::new(&door, Some(&presented), &Options::default()).unwrap();
        let connect = Connect::new(Version::V5, "cam");
        let mut session = Session::open(&client, &connect, PATIENCE).unwrap();
        scene.plane.revoke(&"cam".parse().unwrap());
        let ended = session.next(std::time::Instant::now() + PATIENCE);
        assert_eq!(ended.unwrap_err().kind(), "disconnect:0x98");
    });
    assert!(listens, "the end of a session");
}

/// In TLS 1.3 a client speaks before it can know that it is refused.
#[test]
fn whoever_is_refused_hears_why_however_much_it_said() {
    const TIMES: usize = 50;
    if !have(&["openssl"]) {
        return;
    }
    let scene = scene();
    let words = vec![b'x'; 20_000];
    for (door, name, alert) in [
        (scene.plane.mqtt, "gone", "alert certificate revoked"),
        (scene.plane.mqtt, "stranger", "alert unknown ca"),
        (scene.plane.devices, "stranger", "alert unknown ca"),
    ] {
        let at = format!("localhost:{}", door.port());
        let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
        let arguments = [
            "s_client",
            "-quiet",
            "-connect",
            &at,
            "-CAfile",
            "root.pem",
            "-cert",
            &certificate,
            "-key",
            &key,
            "-tls1_3",
        ];
        for time in 1..=TIMES {
            let said = openssl(&scene.home, &arguments, &words).err;
            assert!(said.contains(alert), "{name} at {at}, time {time}: {said}");
        }
    }
    // The library that most clients in C are made with.
    if !have(&["mosquitto_pub"]) {
        return;
    }
    for time in 1..=TIMES {
        let more = [
            "-t",
            "v1/camera/gone/telemetry/x",
            "-m",
            "x",
            "-V",
            "5",
            "-d",
        ];
        let ran = mosquitto(&scene.home, &scene.plane, "mosquitto_pub", "gone", &more);
        let said = ran.text() + &ran.err;
        let heard = said.contains("alert certificate revoked");
        assert!(heard, "mosquitto_pub, time {time}: {said}");
    }
}

/// Tickets are never given, and what a client keeps of an earlier session is not taken.
#[test]
fn sessions_are_never_resumed() {
    if !have(&["openssl"]) {
        return;
    }
    let scene = scene();
    for (door, version) in [
        (scene.plane.devices, "-tls1_2"),
        (scene.plane.devices, "-tls1_3"),
        (scene.plane.mqtt, "-tls1_3"),
    ] {
        let at = format!("localhost:{}", door.port());
        let arguments = |more: &[&'static str]| -> Vec<String> {
            [
                "s_client", "-connect", &at, "-CAfile", "root.pem", "-cert", "cam.pem", "-key",
                "cam.key", version,
            ]
            .iter()
            .chain(more)
            .map(|s| (*s).to_owned())
            .collect()
        };
        let told = |more: &[&'static str]| {
            let arguments = arguments(more);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            openssl(&scene.home, &arguments, b"").text()
        };
        let text = told(&["-reconnect"]);
        assert!(text.contains("New, TLSv1"), "{text}");
        assert!(!text.contains("Reused, "), "{version}: {text}");
        let text = told(&["-sess_out", "kept"]);
        assert!(!text.contains("New Session Ticket arrived"), "{text}");
        assert!(!text.contains("TLS session ticket:"), "{text}");
        if scene.home.path("kept").exists() {
            let text = told(&["-sess_in", "kept"]);
            assert!(!text.contains("Reused, "), "{version}: {text}");
        }
    }
    // A client that would keep tickets is given none either.
    let (mut device, doors) = (scene.home.device("cam-2"), scene.plane.doors());
    scene.plane.expect([&device]);
    device.enroll(&doors, &Manner::default()).unwrap();
    device.connect(&doors, &Manner::default()).unwrap();
    device.session().unwrap().ping().unwrap();
    assert_eq!(
        device.try_ticket(&Manner::default()),
        sim::device::TicketOutcome::NeverGiven
    );
}

/// A request that nothing is wrong with, as the body of a POST.
fn good_request(scene: &Scene) -> String {
    use base64::Engine;
    let key = scene.credential("cam").key().clone();
    base64::engine::general_purpose::STANDARD.encode(crate::fixture::request(&key))
}

fn plain_http(door: SocketAddr) {
    let mut socket = TcpStream::connect(door).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    // At most a TLS alert: no word of HTTP.
    assert!(
        !answer.windows(4).any(|w| w == b"HTTP"),
        "{}",
        answer.escape_ascii()
    );
}
