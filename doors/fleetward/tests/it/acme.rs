//! Certificates from an ACME CA: a real one (pebble), which looks at our doors before it signs.

use crate::plane::{Home, Lines, Plane, Settings, wait_until};
use crate::served::{SHOWN, entries, leaf, leaves, other_ca, shown};
use crate::tools::{have, run, write_root};
use serde_json::{Value, json};
use sim::device::Manner;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;

const NAME: &str = "plane.acme.example";
/// Nothing of ours listens there.
const NOWHERE: u8 = 2;
const HERE: u8 = 1;

/// A DNS server to which every name is one address of this machine, `127.0.0.<last>`.
struct Names {
    address: SocketAddr,
    last: Arc<AtomicU8>,
    thread: Option<JoinHandle<()>>,
}

impl Names {
    fn leading_to(last: u8) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let last = Arc::new(AtomicU8::new(last));
        let led = Arc::clone(&last);
        let thread = std::thread::spawn(move || {
            let mut query = [0; 1500];
            while let Ok((length, peer)) = socket.recv_from(&mut query) {
                let last = led.load(Ordering::SeqCst);
                // An empty packet ends it.
                let Some(answer) = answer(&query[..length], last) else {
                    return;
                };
                socket.send_to(&answer, peer).unwrap();
            }
        });
        Self {
            address,
            last,
            thread: Some(thread),
        }
    }

    fn lead_to(&self, last: u8) {
        self.last.store(last, Ordering::SeqCst);
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(&[], self.address).unwrap();
        let _ = self.thread.take().unwrap().join();
    }
}

/// RFC 1035 section 4: the one question, and an address if it asks for A.
fn answer(query: &[u8], last: u8) -> Option<Vec<u8>> {
    let question = query.get(12..)?;
    let name = question.iter().position(|byte| *byte == 0)? + 1;
    let question = question.get(..name + 4)?;
    let is_a = question[name..name + 2] == [0, 1];
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    answer.extend(question);
    if is_a {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend(Ipv4Addr::new(127, 0, 0, last).octets());
    }
    Some(answer)
}

/// pebble, until it is dropped.
struct Pebble {
    child: Child,
    said: Lines,
    management: u16,
}

impl Pebble {
    /// `more` goes into its configuration.
    fn start(home: &Home, ports: &Ports, names: &Names, more: &Value) -> Self {
        let mut pebble = json!({
            "listenAddress": format!("127.0.0.1:{}", ports.directory),
            "managementListenAddress": format!("127.0.0.1:{}", ports.management),
            "certificate": home.path("pebble.chain"),
            "privateKey": home.path("pebble.key"),
            "httpPort": ports.http,
            "tlsPort": ports.tls,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        });
        for (key, value) in more.as_object().unwrap() {
            pebble[key] = value.clone();
        }
        let config = json!({ "pebble": pebble }).to_string();
        let config = home.write("pebble.json", config.as_bytes());
        let mut child = Command::new("pebble")
            .arg("-config")
            .arg(config)
            .args(["-strict", "-dnsserver", &names.address.to_string()])
            .env("PEBBLE_VA_NOSLEEP", "1")
            // It looks at every name anew, and leaves nothing to chance.
            .env("PEBBLE_AUTHZREUSE", "0")
            .env("PEBBLE_WFE_NONCEREJECT", "0")
            .env_remove("PEBBLE_VA_ALWAYS_VALID")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = Lines::default();
        said.collect(child.stdout.take().unwrap());
        let pebble = Self {
            child,
            said,
            management: ports.management,
        };
        for port in [ports.directory, ports.management] {
            wait_until("pebble answers", || {
                TcpStream::connect(("127.0.0.1", port)).is_ok()
            });
        }
        pebble
    }

    /// Writes `acme-root.pem`, what clients of its certificates trust.
    fn write_root(&self, home: &Home) {
        let url = format!("https://localhost:{}/roots/0", self.management);
        let arguments = [
            "-sS",
            "--cacert",
            "other-root.pem",
            "-o",
            "acme-root.pem",
            &url,
        ];
        let ran = run(home, "curl", &arguments, b"");
        assert!(ran.good, "{}", ran.err);
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("pebble's lines:\n{}", self.said.from(0).join("\n"));
        }
    }
}

struct Ports {
    directory: u16,
    management: u16,
    http: u16,
    tls: u16,
}

/// Ports that nobody uses now.
fn free_ports<const N: usize>() -> [u16; N] {
    let all = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    all.map(|one| one.local_addr().unwrap().port())
}

/// Writes what pebble shows at its own doors, and a configuration that asks it.
fn configure(home: &Home, directory: u16, more: &str) {
    other_ca(home);
    leaf(home, "pebble", "ec", "DNS:localhost,IP:127.0.0.1");
    home.configure(&Settings {
        gateway: format!(
            "[listen.acme]\ndirectory = \"https://localhost:{directory}/dir\"\n\
             terms_agreed = true\ncontact = [\"pki@acme.example\"]\nnames = [{NAME:?}]\n\
             roots_file = {:?}\n{more}\n",
            home.path("other-root.pem")
        ),
        ..Settings::default()
    });
}

/// The entry of the ACME CA.
fn acme(plane: &Plane) -> Value {
    leaves(plane, "acme").remove(0)
}

fn trouble(plane: &Plane) -> String {
    acme(plane)["trouble"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn reload(plane: &Plane) {
    let path = "/api/v1/identity/served/reload";
    plane.try_ask("POST", path, None).unwrap().expect(200);
}

/// Whether curl sees this name at the door for people, trusting one root.
fn curl_sees(home: &Home, plane: &Plane, name: &str, root: &str) -> bool {
    let port = plane.people.port();
    let (resolve, url) = (
        format!("{name}:{port}:127.0.0.1"),
        format!("https://{name}:{port}/healthz"),
    );
    let arguments = ["-sS", "-f", "--cacert", root, "--resolve", &resolve, &url];
    run(home, "curl", &arguments, b"").good
}

/// Whether somebody who looks as a CA does is shown anything.
fn is_answered(home: &Home, plane: &Plane, name: &str) -> bool {
    let more = "-alpn acme-tls/1";
    let seen = shown(home, plane.people, Some(name), "root.pem", more);
    !seen.text.contains("no peer certificate available")
}

#[test]
fn an_acme_ca_certifies_a_name_by_tls_alpn_and_a_device_still_sees_ours() {
    if !have(&["pebble", "openssl", "curl"]) {
        return;
    }
    let home = Home::new(&Settings::default());
    let [directory, management] = free_ports();
    configure(&home, directory, "");
    let names = Names::leading_to(NOWHERE);

    // The CA is not there: the plane is, and says what it lacks.
    let plane = home.start_prepared();
    write_root(&home, &plane);
    wait_until("the trouble is told", || !trouble(&plane).is_empty());
    assert!(
        trouble(&plane).contains("no connection"),
        "{}",
        trouble(&plane)
    );
    assert_eq!(acme(&plane)["names"], json!([NAME]));
    assert_eq!(acme(&plane)["chain"], json!([]));
    assert_eq!(plane.metric("fleetward_identity_served_troubled"), 1);
    plane.get("/readyz").expect(204);
    assert!(curl_sees(&home, &plane, "localhost", "root.pem"));
    assert!(!curl_sees(&home, &plane, NAME, "root.pem"));
    assert!(!is_answered(&home, &plane, "localhost"));

    // It is there and cannot see us under that name.
    let ports = Ports {
        directory,
        management,
        http: 1,
        tls: plane.people.port(),
    };
    let pebble = Pebble::start(&home, &ports, &names, &json!({}));
    pebble.write_root(&home);
    reload(&plane);
    wait_until("the challenge fails", || trouble(&plane).contains(NAME));
    let said = trouble(&plane);
    assert!(
        said.contains("could not see that the names are ours"),
        "{said}"
    );
    assert!(said.contains("Failed to connect to 127.0.0.2"), "{said}");
    assert_eq!(acme(&plane)["chain"], json!([]));

    // The name leads here.
    names.lead_to(HERE);
    reload(&plane);
    wait_until("the certificate is shown", || {
        acme(&plane)["chain"] != json!([])
    });
    assert_eq!(trouble(&plane), "");
    assert_eq!(plane.metric("fleetward_identity_served_troubled"), 0);
    assert_eq!(acme(&plane)["chain"].as_array().unwrap().len(), 2);
    assert!(curl_sees(&home, &plane, NAME, "acme-root.pem"));
    assert!(!curl_sees(&home, &plane, NAME, "root.pem"));
    for door in [plane.devices, plane.mqtt] {
        shown(&home, door, Some(NAME), "acme-root.pem", "").verified();
    }
    let told = entries(&plane, SHOWN);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["details"]["source"], "acme");
    assert_eq!(
        told[0]["details"]["leaf_sha256"],
        acme(&plane)["chain"][0]["sha256"]
    );
    assert_eq!(told[0]["actor"], "plane");
    // Nobody looks any more: nothing is answered.
    assert!(!is_answered(&home, &plane, NAME));
    plane.lines.wait_for(0, "refused tls-alpn");

    // A device that is pinned to our root sees what it saw.
    let mut device = home.device("cam");
    plane.expect([&device]);
    device.enroll(&plane.doors(), &Manner::default()).unwrap();
    device.connect(&plane.doors(), &Manner::default()).unwrap();
    assert!(device.is_connected());
    drop(device);

    // Another run shows the same without asking anybody; no key lies open in the database.
    let leaf = acme(&plane)["chain"][0]["sha256"].clone();
    drop(pebble);
    plane.stop_well();
    let plane = home.start();
    assert_eq!(acme(&plane)["chain"][0]["sha256"], leaf);
    assert!(curl_sees(&home, &plane, NAME, "acme-root.pem"));
    assert_eq!(entries(&plane, SHOWN).len(), 1);
    let entry = acme(&plane);
    let (due, end) = (entry["renews_at"].as_str(), entry["ends_at"].as_str());
    assert!(due.is_some() && due < end, "{entry}");
}

#[test]
fn a_certificate_by_http_is_renewed_and_stays_when_the_ca_goes_away() {
    if !have(&["pebble", "openssl", "curl"]) {
        return;
    }
    let home = Home::new(&Settings::default());
    let [directory, management, http] = free_ports();
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let file = home.write("eab.key", key.as_bytes());
    let more = format!(
        "challenge = \"http-01\"\nchallenge_http = \"127.0.0.1:{http}\"\ndoors = [\"people\"]\n\
         eab_key_id = \"kid-1\"\neab_key_file = {file:?}\n"
    );
    configure(&home, directory, &more);
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let names = Names::leading_to(HERE);
    let ports = Ports {
        directory,
        management,
        http,
        tls: 1,
    };
    let settings = json!({
        "certificateValidityPeriod": 12,
        "externalAccountBindingRequired": true,
        "externalAccountMACKeys": { "kid-1": key },
    });
    let pebble = Pebble::start(&home, &ports, &names, &settings);
    let plane = home.start();
    let leaf = || acme(&plane)["chain"][0]["sha256"].clone();
    wait_until("the first certificate is shown", || leaf() != Value::Null);
    pebble.write_root(&home);
    let first = leaf();
    assert!(curl_sees(&home, &plane, NAME, "acme-root.pem"));
    // Plain HTTP answers a CA that looks, and nobody else.
    for path in ["/", "/healthz", "/.well-known/acme-challenge/x"] {
        let url = format!("http://127.0.0.1:{http}{path}");
        let arguments = ["-sS", "-o", "/dev/null", "-w", "%{http_code}", &url];
        assert_eq!(run(&home, "curl", &arguments, b"").text(), "404", "{path}");
    }
    wait_until("the second is shown", || leaf() != first);
    assert!(curl_sees(&home, &plane, NAME, "acme-root.pem"));
    let told = entries(&plane, SHOWN);
    assert_eq!(told.len(), 2);

    // The CA goes away: what it gave last stays, also when it has ended, and then that is told.
    drop(pebble);
    let second = leaf();
    wait_until("the renewal fails", || !trouble(&plane).is_empty());
    assert_eq!(leaf(), second);
    assert!(
        trouble(&plane).contains("no connection"),
        "{}",
        trouble(&plane)
    );
    wait_until("it has ended", || plane.get("/readyz").status == 503);
    let reasons = plane.get("/readyz").expect(503).json();
    assert!(
        reasons["errors"][0]
            .as_str()
            .unwrap()
            .contains("clients refuse it"),
        "{reasons}"
    );
    assert_eq!(leaf(), second);
}
