//! A real Mosquitto that the fleet still uses: its live sessions end by our revocation.

use super::{House, PATIENCE, blocking};
use crate::certify::status;
use crate::tasks::carry;
use identity::crl::Shard;
use model::{DeviceId, RevocationReason};
use mqtt::{Connect, Version};
use sim::tls::{Client, Endpoint, Options};
use sim::{Credential, Session};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

const PLUGIN: &str = "/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so";

/// Killed when the test ends.
struct Broker(Child);

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {said}");
}

/// A CA of the broker's operator, its server certificate, and one for the control listener.
fn make_operators_files(folder: &Path) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(
        folder,
        &format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=broker-ca -days 2"),
    );
    std::fs::write(folder.join("ext"), "subjectAltName=DNS:localhost\n").unwrap();
    for name in ["localhost", "fleetward"] {
        openssl(
            folder,
            &format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"),
        );
        openssl(
            folder,
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem \
                 -days 2 -extfile ext"
            ),
        );
    }
}

/// Below the ports that the system gives to whoever asks for any: those of other tests are there, and
/// one of them could take it before the broker does.
fn free_ports() -> (u16, u16) {
    let first = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    let mut free = (first..).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    (free.next().unwrap(), free.next().unwrap())
}

const DYNAMIC_SECURITY: &str = r##"{
  "defaultACLAccess": {"publishClientSend": false, "publishClientReceive": true,
    "subscribe": false, "unsubscribe": true},
  "clients": [
    {"username": "fleetward", "roles": [{"rolename": "revoker"}]},
    {"username": "cam-1", "roles": [{"rolename": "device"}]},
    {"username": "cam-2", "roles": [{"rolename": "device"}]}],
  "roles": [
    {"rolename": "revoker", "acls": [
      {"acltype": "publishClientSend", "topic": "$CONTROL/dynamic-security/#", "allow": true},
      {"acltype": "publishClientReceive", "topic": "$CONTROL/dynamic-security/#", "allow": true},
      {"acltype": "subscribePattern", "topic": "$CONTROL/dynamic-security/#", "allow": true}]},
    {"rolename": "device", "acls": [
      {"acltype": "publishClientSend", "topic": "up/#", "allow": true}]}]
}"##;

fn start(folder: &Path, devices: u16, control: u16) -> Broker {
    std::fs::write(folder.join("dynamic.json"), DYNAMIC_SECURITY).unwrap();
    let user = if rustix::process::geteuid().is_root() {
        "user root\n"
    } else {
        ""
    };
    let common = "certfile localhost.pem\nkeyfile localhost.key\nrequire_certificate true\n\
                  use_identity_as_username true\n";
    let text = format!(
        "{user}per_listener_settings false\nallow_anonymous false\nplugin {PLUGIN}\n\
         plugin_opt_config_file {}\nlistener {devices} 127.0.0.1\ncafile fleet.pem\n\
         crlfile fleet.crl\n{common}listener {control} 127.0.0.1\ncafile ca.pem\n{common}",
        folder.join("dynamic.json").display()
    );
    std::fs::write(folder.join("mosquitto.conf"), text).unwrap();
    let child = Command::new("mosquitto")
        .args(["-c", "mosquitto.conf"])
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let broker = Broker(child);
    let deadline = Instant::now() + PATIENCE;
    for port in [devices, control] {
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "mosquitto does not start");
        }
    }
    broker
}

/// A session that said something; else what stood in the way.
async fn session(
    at: &Endpoint,
    device: &DeviceId,
    credential: &Credential,
) -> Result<Session, sim::Refusal> {
    let (at, shown, name) = (at.clone(), credential.presented(), device.to_string());
    blocking(move || {
        let client = Client::new(&at, Some(&shown), &Options::default()).unwrap();
        let mut session = Session::open(&client, &Connect::new(Version::V311, &name), PATIENCE)?;
        session.publish("up/hello", b"x")?;
        Ok(session)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn mosquittos_live_session_ends_by_our_revocation_and_does_not_come_back() {
    let is_here = |program: &str| Command::new(program).arg("-h").output().is_ok();
    if !is_here("mosquitto") || !is_here("openssl") || !Path::new(PLUGIN).exists() {
        println!("skipped: no mosquitto with its dynamic security plugin, or no openssl");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().to_owned();
    make_operators_files(&folder);
    let (devices, control) = free_ports();
    let file = |name: &str| folder.join(name);
    // As the page has it, with this house's places.
    let (_, more) = (include_str!("../../../../docs/identity/revocation.md"))
        .split_once("```toml\n[brokers]\n")
        .unwrap();
    let more = more.split("```").next().unwrap();
    let more = [
        ("/etc/mosquitto/fleet.crl", file("fleet.crl")),
        ("/run/mosquitto/mosquitto.pid", file("pid")),
        ("/etc/fleetward/broker-ca.pem", file("ca.pem")),
        ("/etc/fleetward/broker-client.pem", file("fleetward.pem")),
        ("/etc/fleetward/broker-client.key", file("fleetward.key")),
    ]
    .into_iter()
    .fold(format!("[brokers]\n{more}"), |text, (named, here)| {
        text.replace(named, &here.display().to_string())
    })
    .replace("localhost:8885", &format!("localhost:{control}"));
    let house = House::with_config(&["cam-1", "cam-2"], &more).await;
    let (first, second) = (
        house.connected("cam-1").await,
        house.connected("cam-2").await,
    );
    let tree = house.plane.tree();
    let pem: String = (tree.published())
        .map(|der| crate::pem::encode("CERTIFICATE", der))
        .collect();
    std::fs::write(file("fleet.pem"), pem).unwrap();
    let issuer = tree.for_device(None).unwrap().issuer.id();
    let list = status::list(&house.plane, issuer, Shard::WHOLE).await;
    let list = crate::pem::encode("X509 CRL", &list.unwrap().unwrap());
    std::fs::write(file("fleet.crl"), list).unwrap();
    let broker = {
        let folder = folder.clone();
        blocking(move || start(&folder, devices, control)).await
    };
    let ca = crate::pem::decode(
        &std::fs::read_to_string(file("ca.pem")).unwrap(),
        &["CERTIFICATE"],
    )
    .unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], devices));
    let at = Endpoint::new(address, "localhost", &[ca]).unwrap();
    let shown = |device: &sim::Device| device.ldevid().unwrap().clone();
    let mut held = session(&at, first.id(), &shown(&first)).await.unwrap();
    let mut other = session(&at, second.id(), &shown(&second)).await.unwrap();
    // Whoever serves has its handlers: a SIGHUP before that ends Mosquitto.
    std::fs::write(file("pid"), broker.0.id().to_string()).unwrap();
    let (stopping, stopped) = watch::channel(false);
    let task = tokio::spawn(carry::run(Arc::clone(&house.plane), stopped));

    house
        .revoke("device/cam-1", RevocationReason::CertificateHold)
        .await;
    let ended = blocking(move || held.next(Instant::now() + PATIENCE).unwrap_err()).await;
    assert!(ended.is_by_server(), "{ended}");
    // The list went first; when Mosquitto reads it is its own affair.
    let deadline = Instant::now() + PATIENCE;
    while session(&at, first.id(), &shown(&first)).await.is_ok() {
        assert!(Instant::now() < deadline, "it comes back and back");
    }
    let other = blocking(move || {
        other.publish("up/still", b"here").unwrap();
        other
    })
    .await;

    house.release("device/cam-1").await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    let back = loop {
        if let Ok(session) = session(&at, first.id(), &shown(&first)).await {
            break session;
        }
        assert!(Instant::now() < deadline, "it is not taken in again");
    };
    drop((back, other));
    let (_, waiting) = house.plane.store.outbox_of("mosquitto").unwrap();
    assert!(waiting <= 1, "{waiting} messages wait");
    stopping.send_replace(true);
    task.await.unwrap();
    drop(broker);
    house.end().await;
}
