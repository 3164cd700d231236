//! A plane as a process of its own: its folders, its start, its end, its log lines, and the acts
//! that most tests begin with.

use crate::fixture::{der_of, fleet, request};
use crate::http::{Answer, ask};
use model::{DeviceId, SerialNumber};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sim::credential::Key;
use sim::device::{Doors, Manner};
use sim::tls::Endpoint;
use sim::{Credential, Device, Factory, Flaw, Service};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// No wait for a condition is longer; none that succeeds is nearly as long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How the program is asked to end.
const STOP: Signal = Signal::TERM;

/// How the program is started: the one place that knows.
fn serve_command(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleetward"));
    command.args(["serve", "--config"]).arg(config);
    // A variable of this shell would win over the file.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FLEETWARD_") {
            command.env_remove(name);
        }
    }
    command
}

/// What a test wants otherwise than usual.
#[derive(Debug, Clone)]
pub struct Settings {
    pub shards: u16,
    /// `power` or `process`.
    pub durability: &'static str,
    /// Lines for `[listen]`.
    pub listen: String,
    /// Lines for `[gateway]`.
    pub gateway: String,
    /// Sections behind all others.
    pub more: String,
    pub tenant: &'static str,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            shards: 1,
            durability: "power",
            listen: String::new(),
            gateway: String::new(),
            more: String::new(),
            tenant: "acme",
        }
    }
}

/// Where a plane lives. Outlives its processes; gone with its folders when dropped.
pub struct Home {
    scratch: TempDir,
    pub factory: Factory,
}

impl Home {
    pub fn new(settings: &Settings) -> Self {
        let home = Self {
            scratch: tempfile::tempdir().unwrap(),
            factory: Factory::new("Acme Factory", sim::now()).unwrap(),
        };
        home.configure(settings);
        home
    }

    /// Writes the configuration anew, for the next start.
    pub fn configure(&self, settings: &Settings) {
        let any = "127.0.0.1:0";
        let text = format!(
            "data_dir = {:?}\ntenant = {:?}\nserver_names = [\"localhost\", \"127.0.0.1\"]\n\
             [listen]\npeople = \"{any}\"\ndevices = \"{any}\"\nmqtt = \"{any}\"\n{}\n\
             [gateway]\nshards = {}\ndurability = {:?}\n{}\n{}\n",
            self.data_dir(),
            settings.tenant,
            settings.listen,
            settings.shards,
            settings.durability,
            settings.gateway,
            settings.more,
        );
        self.write("plane.toml", text.as_bytes());
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub fn data_dir(&self) -> PathBuf {
        self.path("data")
    }

    pub fn log_dir(&self) -> PathBuf {
        self.path("data-log")
    }

    /// Starts the program and waits until every door answers.
    #[track_caller]
    pub fn start(&self) -> Plane {
        match self.try_start() {
            Ok(plane) => plane,
            Err(ended) => panic!(
                "the plane did not start ({}):\n{}",
                ended.0,
                ended.1.join("\n")
            ),
        }
    }

    /// Starts the program and waits until every door answers, or it has ended: then how, and all
    /// that it said.
    pub fn try_start(&self) -> Result<Plane, (ExitStatus, Vec<String>)> {
        self.try_start_with(&[])
    }

    /// As [`Self::start`], with more in its environment.
    #[track_caller]
    pub fn start_with(&self, environment: &[(&str, &Path)]) -> Plane {
        match self.try_start_with(environment) {
            Ok(plane) => plane,
            Err(ended) => panic!(
                "the plane did not start ({}):\n{}",
                ended.0,
                ended.1.join("\n")
            ),
        }
    }

    fn try_start_with(
        &self,
        environment: &[(&str, &Path)],
    ) -> Result<Plane, (ExitStatus, Vec<String>)> {
        let mut child = serve_command(&self.path("plane.toml"))
            .envs(environment.iter().copied())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Lines::default();
        let reader = lines.collect(child.stderr.take().unwrap());
        let serving = |line: &str| line.contains("serving people on ");
        let Some(line) = lines.wait_from(0, serving) else {
            let status = child.wait().unwrap();
            reader.join().unwrap();
            return Err((status, lines.from(0)));
        };
        let address = |before: &str| -> SocketAddr {
            let rest = line.split_once(before).unwrap().1;
            let end = rest.find([',', ';']).unwrap();
            rest[..end].parse().unwrap()
        };
        Ok(Plane {
            people: address("people on "),
            devices: address("devices on "),
            mqtt: address("MQTT on "),
            alpn: (line.contains("by ALPN on ")).then(|| address("by ALPN on ")),
            socket: self.data_dir().join("fleetward.sock"),
            child,
            lines,
            reader: Some(reader),
        })
    }

    /// A started plane that knows our factory and the fleet of these tests.
    pub fn start_prepared(&self) -> Plane {
        let plane = self.start();
        let manufacturer = json!({
            "manufacturer": "acme",
            "ca_pem": self.factory.certificate_pem(),
        });
        plane
            .post("/api/v1/identity/manufacturers", &manufacturer)
            .expect(201);
        plane.apply(&fleet());
        plane
    }

    /// A device with a true factory identity. Nobody expects it yet.
    pub fn device(&self, name: &str) -> Device {
        self.flawed_device(name, Flaw::None)
    }

    pub fn flawed_device(&self, name: &str, flaw: Flaw) -> Device {
        let serial = SerialNumber::new(&format!("SN-{name}")).unwrap();
        let idevid = self.factory.idevid(&serial, flaw, sim::now()).unwrap();
        Device::new(DeviceId::new(name).unwrap(), serial, idevid)
    }
}

/// A running plane. Dropping it kills the process, and tells its last lines if the test fails.
pub struct Plane {
    pub people: SocketAddr,
    pub devices: SocketAddr,
    pub mqtt: SocketAddr,
    pub alpn: Option<SocketAddr>,
    socket: PathBuf,
    child: Child,
    pub lines: Lines,
    reader: Option<JoinHandle<()>>,
}

/// What the log says of an act that was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    pub entry: u64,
    pub action: &'static str,
    pub object: String,
}

impl Plane {
    // ---- the API ----

    pub fn try_ask(
        &self,
        method: &str,
        path: &str,
        body: Option<(&str, &[u8])>,
    ) -> std::io::Result<Answer> {
        ask(&self.socket, method, path, body)
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.try_ask("GET", path, None).unwrap()
    }

    #[track_caller]
    pub fn post(&self, path: &str, json: &Value) -> Answer {
        self.send("POST", path, json)
    }

    #[track_caller]
    pub fn send(&self, method: &str, path: &str, json: &Value) -> Answer {
        let body = json.to_string();
        self.try_ask(method, path, Some(("application/json", body.as_bytes())))
            .unwrap()
    }

    pub fn apply(&self, files: &[(&str, String)]) {
        let files: Vec<Value> = files
            .iter()
            .map(|(path, text)| json!({ "path": path, "text": text }))
            .collect();
        self.send("PUT", "/api/v1/access/fleet", &json!({ "files": files }))
            .expect(200);
    }

    /// Puts devices on the list; all are sensors.
    pub fn expect<'d>(&self, devices: impl IntoIterator<Item = &'d Device>) {
        let mut csv = "serial,product,device,groups\n".to_owned();
        for device in devices {
            csv.push_str(&format!("{},sensor,{},\n", device.serial(), device.id()));
        }
        self.expect_csv(&csv).expect(201);
    }

    pub fn expect_csv(&self, csv: &str) -> Answer {
        let path = "/api/v1/identity/expected-devices?manufacturer=acme";
        self.try_ask("POST", path, Some(("text/csv", csv.as_bytes())))
            .unwrap()
    }

    /// A key and a certificate for a service, as an operator would make them.
    pub fn certify(&self, service: &str) -> Credential {
        let key = Key::generate().unwrap();
        let csr_pem = sim::credential::pem("CERTIFICATE REQUEST", &request(&key));
        let path = format!("/api/v1/identity/services/{service}/certificates");
        let answer = self
            .post(&path, &json!({ "csr_pem": csr_pem }))
            .expect(201)
            .json();
        let pem = answer["certificate_pem"].as_str().unwrap();
        Credential::new(vec![der_of(pem)], key).unwrap()
    }

    /// The service `ingest`, subscribed to all that devices send once it connects.
    pub fn ingest(&self) -> Service {
        Service::new(
            "ingest".parse().unwrap(),
            self.doors().mqtt,
            self.certify("ingest").presented(),
            vec![("v1/sensor/+/telemetry/#".to_owned(), mqtt::Qos::AtLeastOnce)],
            Manner::default(),
        )
    }

    /// Revokes a device; `None` if the plane went away before it acknowledged.
    pub fn try_revoke(&self, device: &DeviceId) -> Option<Recorded> {
        let body = json!({ "device": device.as_str(), "reason": "key-compromise" }).to_string();
        let body = Some(("application/json", body.as_bytes()));
        let answer = self
            .try_ask("POST", "/api/v1/identity/revocations", body)
            .ok()?;
        Some(Recorded {
            entry: answer.expect(201).json()["recorded"]["entry"]
                .as_u64()
                .unwrap(),
            action: "identity.device-revoked",
            object: format!("device/{device}"),
        })
    }

    #[track_caller]
    pub fn revoke(&self, device: &DeviceId) -> Recorded {
        self.try_revoke(device).expect("the plane answers")
    }

    /// All entries of the log.
    pub fn entries(&self) -> Vec<Value> {
        let mut all: Vec<Value> = Vec::new();
        loop {
            let path = format!("/api/v1/audit/entries?limit=1000&from={}", all.len());
            let page = self.get(&path).expect(200).json();
            let page = page.as_array().unwrap();
            if page.is_empty() {
                return all;
            }
            all.extend(page.iter().cloned());
        }
    }

    /// How many acts the log holds. That somebody tries the doors may open an incident, whose
    /// lines stand there too; it grants nobody anything.
    pub fn acts(&self) -> usize {
        let is_act = |entry: &&Value| {
            let action = entry["action"].as_str().unwrap();
            !action.starts_with("response.incident-")
        };
        self.entries().iter().filter(is_act).count()
    }

    /// The key that verifies the log.
    pub fn vkey(&self) -> String {
        self.get("/api/v1/audit/key").expect(200).json()["vkey"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Waits until everything recorded so far is in the published checkpoint; its size.
    pub fn wait_published(&self) -> u64 {
        let mut size = 0;
        wait_until("the log is published", || {
            let entries = self.entries();
            size = entries.len() as u64;
            entries.last().is_some_and(|last| last["proven"] == true)
        });
        size
    }

    /// One number of `/metrics`, summed over its labels.
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics").expect(200).text();
        let of_name = |line: &&str| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with([' ', '{']))
        };
        let values: Vec<u64> = text
            .lines()
            .filter(of_name)
            .map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
            .collect();
        assert!(!values.is_empty(), "no {name} in\n{text}");
        values.iter().sum()
    }

    /// Principals with a connected session, in order.
    pub fn connected(&self) -> Vec<String> {
        let sessions = self.get("/api/v1/gateway/sessions").expect(200).json();
        let mut names: Vec<String> = sessions
            .as_array()
            .unwrap()
            .iter()
            .filter(|session| session["connected"] == true)
            .map(|session| session["principal"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    }

    // ---- the doors ----

    /// The root certificate, DER.
    pub fn root(&self) -> Vec<u8> {
        der_of(&self.get("/api/v1/identity/ca").expect(200).text())
    }

    pub fn doors(&self) -> Doors {
        let roots = [self.root()];
        Doors {
            est: Endpoint::new(self.devices, "localhost", &roots).unwrap(),
            mqtt: Endpoint::new(self.mqtt, "localhost", &roots).unwrap(),
        }
    }

    // ---- the process ----

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Memory in use, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024
    }

    /// kill -9.
    pub fn kill(self) {
        self.kill_now();
    }

    /// kill -9 while others still speak to it.
    pub fn kill_now(&self) {
        kill_process(Pid::from_child(&self.child), Signal::KILL).unwrap();
    }

    /// It stands still until [`Self::resume`]; the kernel takes in what it is sent.
    pub fn pause(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
    }

    pub fn resume(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }

    /// Asks it to end and waits for that; how it ended and all that it said.
    pub fn stop(mut self) -> (ExitStatus, Vec<String>) {
        kill_process(Pid::from_child(&self.child), STOP).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "the plane does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        self.reader.take().unwrap().join().unwrap();
        (status, self.lines.from(0))
    }

    /// Asks it to end, which must go well.
    #[track_caller]
    pub fn stop_well(self) -> Vec<String> {
        let (status, lines) = self.stop();
        assert!(status.success(), "{status}\n{}", lines.join("\n"));
        lines
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let lines = self.lines.from(0);
            let from = lines.len().saturating_sub(40);
            println!("the plane's last lines:\n{}", lines[from..].join("\n"));
        }
    }
}

/// The log lines of a process, as they come.
#[derive(Clone, Default)]
pub struct Lines(Arc<(Mutex<Said>, Condvar)>);

#[derive(Default)]
struct Said {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    pub fn collect(&self, said: impl Read + Send + 'static) -> JoinHandle<()> {
        let lines = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(said).split(b'\n') {
                let Ok(line) = line else { break };
                lines
                    .lock()
                    .lines
                    .push(String::from_utf8_lossy(&line).into_owned());
                lines.0.1.notify_all();
            }
            lines.lock().ended = true;
            lines.0.1.notify_all();
        })
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub fn mark(&self) -> usize {
        self.lock().lines.len()
    }

    /// Those from a mark on.
    pub fn from(&self, mark: usize) -> Vec<String> {
        self.lock().lines[mark..].to_vec()
    }

    /// Waits for the first line from `mark` on that fits. `None` if the process ends without.
    pub fn wait_from(&self, mark: usize, fits: impl Fn(&str) -> bool) -> Option<String> {
        let find = |said: &Said| said.lines[mark..].iter().find(|line| fits(line)).cloned();
        let (said, timeout) = self
            .0
            .1
            .wait_timeout_while(self.lock(), PATIENCE, |said| {
                !said.ended && find(said).is_none()
            })
            .unwrap_or_else(PoisonError::into_inner);
        assert!(
            !timeout.timed_out(),
            "the line did not come; since the mark:\n{}",
            said.lines[mark..].join("\n")
        );
        find(&said)
    }

    /// Waits for a line from `mark` on that holds this text.
    #[track_caller]
    pub fn wait_for(&self, mark: usize, text: &str) -> String {
        self.wait_from(mark, |line| line.contains(text))
            .unwrap_or_else(|| panic!("the plane ended without saying {text:?}"))
    }
}

/// Waits for a condition that the outside shows, asking often.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A flag that goes up even if the test fails, so that the threads that watch it end.
pub struct RaiseOnDrop<'f>(pub &'f AtomicBool);

impl Drop for RaiseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
