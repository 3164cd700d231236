//! A real Mosquitto that the fleet still uses: its live sessions end by our revocation.

use super::{House, PATIENCE, blocking};
use crate::broker::{AGAIN, Broker as Kind};
use crate::certify::{authorities, status};
use crate::entries::Actor;
use crate::shared::Locked;
use crate::tasks::carry;
use identity::crl::Shard;
use model::{DeviceId, RevocationReason};
use mqtt::{Connect, Version};
use sim::tls::{Client, Endpoint, Options};
use sim::{Credential, Session};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

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

/// For the devices that take the place of `CLIENTS`.
const DYNAMIC_SECURITY: &str = r##"{
  "defaultACLAccess": {"publishClientSend": false, "publishClientReceive": true,
    "subscribe": false, "unsubscribe": true},
  "clients": [
    CLIENTS{"username": "fleetward", "roles": [{"rolename": "revoker"}]}],
  "roles": [
    {"rolename": "revoker", "acls": [
      {"acltype": "publishClientSend", "topic": "$CONTROL/dynamic-security/#", "allow": true},
      {"acltype": "publishClientReceive", "topic": "$CONTROL/dynamic-security/#", "allow": true},
      {"acltype": "subscribePattern", "topic": "$CONTROL/dynamic-security/#", "allow": true}]},
    {"rolename": "device", "acls": [
      {"acltype": "publishClientSend", "topic": "up/#", "allow": true}]}]
}"##;

fn start(folder: &Path, devices: u16, control: u16, names: &str) -> Broker {
    let clients: String = (names.split(' '))
        .map(|name| format!(r#"{{"username": "{name}", "roles": [{{"rolename": "device"}}]}},"#))
        .collect();
    let text = DYNAMIC_SECURITY.replace("CLIENTS", &clients);
    std::fs::write(folder.join("dynamic.json"), text).unwrap();
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

/// Hands a SIGHUP on a fifth of a second later.
fn delayed(pid: u32) -> Broker {
    let script =
        format!("trap 'sleep 0.2; kill -HUP {pid}' HUP; echo ready; while :; do sleep 0.05; done");
    // A shell traps no signal that was ignored when it began, as nohup has it.
    let mut child = Command::new("env")
        .args(["--default-signal=HUP", "sh", "-c", &script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // A SIGHUP that came before the trap would end it.
    let mut said = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut said).unwrap();
    assert_eq!(said, "ready\n");
    Broker(child)
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

/// A broker that the fleet still uses, beside a plane that carries its revocations there.
struct Both {
    house: House,
    broker: Broker,
    /// Stands between the plane's SIGHUP and Mosquitto, if it is to take its time.
    delay: Option<Broker>,
    at: Endpoint,
    stopping: watch::Sender<bool>,
    task: JoinHandle<()>,
    _scratch: tempfile::TempDir,
}

impl Both {
    /// With these devices; those after the first are certified by the next issuing CA. `None`: a
    /// program is missing.
    async fn with(names: &[&str], slow: bool) -> Option<(Self, Vec<sim::Device>)> {
        let is_here = |program: &str| Command::new(program).arg("-h").output().is_ok();
        if !is_here("mosquitto") || !is_here("openssl") || !Path::new(PLUGIN).exists() {
            println!("skipped: no mosquitto with its dynamic security plugin, or no openssl");
            return None;
        }
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().to_owned();
        make_operators_files(&folder);
        let (devices, control) = free_ports();
        let file = |name: &str| folder.join(name);
        let more = format!(
            "[brokers]\nmosquitto_crl_file = {:?}\nmosquitto_pid_file = {:?}\n\
             mosquitto_address = \"localhost:{control}\"\n\
             mosquitto_fleet_address = \"localhost:{devices}\"\nmosquitto_roots_file = {:?}\n\
             mosquitto_certificate_file = {:?}\nmosquitto_key_file = {:?}\n",
            file("fleet.crl"),
            file("pid"),
            file("ca.pem"),
            file("fleetward.pem"),
            file("fleetward.key"),
        );
        let house = House::with_config(names, &more).await;
        let mut all = Vec::new();
        for (number, name) in names.iter().enumerate() {
            if number == 1 {
                let standard = "default".parse().unwrap();
                authorities::create(&house.plane, standard, None, &Actor::Plane)
                    .await
                    .unwrap();
            }
            all.push(house.connected(name).await);
        }
        let tree = house.plane.tree();
        let pem: String = (tree.published())
            .map(|der| crate::pem::encode("CERTIFICATE", der))
            .collect();
        std::fs::write(file("fleet.pem"), pem).unwrap();
        let mut lists = String::new();
        for one in tree.believed() {
            let list = status::list(&house.plane, one.issuer.id(), Shard::WHOLE).await;
            lists += &crate::pem::encode("X509 CRL", &list.unwrap().unwrap());
        }
        std::fs::write(file("fleet.crl"), lists).unwrap();
        let broker = {
            let (folder, names) = (folder.clone(), names.join(" "));
            blocking(move || start(&folder, devices, control, &names)).await
        };
        let ca = crate::pem::decode(
            &std::fs::read_to_string(file("ca.pem")).unwrap(),
            &["CERTIFICATE"],
        )
        .unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], devices));
        let at = Endpoint::new(address, "localhost", &[ca]).unwrap();
        // Whoever serves has its handlers: a SIGHUP before that ends Mosquitto.
        let first = all.first().unwrap();
        drop(
            session(&at, first.id(), first.ldevid().unwrap())
                .await
                .unwrap(),
        );
        let delay = slow.then(|| delayed(broker.0.id()));
        let told = delay.as_ref().unwrap_or(&broker);
        std::fs::write(file("pid"), told.0.id().to_string()).unwrap();
        let (stopping, stopped) = watch::channel(false);
        let plane = Arc::clone(&house.plane);
        let task = tokio::spawn(carry::run(plane, Kind::Mosquitto, stopped));
        let both = Self {
            house,
            broker,
            delay,
            at,
            stopping,
            task,
            _scratch: scratch,
        };
        Some((both, all))
    }

    /// Returns when all was carried. Mosquitto may be kept from reading its list for as long as devices
    /// come back; then it is asked again, after a pause that grows.
    async fn carried(&self) {
        let deadline = Instant::now() + 10 * PATIENCE;
        for channel in ["mosquitto", AGAIN] {
            loop {
                let (first, _) = self.house.plane.store.outbox_of(channel).unwrap();
                let Some(row) = first else {
                    break;
                };
                assert!(
                    Instant::now() < deadline,
                    "{channel}: {:?} waits",
                    row.last_error
                );
                tokio::task::yield_now().await;
            }
        }
    }

    async fn end(self) {
        self.stopping.send_replace(true);
        self.task.await.unwrap();
        drop((self.delay, self.broker));
        self.house.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mosquittos_live_session_ends_by_our_revocation_and_does_not_come_back() {
    // One test after the other, as they share ports.
    a_hold_bites_and_is_released().await;
    twenty_devices_that_come_back_at_once_end_barred(false).await;
    // As it is on a machine that has much else to do.
    twenty_devices_that_come_back_at_once_end_barred(true).await;
}

/// Devices of two issuing CAs, whose lists Mosquitto must have both to believe either.
async fn a_hold_bites_and_is_released() {
    let Some((both, devices)) = Both::with(&["cam-1", "cam-2"], false).await else {
        return;
    };
    let [first, second] = &devices[..] else {
        panic!("two devices");
    };
    let (at, shown) = (&both.at, |device: &sim::Device| {
        device.ldevid().unwrap().clone()
    });
    let mut held = session(at, first.id(), &shown(first)).await.unwrap();
    let mut other = session(at, second.id(), &shown(second)).await.unwrap();
    let hold = RevocationReason::CertificateHold;
    both.house.revoke("device/cam-1", hold).await;
    let ended = blocking(move || held.next(Instant::now() + PATIENCE).unwrap_err()).await;
    assert!(ended.is_by_server(), "{ended}");
    both.carried().await;
    let back = session(at, first.id(), &shown(first)).await;
    assert!(back.is_err(), "its list is in force, and it comes back");
    let other = blocking(move || {
        other.publish("up/still", b"here").unwrap();
        other
    })
    .await;
    both.house.release("device/cam-1").await.unwrap();
    both.carried().await;
    let deadline = Instant::now() + PATIENCE;
    let back = loop {
        if let Ok(session) = session(at, first.id(), &shown(first)).await {
            break session;
        }
        assert!(Instant::now() < deadline, "it is not taken in again");
    };
    // A new session of one CA's device after a list was read is proof that both are there.
    drop(session(at, second.id(), &shown(second)).await.unwrap());
    drop((back, other));
    both.end().await;
}

/// Each comes back as fast as it can for as long as it is let: between the end of its session and the
/// moment at which Mosquitto goes by the new list it may have one again, and at the end it has none.
/// Two are revoked at a time: of two lists within a second the second is not lost.
async fn twenty_devices_that_come_back_at_once_end_barred(slow: bool) {
    let names: Vec<String> = (1..=20).map(|number| format!("cam-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let Some((both, devices)) = Both::with(&names, slow).await else {
        return;
    };
    let (mut came_back, mut longest) = (0, Duration::ZERO);
    for pair in devices.chunks(2) {
        let fierce: Vec<Fierce> = (pair.iter())
            .map(|device| Fierce::start(&both.at, device))
            .collect();
        for one in &fierce {
            one.is_in().await;
        }
        for device in pair {
            let what = format!("device/{}", device.id());
            both.house
                .revoke(&what, RevocationReason::KeyCompromise)
                .await;
        }
        both.carried().await;
        for one in fierce {
            let sessions = one.refused_from_now_on().await;
            let first_end = sessions.first().unwrap().1;
            let last_end = sessions.last().unwrap().1;
            came_back += usize::from(sessions.len() > 1);
            longest = longest.max(last_end - first_end);
        }
    }
    // Or it would not be seen that sessions are ended once more.
    assert!(!slow || came_back > 0);
    println!(
        "with a {} Mosquitto, of 20 devices {came_back} had a session once more before the list was in force; the longest \
         was barred {longest:?} after its first session was ended",
        if slow { "slow" } else { "quick" }
    );
    both.end().await;
}

/// A client that does nothing but come back.
struct Fierce {
    seen: Arc<Locked<Seen>>,
    thread: std::thread::JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    /// From when until when.
    sessions: Vec<(Instant, Instant)>,
    is_in: bool,
    /// Since the last session.
    refused: usize,
    stop: bool,
}

impl Fierce {
    fn start(at: &Endpoint, device: &sim::Device) -> Self {
        let seen = Arc::<Locked<Seen>>::default();
        let (told, at, name) = (Arc::clone(&seen), at.clone(), device.id().to_string());
        let shown = device.ldevid().unwrap().presented();
        let thread = std::thread::spawn(move || {
            while !told.lock().stop {
                let client = Client::new(&at, Some(&shown), &Options::default()).unwrap();
                let connect = Connect::new(Version::V311, &name);
                match Session::open(&client, &connect, PATIENCE) {
                    Ok(mut session) => {
                        let from = Instant::now();
                        {
                            let mut seen = told.lock();
                            (seen.is_in, seen.refused) = (true, 0);
                        }
                        let _ = session.next(Instant::now() + PATIENCE);
                        let mut seen = told.lock();
                        seen.is_in = false;
                        seen.sessions.push((from, Instant::now()));
                    }
                    Err(_) => told.lock().refused += 1,
                }
            }
        });
        Self { seen, thread }
    }

    async fn is_in(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.seen.lock().is_in {
            assert!(Instant::now() < deadline, "it never comes in");
            tokio::task::yield_now().await;
        }
    }

    /// All was carried: it has no session now and gets none any more.
    async fn refused_from_now_on(self) -> Vec<(Instant, Instant)> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            {
                let seen = self.seen.lock();
                assert!(
                    Instant::now() < deadline,
                    "it is in and stays: {:?}",
                    seen.sessions
                );
                if !seen.is_in && seen.refused >= 5 {
                    break;
                }
            }
            tokio::task::yield_now().await;
        }
        self.seen.lock().stop = true;
        let seen = Arc::clone(&self.seen);
        blocking(move || self.thread.join().unwrap()).await;
        let seen = seen.lock();
        assert!(!seen.is_in && !seen.sessions.is_empty());
        seen.sessions.clone()
    }
}
