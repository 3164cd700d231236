//! The plane as its own process, and the demo's words with it over the local socket.

use super::console::Console;
use crate::client::{Ask, Client};
use anyhow::{Context, bail};
use audit::Vkey;
use serde::Deserialize;
use serde_json::{Value, json};
use sim::credential::{Key, request_pem};
use sim::device::Doors;
use sim::tls::Endpoint;
use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What the demo's plane promises of an acknowledged message: see `gateway.durability`.
pub const DURABILITY: &str = "power";

/// A bundle of the demo's log, with room to spare.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(60);

/// Names of scratch folders, with the demo's process id behind them.
const SCRATCH: &str = "fleetward-demo-";
const KEPT: &str = "fleetward-demo-kept-";

/// A folder that goes away with the demo, unless it is to be kept.
pub struct Scratch {
    path: PathBuf,
    keep: bool,
}

impl Scratch {
    pub fn make(keep: bool) -> anyhow::Result<Self> {
        let temporary = std::env::temp_dir();
        sweep(&temporary);
        let prefix = if keep { KEPT } else { SCRATCH };
        let path = temporary.join(format!("{prefix}{}", std::process::id()));
        // Private keys will lie in it.
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Self { path, keep })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes what demos left behind that were killed before they could.
fn sweep(temporary: &Path) {
    for entry in std::fs::read_dir(temporary).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(SCRATCH));
        let pid = pid.and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Another user's is not ours to remove, and the system says so.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed is left to whoever cleans the system's scratch space.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// A running `fleetward serve`; killed when dropped.
pub struct PlaneProcess {
    child: Child,
    client: Client,
    addresses: Addresses,
}

#[derive(Debug, Deserialize)]
struct Addresses {
    devices: SocketAddr,
    mqtt: SocketAddr,
}

/// A revocation's receipt, as far as the demo tells of it.
#[derive(Debug, Deserialize)]
pub struct Revoked {
    pub in_force_after_micros: u64,
    pub recorded: Recorded,
}

#[derive(Debug, Deserialize)]
pub struct Recorded {
    /// Index in the log.
    pub entry: u64,
}

#[derive(Debug, Deserialize)]
struct LogKey {
    vkey: String,
}

#[derive(Debug, Deserialize)]
struct Issued {
    certificate_pem: String,
}

/// What the log proved.
pub struct Proof {
    pub entries: usize,
    pub verified: bool,
    pub warnings: Vec<String>,
}

/// Where a plane of the demo opens its doors.
#[derive(Debug, Clone)]
pub struct Place {
    pub devices: SocketAddr,
    pub mqtt: SocketAddr,
    /// What its certificate bears; the first is told to people.
    pub names: Vec<String>,
}

impl Place {
    /// On loopback, at ports of the system's choice.
    pub fn anywhere() -> Self {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            devices: anywhere,
            mqtt: anywhere,
            names: vec!["localhost".into(), "127.0.0.1".into()],
        }
    }
}

/// This very program, to be started again in another part.
pub fn own_program() -> anyhow::Result<Command> {
    Ok(Command::new(
        std::env::current_exe().context("this program's path")?,
    ))
}

impl PlaneProcess {
    /// Starts a plane, and returns when its doors answer. The people's door is `console` if one
    /// is given, and else a port of the system's choice.
    pub fn start(scratch: &Path, place: &Place, console: Option<&Console>) -> anyhow::Result<Self> {
        let config = scratch.join("fleetward.toml");
        let ready = scratch.join("ready.json");
        let data = scratch.join("data");
        let Place {
            devices,
            mqtt,
            names,
        } = place;
        let text = format!(
            "data_dir = {data:?}\nserver_names = {names:?}\n[listen]\npeople = \"127.0.0.1:0\"\n\
             devices = \"{devices}\"\nmqtt = \"{mqtt}\"\n\
             [gateway]\nshards = 2\ndurability = \"{DURABILITY}\"\n"
        );
        std::fs::write(&config, text)?;
        // A ready file of an earlier start would speak of ports that are gone.
        let _ = std::fs::remove_file(&ready);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(scratch.join("plane.log"))?;
        let mut stand_in = own_program()?;
        stand_in
            .args(["demo-part", "stand-in", "--parent"])
            .arg(std::process::id().to_string());
        match console {
            Some(console) => stand_in
                .args(["--listener", "people"])
                .stdin(console.to_inherit()?),
            None => stand_in.stdin(Stdio::null()),
        };
        let mut child = stand_in
            .arg("--")
            .arg(std::env::current_exe()?)
            .args(["serve", "--config"])
            .arg(&config)
            .arg("--ready-file")
            .arg(&ready)
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()?;
        let deadline = Instant::now() + PATIENCE;
        let addresses = loop {
            if let Some(status) = child.try_wait()? {
                bail!("the plane did not start ({status}): {}", last_line(scratch));
            }
            if let Ok(text) = std::fs::read_to_string(&ready) {
                break serde_json::from_str(&text)?;
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                bail!("the plane was not ready in time: {}", last_line(scratch));
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let client = Client::local(&data.join("fleetward.sock"))?;
        Ok(Self {
            child,
            client,
            addresses,
        })
    }

    /// Where its doors for devices and for MQTT are now.
    pub fn bound(&self) -> (SocketAddr, SocketAddr) {
        (self.addresses.devices, self.addresses.mqtt)
    }

    /// Asks the plane's API as its administrator.
    pub fn ask(&mut self, ask: Ask<'_>) -> anyhow::Result<Value> {
        self.client.json(ask)
    }

    /// A fresh link that signs a person in once; the plane leaves it in a file of its own.
    pub fn sign_in_link(&mut self, scratch: &Path) -> anyhow::Result<String> {
        self.client.json(Ask::post("/api/v1/access/admin-links"))?;
        let link = std::fs::read_to_string(scratch.join("data/admin-link"))?;
        Ok(link.trim().to_owned())
    }

    /// The certificates that prove the plane, PEM.
    pub fn roots_pem(&mut self) -> anyhow::Result<Vec<u8>> {
        self.client
            .bytes(Ask::get("/api/v1/identity/ca"), ANSWER_BYTES_MAX)
    }

    /// The doors for devices, with the root that proves them.
    pub fn doors(&mut self) -> anyhow::Result<Doors> {
        let root = pem_to_der(&String::from_utf8(self.roots_pem()?)?)?;
        let to = |address| Endpoint::new(address, "localhost", std::slice::from_ref(&root));
        Ok(Doors {
            est: to(self.addresses.devices)?,
            mqtt: to(self.addresses.mqtt)?,
        })
    }

    /// The key that verifies the log: noted at the start, as an auditor would.
    pub fn log_key(&mut self) -> anyhow::Result<Vkey> {
        let key: LogKey = serde_json::from_value(self.client.json(Ask::get("/api/v1/audit/key"))?)?;
        Ok(key.vkey.parse()?)
    }

    /// Everything that must be said before the first device comes.
    pub fn register(
        &mut self,
        manufacturer: &str,
        ca_pem: &str,
        expected_csv: String,
        fleet: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        let ca = json!({ "manufacturer": manufacturer, "ca_pem": ca_pem });
        self.client
            .json(Ask::post("/api/v1/identity/manufacturers").json(&ca))?;
        let list = format!("/api/v1/identity/expected-devices?manufacturer={manufacturer}");
        self.client
            .json(Ask::post(&list).text("text/csv", expected_csv))?;
        let files: Vec<Value> = fleet
            .iter()
            .map(|(path, text)| json!({ "path": path, "text": text }))
            .collect();
        let fleet = json!({ "files": files });
        self.client
            .json(Ask::put("/api/v1/access/fleet").json(&fleet))?;
        Ok(())
    }

    /// A certificate for a service, with a key that is born here.
    pub fn certify(&mut self, service: &str) -> anyhow::Result<sim::Credential> {
        let key = Key::generate()?;
        let request = json!({ "csr_pem": request_pem(&key, service)? });
        let path = format!("/api/v1/identity/services/{service}/certificates");
        let answer = self.client.json(Ask::post(&path).json(&request))?;
        let issued: Issued = serde_json::from_value(answer)?;
        let certificate = pem_to_der(&issued.certificate_pem)?;
        Ok(sim::Credential::new(vec![certificate], key)?)
    }

    pub fn revoke(&mut self, device: &str) -> anyhow::Result<Revoked> {
        let request = json!({ "device": device, "reason": "key-compromise" });
        let answer = self
            .client
            .json(Ask::post("/api/v1/identity/revocations").json(&request))?;
        Ok(serde_json::from_value(answer)?)
    }

    /// Fetches the whole log as a bundle and verifies it as an outsider would: by the key noted at
    /// the start, and only if the revocation's entry is in it.
    pub fn proof(&mut self, key: &Vkey, revocation: u64) -> anyhow::Result<Proof> {
        let bundle = self
            .client
            .bytes(Ask::get("/api/v1/audit/bundle"), ANSWER_BYTES_MAX)?;
        Ok(
            match audit::verify(&bundle, std::slice::from_ref(key), None) {
                Ok(verified) => Proof {
                    entries: verified.entries.len(),
                    verified: verified.entries.iter().any(|one| one.index == revocation),
                    warnings: verified.warnings.iter().map(ToString::to_string).collect(),
                },
                Err(failure) => Proof {
                    entries: 0,
                    verified: false,
                    warnings: vec![failure.to_string()],
                },
            },
        )
    }

    /// SIGKILL: nothing is flushed, nothing is said.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and the exit code must be 0.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        let pid = pid.context("a child without a process id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the plane ended with {status} after SIGTERM");
        }
        Ok(())
    }
}

impl Drop for PlaneProcess {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn pem_to_der(pem: &str) -> anyhow::Result<Vec<u8>> {
    use base64::Engine;
    let body: String = pem
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    base64::engine::general_purpose::STANDARD
        .decode(body.trim())
        .context("the plane's certificate is not PEM")
}

fn last_line(scratch: &Path) -> String {
    let log = std::fs::read_to_string(scratch.join("plane.log")).unwrap_or_default();
    log.lines().last().unwrap_or("it said nothing").to_owned()
}
