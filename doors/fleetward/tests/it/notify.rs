//! What leaves the house reaches real receivers: Python's own HTTP server, which verifies the
//! signature by what the documentation gives, and a mail server.

use crate::plane::{Home, Lines, Settings};
use crate::response::{Observer, live, watched_fleet};
use crate::tools;
use model::Timestamp;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use store::{Change, Direction, Options, Outgoing, Store, Write};

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A receiver in a process of its own.
struct Receiver {
    child: Child,
    lines: Lines,
    port: u16,
    heard: usize,
}

impl Receiver {
    fn start(python: &str, script: &str, arguments: &[&str]) -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/receivers");
        let mut child = Command::new(python)
            .arg("-B")
            .arg(here.join(script))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Lines::default();
        lines.collect(child.stdout.take().unwrap());
        let line = lines.wait_for(0, "listening on ");
        Self {
            child,
            port: line.rsplit(' ').next().unwrap().parse().unwrap(),
            heard: lines.mark(),
            lines,
        }
    }

    fn webhook(answers: &str, tls: Option<&Tls>) -> Self {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/verify");
        let (certificate, key) = Tls::files(tls);
        let arguments = [docs.to_str().unwrap(), SECRET, answers, &certificate, &key];
        Self::start("python3", "webhook.py", &arguments)
    }

    /// The next message that it was sent.
    #[track_caller]
    fn next(&mut self) -> Value {
        let line = self.lines.wait_for(self.heard, "{");
        self.heard += 1;
        serde_json::from_str(&line).unwrap()
    }

    fn heard_more(&self) -> bool {
        self.lines.mark() > self.heard
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A certificate for 127.0.0.1 that is its own root.
struct Tls {
    certificate: PathBuf,
    key: PathBuf,
}

impl Tls {
    fn new(home: &Home, name: &str) -> Self {
        let tls = Self {
            certificate: home.path(&format!("{name}.pem")),
            key: home.path(&format!("{name}.key")),
        };
        let (certificate, key) = Self::files(Some(&tls));
        let arguments = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=receiver",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-days",
            "2",
            "-keyout",
            &key,
            "-out",
            &certificate,
        ];
        tools::openssl_well(home, &arguments, b"");
        tls
    }

    fn files(tls: Option<&Self>) -> (String, String) {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        tls.map_or_else(Default::default, |tls| {
            (text(&tls.certificate), text(&tls.key))
        })
    }
}

/// A home with this `[response]`, whose data folder a plane has made already.
fn home(response: impl Fn(&Home) -> String) -> Home {
    let home = Home::new(&Settings::default());
    home.start().stop_well();
    let gateway = format!("[response]\n{}", response(&home));
    home.configure(&Settings {
        gateway,
        ..Settings::default()
    });
    home
}

fn secret_file(home: &Home, name: &str, text: &str) -> PathBuf {
    let path = home.write(name, format!("{text}\n").as_bytes());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn webhook_at(home: &Home, scheme: &str, port: u16) -> String {
    let file = secret_file(home, "webhook.secret", SECRET);
    format!(
        "webhook_url = \"{scheme}://127.0.0.1:{port}/hook?of=fleet\"\nwebhook_secret_file = {file:?}\n"
    )
}

/// As the plane queues it: rows of the outbox while no plane runs.
fn queue(home: &Home, way: &str, numbers: &[u64]) {
    let store = open(home);
    for number in numbers {
        let body = json!({
            "id": format!("fleetward.internal/acme/INC-1.{number}"),
            "incident": "INC-1",
            "to": "security",
            "subject": format!("[high] INC-1 cam-{number}: dns-spike (opened)"),
            "text": "INC-1: cam-1\nstate: open\n.\nBcc: not@a.header\n",
            "at": "2027-01-15T08:00:00.000Z",
        });
        let row = Outgoing {
            id: format!("INC-1.{number}/{way}"),
            channel: way.to_owned(),
            body: body.to_string().into_bytes(),
            created_at: Timestamp::from_millis(now().as_millis() + number),
            attempts: 0,
            next_at: now(),
            last_error: None,
        };
        let change = Change::new(Direction::Neutral).write(Write::PutOutbox(row));
        store.commit(change).unwrap();
    }
}

fn open(home: &Home) -> Store {
    Store::open(&home.data_dir(), Options::new("acme".parse().unwrap())).unwrap()
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap())
}

#[track_caller]
fn assert_empty(home: &Home, way: &str) {
    let (waiting, count) = open(home).outbox_of(way).unwrap();
    assert_eq!((waiting, count), (None, 0), "the outbox is not empty");
}

#[test]
fn a_webhook_is_signed_and_comes_in_order_once_the_receiver_takes_it() {
    if !tools::have(&["python3"]) {
        return;
    }
    let mut receiver = Receiver::webhook("503,429,200", None);
    let home = home(|home| webhook_at(home, "http", receiver.port));
    queue(&home, "webhook", &[1, 2]);
    let plane = home.start();
    let told: Vec<Value> = (0..4).map(|_| receiver.next()).collect();
    for one in &told {
        assert_eq!(one["verified"], true, "{one}");
        assert_eq!(one["forged"], false, "{one}");
        assert_eq!(one["body"]["id"], one["id"]);
        assert_eq!(one["body"]["to"], "security");
    }
    let ids: Vec<&str> = told.iter().map(|one| one["id"].as_str().unwrap()).collect();
    let [first, second] = [1, 2].map(|n| format!("fleetward.internal/acme/INC-1.{n}"));
    assert_eq!(ids, [&first, &first, &first, &second]);
    plane.lines.wait_for(0, "INC-1.2/webhook was delivered");
    let lines = plane.stop_well().join("\n");
    assert!(
        !lines.contains("/hook") && !lines.contains(SECRET),
        "{lines}"
    );
    assert_empty(&home, "webhook");
    assert!(!receiver.heard_more());
}

#[test]
fn an_alert_by_a_playbook_that_notifies_reaches_the_receiver_signed() {
    if !tools::have(&["python3"]) {
        return;
    }
    let mut receiver = Receiver::webhook("200", None);
    let home = home(|home| webhook_at(home, "http", receiver.port));
    let plane = home.start_prepared();
    let mut fleet = watched_fleet();
    for (path, text) in &mut fleet {
        if path.starts_with("playbooks/") {
            *text = text.replace(
                "{ action = \"quarantine\" }",
                "{ action = \"quarantine\" }, { action = \"notify\", to = \"security\" }",
            );
        }
    }
    plane.apply(&fleet);
    let observer = Observer::of(&plane, "network-observer");
    let _device = live(&home, &plane, "cam-1");
    assert_eq!(observer.saw_foreign_host("cam-1", "port"), 202);
    // The operators are told too, of its opening.
    let told = loop {
        let told = receiver.next();
        if told["body"]["to"] == "security" {
            break told;
        }
    };
    assert_eq!(
        (&told["verified"], &told["forged"]),
        (&json!(true), &json!(false))
    );
    let body = &told["body"];
    assert_eq!(
        (&body["incident"], &body["to"]),
        (&json!("INC-1"), &json!("security"))
    );
    let subject = body["subject"].as_str().unwrap();
    assert!(
        subject.contains("INC-1") && subject.contains("cam-1"),
        "{body}"
    );
    plane.lines.wait_for(0, "/webhook was delivered");
    plane.stop_well();
}

#[test]
fn a_plane_killed_while_it_sends_sends_again_under_the_same_id() {
    if !tools::have(&["python3"]) {
        return;
    }
    let mut receiver = Receiver::webhook("hang,503,503,200", None);
    let home = home(|home| webhook_at(home, "http", receiver.port));
    queue(&home, "webhook", &[7]);
    let plane = home.start();
    let first = receiver.next();
    assert_eq!(first["answer"], "hang");
    plane.kill();

    let plane = home.start();
    let again: Vec<Value> = (0..3).map(|_| receiver.next()).collect();
    for one in &again {
        assert_eq!(one["id"], first["id"]);
        assert_eq!(one["body"], first["body"]);
        assert_eq!(one["verified"], true);
    }
    plane.lines.wait_for(0, "INC-1.7/webhook was delivered");
    plane.kill();
    home.start().stop_well();
    assert!(!receiver.heard_more(), "delivered is delivered");
    assert_empty(&home, "webhook");
}

#[test]
fn a_webhook_goes_by_tls_to_whom_the_roots_vouch_for_and_follows_no_redirect() {
    if !tools::have(&["python3", "openssl"]) {
        return;
    }
    let scratch = Home::new(&Settings::default());
    let (tls, other) = (Tls::new(&scratch, "receiver"), Tls::new(&scratch, "other"));
    let mut receiver = Receiver::webhook("302,400,200", Some(&tls));
    let response = |home: &Home, roots: &Path| {
        webhook_at(home, "https", receiver.port) + &format!("roots_file = {roots:?}\n")
    };
    let home = home(|home| response(home, &other.certificate));
    queue(&home, "webhook", &[1, 2]);
    let plane = home.start();
    plane
        .lines
        .wait_for(0, "INC-1.1/webhook is not delivered yet");
    plane.stop_well();
    assert!(!receiver.heard_more(), "an unknown receiver was told");

    home.configure(&Settings {
        gateway: format!("[response]\n{}", response(&home, &tls.certificate)),
        ..Settings::default()
    });
    let plane = home.start();
    let told: Vec<Value> = (0..3).map(|_| receiver.next()).collect();
    let answers: Vec<&str> = told
        .iter()
        .map(|one| one["answer"].as_str().unwrap())
        .collect();
    assert_eq!(answers, ["302", "400", "200"]);
    assert_eq!(
        told[0]["id"], told[1]["id"],
        "after a redirect it is tried again, there"
    );
    assert_ne!(
        told[1]["id"], told[2]["id"],
        "what is refused for good makes room"
    );
    plane
        .lines
        .wait_for(0, "INC-1.1/webhook was not delivered and is given up");
    plane.lines.wait_for(0, "INC-1.2/webhook was delivered");
    plane.stop_well();
}

#[test]
fn mail_reaches_a_server_of_this_machine_and_its_text_makes_no_header() {
    let Some(python) = python_with_aiosmtpd() else {
        return;
    };
    let mut receiver = Receiver::start(python, "smtp.py", &["", "", ""]);
    let home = home(|_| mail_at(receiver.port));
    queue(&home, "mail", &[1]);
    let plane = home.start();
    let (refused, taken) = (receiver.next(), receiver.next());
    assert_eq!(refused["id"], taken["id"]);
    assert_eq!(
        taken["id"],
        "<fleetward.internal.acme.INC-1.1@fleetward.internal>"
    );
    assert_eq!(taken["from"], "plane@fleet.example");
    assert_eq!(
        taken["to"],
        json!(["desk@fleet.example", "night@fleet.example"])
    );
    assert_eq!(taken["subject"], "[high] INC-1 cam-1: dns-spike (opened)");
    assert!(!taken["headers"].to_string().contains("Bcc"), "{taken}");
    assert!(
        taken["text"]
            .as_str()
            .unwrap()
            .contains("Bcc: not@a.header"),
        "{taken}"
    );
    plane.lines.wait_for(0, "INC-1.1/mail was delivered");
    plane.stop_well();
    assert_empty(&home, "mail");
}

#[test]
fn mail_elsewhere_is_encrypted_and_signed_in_or_not_sent() {
    let Some(python) = python_with_aiosmtpd().filter(|_| tools::have(&["openssl"])) else {
        return;
    };
    let scratch = Home::new(&Settings::default());
    let (tls, other) = (Tls::new(&scratch, "receiver"), Tls::new(&scratch, "other"));
    let (certificate, key) = Tls::files(Some(&tls));
    let mut receiver = Receiver::start(python, "smtp.py", &[&certificate, &key, "hunter2"]);
    let response = |home: &Home, roots: &Path| {
        let password = secret_file(home, "mail.password", "hunter2");
        format!(
            "{}mail_user = \"plane\"\nmail_password_file = {password:?}\nroots_file = {roots:?}\n",
            mail_at(receiver.port)
        )
    };
    let home = home(|home| response(home, &other.certificate));
    queue(&home, "mail", &[1]);
    let plane = home.start();
    plane.lines.wait_for(0, "INC-1.1/mail is not delivered yet");
    let lines = plane.stop_well().join("\n");
    assert!(!lines.contains("hunter2"), "{lines}");
    assert!(!receiver.heard_more(), "an unknown server was told");

    home.configure(&Settings {
        gateway: format!("[response]\n{}", response(&home, &tls.certificate)),
        ..Settings::default()
    });
    let plane = home.start();
    for _ in 0..2 {
        let mail = receiver.next();
        assert_eq!(
            (&mail["encrypted"], &mail["signed_in"]),
            (&json!(true), &json!(true))
        );
    }
    plane.lines.wait_for(0, "INC-1.1/mail was delivered");
    plane.stop_well();
}

#[test]
fn a_secret_that_others_may_read_is_refused_before_a_port_opens() {
    let home = Home::new(&Settings::default());
    let file = home.write("webhook.secret", SECRET.as_bytes());
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    home.configure(&Settings {
        gateway: format!(
            "[response]\nwebhook_url = \"http://127.0.0.1:9/\"\nwebhook_secret_file = {file:?}"
        ),
        ..Settings::default()
    });
    let (status, lines) = home.try_start().err().unwrap();
    assert!(!status.success());
    let said = lines.join("\n");
    assert!(
        said.contains("chmod 600") && !said.contains(SECRET),
        "{said}"
    );
    assert!(!home.data_dir().join("fleetward.sock").exists());
}

fn mail_at(port: u16) -> String {
    format!(
        "mail_smtp = \"smtp://127.0.0.1:{port}\"\nmail_from = \"plane@fleet.example\"\n\
         mail_to = [\"desk@fleet.example\", \"Night <night@fleet.example>\"]\n"
    )
}

/// Debian's package serves Debian's Python, which need not be the first on the path.
fn python_with_aiosmtpd() -> Option<&'static str> {
    let knows = |python: &&str| {
        Command::new(python)
            .args(["-c", "import aiosmtpd"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let python = ["/usr/bin/python3", "python3"].into_iter().find(knows);
    if python.is_none() {
        println!("skipped: python3-aiosmtpd is not installed");
    }
    python
}
