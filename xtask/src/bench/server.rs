//! The servers under test. What differs between ours and the peer is here and nowhere else.

use super::cpu::{Account, Reading};
use super::credentials::Credentials;
use anyhow::{Context, bail, ensure};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Fleetward,
    Mosquitto,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Fleetward => "fleetward",
            Self::Mosquitto => "mosquitto",
        }
    }

    /// What an acknowledgement of this server outlives, as the benches run it.
    pub fn durability(self) -> &'static str {
        match self {
            // The consumer's session is clean, so nothing is journalled on either side.
            Self::Fleetward | Self::Mosquitto => "none",
        }
    }
}

/// A server of its own process and control group, ended by its process id when dropped.
pub struct Server {
    kind: Kind,
    child: Child,
    account: Account,
    pub address: SocketAddr,
    /// Who may connect: the names of `credentials.rs`.
    pub credentials: Credentials,
}

impl Server {
    /// Mosquitto as an operator would secure it for this work: mutual TLS with a revocation list,
    /// an access list by certificate name, nothing written to disk.
    ///
    /// # Errors
    /// If it is not installed or does not listen within ten seconds; with its last words.
    pub fn mosquitto(scratch: &Scratch, devices: usize) -> anyhow::Result<Self> {
        let program = Path::new("/usr/sbin/mosquitto");
        ensure!(
            program.exists(),
            "{} is missing; apt-get install mosquitto",
            program.display()
        );
        let credentials = Credentials::create(&scratch.0.join("credentials"), devices)?;
        let address = free_address()?;
        let folder = scratch.0.join(format!("mosquitto-{}", address.port()));
        std::fs::create_dir_all(&folder)?;
        let access = folder.join("access");
        std::fs::write(&access, MOSQUITTO_ACCESS)?;
        let configuration = folder.join("mosquitto.conf");
        std::fs::write(
            &configuration,
            mosquitto_configuration(address, &credentials.folder, &access),
        )?;
        Self::start(
            Kind::Mosquitto,
            program,
            &["-c".as_ref(), configuration.as_os_str()],
            &folder,
            address,
            credentials,
        )
    }

    /// `fleetward serve` on a fresh data folder, with `devices` enrolled and one consumer.
    ///
    /// To be wired when `fleetward serve` and `sim` stand together:
    /// 1. write a configuration into a folder of `scratch` with loopback ports, then
    ///    `Self::start(Kind::Fleetward, &fleetward_program(), &["serve", "--config", ..], ..)`;
    /// 2. register the simulated factory, import `devices` serials, apply a fleet whose channels
    ///    are `t/{device}/up`, and let `sim` enroll them;
    /// 3. write the LDevIDs under the names of `credentials.rs`, the plane's root as `ca.pem`;
    ///    the server's certificate must bear `localhost`.
    ///
    /// # Errors
    /// Always, until then: a figure of ours that was not measured must not be printed.
    pub fn fleetward(_scratch: &Scratch, devices: usize) -> anyhow::Result<Self> {
        bail!(
            "the bench cannot start fleetward with {devices} enrolled devices yet; \
             --against-itself runs the harness with the peer on both sides"
        )
    }

    fn start(
        kind: Kind,
        program: &Path,
        arguments: &[&std::ffi::OsStr],
        folder: &Path,
        address: SocketAddr,
        credentials: Credentials,
    ) -> anyhow::Result<Self> {
        let account = Account::open();
        let log = folder.join("log");
        let output = std::fs::File::create(&log)?;
        let child = account
            .enclose(program, arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut server = Self {
            kind,
            child,
            account,
            address,
            credentials,
        };
        server.wait_until_it_listens(&log)?;
        Ok(server)
    }

    fn wait_until_it_listens(&mut self, log: &Path) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended: {status}: {}", self.kind.name(), last_words(log));
            }
            if TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("{} does not listen: {}", self.kind.name(), last_words(log))
    }

    /// # Errors
    /// If the account is gone.
    pub fn cpu(&self) -> anyhow::Result<Reading> {
        self.account.read(self.child.id())
    }

    /// Who keeps the account of its CPU time.
    pub fn account(&self) -> &'static str {
        self.account.name()
    }

    /// Memory in use now. Kernel memory of its sockets is in nobody's figure.
    ///
    /// # Errors
    /// If the server has ended.
    pub fn resident_kilobytes(&self) -> anyhow::Result<f64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).context("the server has ended")?;
        resident_of(&status).context("no VmRSS in /proc/<pid>/status")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Milliseconds from the request to revoke a device to the last of its packets that was accepted,
/// once per revocation, each of another device that is publishing at the time.
///
/// To be wired with `Server::fleetward`: `sim` is asked for the devices and for the moment of the
/// last acknowledgement, the plane's API for the revocation.
///
/// # Errors
/// Always, until then.
pub fn revocations(_scratch: &Scratch, count: usize) -> anyhow::Result<Vec<f64>> {
    bail!("the bench cannot measure {count} revocations of fleetward yet")
}

/// # Errors
/// If ours does not build.
pub fn build(root: &Path) -> anyhow::Result<()> {
    crate::steps::cargo(root, &["build", "--release", "--locked", "-p", "fleetward"])
}

/// # Errors
/// If it is not installed.
pub fn mosquitto_version() -> anyhow::Result<String> {
    let output = Command::new("/usr/sbin/mosquitto")
        .arg("-h")
        .output()
        .context("cannot run mosquitto; apt-get install mosquitto")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.lines().next().and_then(|line| line.split(' ').nth(2));
    Ok(format!(
        "mosquitto {}",
        version.unwrap_or("of unknown version")
    ))
}

/// A folder of ours alone, removed with everything in it.
pub struct Scratch(PathBuf);

impl Scratch {
    /// # Errors
    /// If the folder for temporary files is not writable.
    pub fn new() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("fleetward-bench-{}", std::process::id()));
        std::fs::create_dir(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let scratch = Self(folder);
        std::fs::set_permissions(
            &scratch.0,
            std::os::unix::fs::PermissionsExt::from_mode(0o700),
        )?;
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// `%u` is the certificate's common name.
const MOSQUITTO_ACCESS: &str = "\
pattern write t/%u/up
pattern read t/%u/down
user consumer
topic read t/+/up
";

/// The consumer's queue is unlimited, or Mosquitto would drop messages at the higher rate. The 20
/// messages in flight of its default stay: without a limit it spends its time searching them.
/// `user root` keeps it from changing to a user who may not read the scratch folder.
fn mosquitto_configuration(address: SocketAddr, credentials: &Path, access: &Path) -> String {
    let file = |name: &str| credentials.join(name).display().to_string();
    format!(
        "user root\n\
         persistence false\n\
         log_dest stderr\n\
         log_type error\n\
         log_type warning\n\
         set_tcp_nodelay true\n\
         max_queued_messages 0\n\
         allow_anonymous false\n\
         acl_file {access}\n\
         listener {port} {ip}\n\
         cafile {ca}\n\
         certfile {certificate}\n\
         keyfile {key}\n\
         crlfile {crl}\n\
         require_certificate true\n\
         use_identity_as_username true\n",
        access = access.display(),
        port = address.port(),
        ip = address.ip(),
        ca = file("ca.pem"),
        certificate = file("server.pem"),
        key = file("server.key"),
        crl = file("crl.pem"),
    )
}

/// Free a moment ago: who takes it in between makes the server fail loudly, not the figure wrong.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn resident_of(status: &str) -> Option<f64> {
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?
        .trim()
        .strip_suffix(" kB")?
        .parse()
        .ok()
}

fn last_words(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_kilobytes() {
        assert_eq!(
            resident_of("VmHWM:\t 9000 kB\nVmRSS:\t    8123 kB\n"),
            Some(8123.0)
        );
        assert_eq!(resident_of("Name:\tx\n"), None);
    }

    #[test]
    fn the_peer_is_secured_as_ours_is() {
        let text = mosquitto_configuration(
            SocketAddr::from(([127, 0, 0, 1], 4321)),
            Path::new("c"),
            Path::new("a"),
        );
        for line in [
            "require_certificate true",
            "crlfile c/crl.pem",
            "acl_file a",
            "use_identity_as_username true",
            "set_tcp_nodelay true",
            "persistence false",
            "listener 4321 127.0.0.1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}");
        }
    }

    /// The whole life of the peer, with Debian's own client as the witness.
    #[test]
    fn mosquitto_admits_a_device_on_its_own_topic_and_no_stranger() {
        if !Path::new("/usr/sbin/mosquitto").exists()
            || !Path::new("/usr/bin/mosquitto_pub").exists()
        {
            println!("skipped: mosquitto or mosquitto-clients is not installed");
            return;
        }
        let scratch = Scratch::new().unwrap();
        let server = Server::mosquitto(&scratch, 1).unwrap();
        let before = server.cpu().unwrap();
        let client = |identity: Option<&str>| {
            let folder = server.credentials.folder.display();
            let mut command = Command::new("/usr/bin/mosquitto_pub");
            command
                .args(["-h", "127.0.0.1", "-q", "1", "-V", "5", "-m", "x"])
                .args(["-p", &server.address.port().to_string()])
                .args(["--cafile", &format!("{folder}/ca.pem")])
                .args(["-t", "t/device-00000/up"]);
            if let Some(name) = identity {
                command.args(["--cert", &format!("{folder}/{name}.pem")]);
                command.args(["--key", &format!("{folder}/{name}.key")]);
            }
            command.output().unwrap()
        };
        let device = client(Some("devices/device-00000"));
        assert!(device.status.success(), "{device:?}");
        assert!(!String::from_utf8_lossy(&device.stderr).contains("Not authorized"));
        let foreign = client(Some("consumer"));
        assert!(
            String::from_utf8_lossy(&foreign.stderr).contains("ot authorized"),
            "{foreign:?}"
        );
        assert!(!client(None).status.success());
        assert!(server.cpu().unwrap().since(&before).unwrap() > 0.0);
        assert!(server.resident_kilobytes().unwrap() > 100.0);
        let pid = server.child.id();
        drop(server);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
