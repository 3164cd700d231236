//! What the agent weighs on a device: its program as it is built, and its memory while it is enrolled,
//! connected, publishes and reports.

use super::Setting;
use super::figure::{Figure, Name};
use super::server::{self, Durability, Kind, Server};
use anyhow::{Context, bail, ensure};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const DEVICE: &str = "weighed";
/// After so many reports it has done once all that it does again and again.
const REPORTS: u64 = 10;
/// It notes what it did once a minute.
const PATIENCE: Duration = Duration::from_secs(180);
const MEBIBYTE: f64 = 1024.0 * 1024.0;

pub fn bench(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    if setting.ours == Kind::Mosquitto {
        bail!("the agent speaks to ours alone; leave out --against-itself");
    }
    let program = crate::built(&crate::root_of_repository(), "release", "fleetward-agent");
    let bytes = fs::metadata(&program)
        .context("fleetward-agent is not built")?
        .len();
    let server = Server::fleetward(&setting.scratch, 1, Durability::Process)?;
    let folder = setting.scratch.folder().join(DEVICE);
    make_identity(&folder)?;
    let list = folder.join("devices.csv");
    fs::write(
        &list,
        format!("serial,product,device\nSN-1,device,{DEVICE}\n"),
    )?;
    let in_folder = |name: &str| folder.join(name).display().to_string();
    let (ca, list) = (in_folder("ca.pem"), in_folder("devices.csv"));
    server.operate(&[
        "identity",
        "manufacturer",
        "add",
        "--name",
        "factory",
        "--ca",
        &ca,
    ])?;
    server.operate(&["identity", "expect", "--manufacturer", "factory", &list])?;
    fs::write(folder.join("agent.toml"), configuration(&server)?)?;
    let mut agent = Agent::start(&program, folder)?;
    agent.wait_for_reports()?;
    let memory = |field| Ok::<_, anyhow::Error>(agent.kilobytes(field)? * 1024.0 / MEBIBYTE);
    let figures = [
        ("program, as it is built", bytes as f64 / MEBIBYTE, 8.0),
        ("resident memory, connected", memory("VmRSS:")?, 16.0),
        ("resident memory, most", memory("VmHWM:")?, 16.0),
    ];
    Ok(figures
        .into_iter()
        .map(|(figure, value, goal)| {
            let name = Name {
                bench: "agent",
                figure,
                unit: "MiB",
                goal: Some(goal),
                durability: "none",
            };
            Figure::alone(name, value, 1)
        })
        .collect())
}

/// A manufacturer's CA and the factory identity of one device, by the `openssl` program.
fn make_identity(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir(folder)?;
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30";
    for certificate in [
        "-subj /CN=factory -addext basicConstraints=critical,CA:TRUE \
         -addext keyUsage=critical,keyCertSign,cRLSign -keyout ca.key -out ca.pem",
        "-CA ca.pem -CAkey ca.key -subj /serialNumber=SN-1 \
         -addext basicConstraints=critical,CA:FALSE \
         -addext keyUsage=critical,digitalSignature -keyout idevid.key -out idevid.pem",
    ] {
        let output = Command::new("openssl")
            .args(new.split(' '))
            .args(certificate.split_whitespace())
            .current_dir(folder)
            .output()
            .context("cannot run openssl; apt-get install openssl")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "openssl: {said}");
    }
    Ok(())
}

/// A message and a report each second. What it sees of its own destinations it asks the kernel, so
/// that no rule of this machine's is touched.
fn configuration(server: &Server) -> anyhow::Result<String> {
    Ok(format!(
        "device = \"{DEVICE}\"\nproduct = \"device\"\nstate_dir = \"state\"\n\
         roots_file = {roots:?}\nidevid_certificate_file = \"idevid.pem\"\n\
         idevid_key_file = \"idevid.key\"\nreport_seconds = 1\n\
         [plane]\nest = \"localhost:{est}\"\nmqtt = \"localhost:{mqtt}\"\n\
         [[publish]]\ntopic = \"t/{{device}}/up\"\nevery_seconds = 1\n\
         [sources]\ndestinations = \"sock_diag\"\n",
        roots = server.credentials.folder.join("ca.pem"),
        est = server.est()?.port(),
        mqtt = server.address.port(),
    ))
}

/// Ended by its process id when dropped.
struct Agent {
    child: Child,
    folder: PathBuf,
}

impl Agent {
    fn start(program: &Path, folder: PathBuf) -> anyhow::Result<Self> {
        let log = fs::File::create(folder.join("log"))?;
        let child = Command::new(program)
            .arg("--config")
            .arg(folder.join("agent.toml"))
            .arg("run")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start fleetward-agent")?;
        Ok(Self { child, folder })
    }

    fn wait_for_reports(&mut self) -> anyhow::Result<()> {
        let (begun, log) = (Instant::now(), self.folder.join("log"));
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "fleetward-agent ended: {status}: {}",
                    server::last_words(&log)
                );
            }
            let status = fs::read(self.folder.join("state/status.json")).unwrap_or_default();
            let status: Value = serde_json::from_slice(&status).unwrap_or_default();
            let said = |name| status.get(name).unwrap_or(&Value::Null);
            let reports = said("report_sequence").as_u64().unwrap_or(0);
            if said("state") == "connected" && reports >= REPORTS {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!(
            "fleetward-agent does not report: {}",
            server::last_words(&log)
        )
    }

    /// A field of its status as the kernel writes it.
    fn kilobytes(&self, field: &str) -> anyhow::Result<f64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).context("fleetward-agent has ended")?;
        kilobytes_of(&status, field).with_context(|| format!("no {field} in its status"))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn kilobytes_of(status: &str, field: &str) -> Option<f64> {
    let value = status.lines().find_map(|line| line.strip_prefix(field))?;
    value.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        let status = "Name:\tx\nVmHWM:\t    8124 kB\nVmRSS:\t    7996 kB\n";
        assert_eq!(kilobytes_of(status, "VmHWM:"), Some(8124.0));
        assert_eq!(kilobytes_of(status, "VmRSS:"), Some(7996.0));
        assert_eq!(kilobytes_of(status, "VmPin:"), None);
    }
}
