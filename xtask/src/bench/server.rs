//! The servers under test. What differs between ours and the peer is here and nowhere else.

mod configurations;

use super::cpu::{Account, Reading};
use super::credentials::Credentials;
use super::fleet::FLEET;
use anyhow::{Context, bail, ensure};
use configurations::{
    CFSSL_CONFIGURATION, CFSSL_DATABASE, MOSQUITTO_ACCESS, cfssl_database, fleetward_configuration,
    mosquitto_configuration, rumqttd_configuration,
};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Fleetward,
    Mosquitto,
    /// With persistence, saved every second.
    MosquittoPersistent,
    Rumqttd,
    Cfssl,
    /// The least that a message can cost: a loop of epoll in the clear, by our own `sim`.
    Forwarder,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Fleetward => "fleetward",
            Self::Mosquitto | Self::MosquittoPersistent => "mosquitto",
            Self::Rumqttd => "rumqttd",
            Self::Cfssl => "cfssl",
            Self::Forwarder => "forwarder",
        }
    }
}

/// What an acknowledgement of ours outlives. Mosquitto's outlives nothing where it runs without
/// persistence, and where it runs with it what was saved up to a second before. With a consumer whose session is clean ours journals nothing either, whichever is
/// chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Durability {
    /// A crash of the server.
    Process,
    /// A power cut.
    Power,
}

impl Durability {
    /// As the configuration and the figures write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Power => "power",
        }
    }
}

/// What cfssl writes down of a certificate. By itself it writes nothing; with a database it keeps a
/// row, as ours does, beside which ours also has an entry in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    Nothing,
    /// A row on disk before the answer.
    Records,
}

/// A server of its own process and control group, ended by its process id when dropped.
pub struct Server {
    kind: Kind,
    child: Child,
    account: Account,
    folder: PathBuf,
    pub address: SocketAddr,
    /// Who may connect: the names of `credentials.rs`.
    pub credentials: Credentials,
    /// Of ours: where its operator speaks to it.
    pub socket: Option<PathBuf>,
    /// Of ours: with what it was started.
    begun: Option<(Doors, Durability)>,
}

impl Server {
    /// Mosquitto as an operator would secure it for this work: mutual TLS with a revocation list,
    /// an access list by certificate name, nothing written to disk but with persistence.
    ///
    /// # Errors
    /// If it is not installed or does not listen within two minutes; with its last words.
    pub fn mosquitto(scratch: &Scratch, devices: usize, kind: Kind) -> anyhow::Result<Self> {
        let program = Path::new("/usr/sbin/mosquitto");
        ensure!(
            program.exists(),
            "{} is missing; apt-get install mosquitto",
            program.display()
        );
        let credentials = Credentials::create(&scratch.0.join("credentials"), devices)?;
        let address = free_address()?;
        let folder = scratch.unused("mosquitto")?;
        std::fs::create_dir_all(&folder)?;
        let access = folder.join("access");
        std::fs::write(&access, MOSQUITTO_ACCESS)?;
        let configuration = folder.join("mosquitto.conf");
        let mut text = mosquitto_configuration(address, &credentials.folder, &access);
        if kind == Kind::MosquittoPersistent {
            text = text.replace(
                "persistence false\n",
                &format!(
                    "persistence true\nautosave_interval 1\npersistence_location {}/\n",
                    folder.display()
                ),
            );
        }
        std::fs::write(&configuration, text)?;
        Self::start(
            kind,
            program,
            &["-c".as_ref(), configuration.as_os_str()],
            &folder,
            address,
            credentials,
        )
    }

    /// rumqttd with mutual TLS. It knows no revocation list and no access list: it does less.
    ///
    /// # Errors
    /// As for Mosquitto.
    pub fn rumqttd(scratch: &Scratch, devices: usize) -> anyhow::Result<Self> {
        let program = crate::tools::RUMQTTD
            .program(&crate::root_of_repository())
            .context("rumqttd is missing")?;
        let credentials = Credentials::create(&scratch.0.join("credentials"), devices)?;
        let address = free_address()?;
        let folder = scratch.0.join(format!("rumqttd-{}", address.port()));
        std::fs::create_dir_all(&folder)?;
        let configuration = folder.join("rumqttd.toml");
        std::fs::write(
            &configuration,
            rumqttd_configuration(address, &credentials.folder),
        )?;
        Self::start(
            Kind::Rumqttd,
            &program,
            &["-q".as_ref(), "-c".as_ref(), configuration.as_os_str()],
            &folder,
            address,
            credentials,
        )
    }

    /// `sim forward`: it hands on and acknowledges, in the clear, and does nothing else.
    ///
    /// # Errors
    /// As for Mosquitto.
    pub fn forwarder(scratch: &Scratch, devices: usize) -> anyhow::Result<Self> {
        // It asks for none: the load is made of the same devices.
        let credentials = Credentials::create(&scratch.0.join("credentials"), devices)?;
        let address = free_address()?;
        let folder = scratch.unused("forwarder")?;
        std::fs::create_dir_all(&folder)?;
        let at = address.to_string();
        Self::start(
            Kind::Forwarder,
            &crate::built(&crate::root_of_repository(), "release", "sim"),
            &["forward".as_ref(), "--address".as_ref(), at.as_ref()],
            &folder,
            address,
            credentials,
        )
    }

    /// Whether it is spoken to without TLS.
    pub fn is_in_clear(&self) -> bool {
        self.kind == Kind::Forwarder
    }

    /// `cfssl serve` with a CA of its own.
    ///
    /// # Errors
    /// As for Mosquitto; and if Python cannot make its database.
    pub fn cfssl(scratch: &Scratch, keeps: Keeps) -> anyhow::Result<Self> {
        let credentials = Credentials::create(&scratch.0.join("credentials"), 0)?;
        let address = free_address()?;
        let folder = scratch.unused("cfssl")?;
        std::fs::create_dir_all(&folder)?;
        let configuration = folder.join("config.json");
        std::fs::write(&configuration, CFSSL_CONFIGURATION)?;
        let (port, ip) = (address.port().to_string(), address.ip().to_string());
        let (ca, key) = (
            credentials.folder.join("ca.pem"),
            credentials.folder.join("ca.key"),
        );
        let mut arguments: Vec<&std::ffi::OsStr> = vec![
            "serve".as_ref(),
            "-address".as_ref(),
            ip.as_ref(),
            "-port".as_ref(),
            port.as_ref(),
            "-ca".as_ref(),
            ca.as_os_str(),
            "-ca-key".as_ref(),
            key.as_os_str(),
            "-config".as_ref(),
            configuration.as_os_str(),
            // Warnings and worse.
            "-loglevel".as_ref(),
            "2".as_ref(),
        ];
        let database = folder.join("database.json");
        if keeps == Keeps::Records {
            let file = folder.join(CFSSL_DATABASE);
            python(&["-c", include_str!("records.py"), "make"], &file)?;
            std::fs::write(&database, cfssl_database(&file))?;
            arguments.extend(["-db-config".as_ref(), database.as_os_str()]);
        }
        let cfssl = Path::new("/usr/bin/cfssl");
        Self::start(
            Kind::Cfssl,
            cfssl,
            &arguments,
            &folder,
            address,
            credentials,
        )
    }

    /// Certificates in cfssl's database; `None` if it keeps none.
    ///
    /// # Errors
    /// If Python cannot read it.
    pub fn records(&self) -> anyhow::Result<Option<u64>> {
        let file = self.folder.join(CFSSL_DATABASE);
        if !file.exists() {
            return Ok(None);
        }
        let count = python(&["-c", include_str!("records.py"), "count"], &file)?;
        Ok(Some(count.trim().parse().context("no number of rows")?))
    }

    /// `fleetward serve` as [`Self::fleetward`] with one device, and `stored` more written into its
    /// database by SQL beforehand (`prefill.py`).
    ///
    /// # Errors
    /// Likewise; and if Python cannot write.
    pub fn fleetward_storing(scratch: &Scratch, stored: u32) -> anyhow::Result<Self> {
        let folder = scratch.unused(&format!("stored-{stored}"))?;
        let begun = Instant::now();
        prepare(&folder, 1, 0)?;
        let number = stored.to_string();
        python(
            &["-c", include_str!("prefill.py"), &number],
            &folder.join("data/control.db"),
        )?;
        let server = Self::serve(&folder, Doors::free()?, Durability::Power)?;
        eprintln!(
            "  {stored} certificates stored by SQL, and served after {:.0} s",
            begun.elapsed().as_secs_f64()
        );
        Ok(server)
    }

    /// Where it is asked for certificates.
    pub fn api(&self) -> Api {
        match &self.socket {
            Some(socket) => Api::Plane(socket.clone()),
            None => Api::Cfssl(self.address),
        }
    }

    /// `fleetward serve` on a data folder with `devices` enrolled and one consumer: a copy of one
    /// that was prepared once, so that no run sees what another left behind.
    ///
    /// # Errors
    /// If it does not listen within two minutes, with its last words, or refuses to be prepared.
    pub fn fleetward(
        scratch: &Scratch,
        devices: usize,
        durability: Durability,
    ) -> anyhow::Result<Self> {
        Self::fleetward_with_line(scratch, devices, 0, durability)
    }

    /// The same, whose MQTT door gives tickets.
    ///
    /// # Errors
    /// Likewise.
    pub fn fleetward_giving_tickets(
        scratch: &Scratch,
        devices: usize,
        durability: Durability,
    ) -> anyhow::Result<Self> {
        let doors = Doors {
            tickets: true,
            ..Doors::free()?
        };
        Self::fleetward_prepared(scratch, (devices, 0), doors, durability)
    }

    /// The same with `of_line` more devices whose certificates the issuing CA `line` made.
    ///
    /// # Errors
    /// Likewise.
    pub fn fleetward_with_line(
        scratch: &Scratch,
        devices: usize,
        of_line: usize,
        durability: Durability,
    ) -> anyhow::Result<Self> {
        Self::fleetward_prepared(scratch, (devices, of_line), Doors::free()?, durability)
    }

    fn fleetward_prepared(
        scratch: &Scratch,
        (devices, of_line): (usize, usize),
        doors: Doors,
        durability: Durability,
    ) -> anyhow::Result<Self> {
        let prepared = scratch.0.join(format!("prepared-{devices}-{of_line}"));
        if !prepared.exists() {
            prepare(&prepared, devices, of_line)
                .with_context(|| format!("preparing a plane with {} devices", devices + of_line))?;
        }
        let folder = scratch.unused("fleetward")?;
        copy_folder(&prepared, &folder)?;
        Self::serve(&folder, doors, durability)
    }

    /// `fleetward serve` on the data folder in `folder`, made if it is missing.
    fn serve(folder: &Path, doors: Doors, durability: Durability) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let configuration = folder.join("fleetward.toml");
        std::fs::write(
            &configuration,
            fleetward_configuration(folder, doors, durability),
        )?;
        let credentials = Credentials {
            folder: folder.join("credentials"),
        };
        let mut server = Self::start(
            Kind::Fleetward,
            &crate::built(&crate::root_of_repository(), "release", "fleetward"),
            &serve_arguments(&configuration),
            folder,
            doors.mqtt,
            credentials,
        )?;
        server.socket = Some(folder.join("data/fleetward.sock"));
        server.begun = Some((doors, durability));
        Ok(server)
    }

    /// Ends it by kill -9 and starts it again on what it left, at the same doors. Ours only.
    ///
    /// # Errors
    /// If it does not listen again.
    pub fn again(self) -> anyhow::Result<Self> {
        let folder = self.folder.clone();
        let (doors, durability) = self.begun.context("only ours is started again")?;
        drop(self);
        Self::serve(&folder, doors, durability)
    }

    /// The SHA-256 of the name of the issuing CA `line`, by which it is revoked.
    ///
    /// # Errors
    /// If the plane has no such CA.
    pub fn issuer_of_line(&self) -> anyhow::Result<String> {
        let listed = self.operate(&["identity", "ca", "list", "--output", "json"])?;
        let listed: serde_json::Value = serde_json::from_slice(&listed)?;
        let issuing = listed.pointer("/issuing").and_then(|all| all.as_array());
        let issuer = issuing
            .and_then(|all| all.iter().find(|one| one["name"] == LINE))
            .and_then(|line| line["issuer"].as_str());
        Ok(issuer.context("the plane has no CA `line`")?.to_owned())
    }

    /// The folder of the fleet that ours was prepared with.
    pub fn fleet(&self) -> PathBuf {
        self.folder.join("fleet")
    }

    /// Of ours: the door where devices enroll.
    ///
    /// # Errors
    /// It is a peer's.
    pub fn est(&self) -> anyhow::Result<SocketAddr> {
        let (doors, _) = self.begun.context("only ours has doors")?;
        Ok(doors.devices)
    }

    /// A command of its operator; what it prints.
    ///
    /// # Errors
    /// If it is refused, with why.
    pub fn operate(&self, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
        let socket = self.socket.as_deref().context("ours has a socket")?;
        let data = socket.parent().context("a socket without a folder")?;
        let output = Command::new(crate::built(
            &crate::root_of_repository(),
            "release",
            "fleetward",
        ))
        .args(arguments)
        .env("FLEETWARD_DATA_DIR", data)
        .output()
        .context("cannot run fleetward")?;
        ensure!(
            output.status.success(),
            "fleetward {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(output.stdout)
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
            folder: folder.to_owned(),
            address,
            credentials,
            socket: None,
            begun: None,
        };
        server.wait_until_it_listens(&log)?;
        Ok(server)
    }

    fn wait_until_it_listens(&mut self, log: &Path) -> anyhow::Result<()> {
        let begun = Instant::now();
        // A million rows are read before the doors open.
        while begun.elapsed() < Duration::from_secs(120) {
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

    /// Memory in use now, what it shares with others by its part. Kernel memory of its sockets is
    /// in nobody's figure.
    ///
    /// # Errors
    /// If the server has ended.
    pub fn proportional_kilobytes(&self) -> anyhow::Result<f64> {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let rollup = std::fs::read_to_string(path).context("the server has ended")?;
        proportional_of(&rollup).context("no Pss in /proc/<pid>/smaps_rollup")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Who issues, as `sim issue` is told.
pub enum Api {
    Plane(PathBuf),
    Cfssl(SocketAddr),
}

impl Api {
    pub fn flag(&self) -> (&'static str, String) {
        match self {
            Self::Plane(socket) => ("--socket", socket.display().to_string()),
            Self::Cfssl(address) => ("--cfssl", address.to_string()),
        }
    }
}

/// Runs one of the scripts here on a file; what it printed.
fn python(arguments: &[&str], file: &Path) -> anyhow::Result<String> {
    let output = Command::new("python3")
        .args(arguments)
        .arg(file)
        .output()
        .context("cannot run python3")?;
    ensure!(
        output.status.success(),
        "{}: {}",
        file.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command that serves a configuration.
fn serve_arguments(configuration: &Path) -> [&std::ffi::OsStr; 3] {
    [
        "serve".as_ref(),
        "--config".as_ref(),
        configuration.as_os_str(),
    ]
}

/// The three doors of ours, on loopback.
#[derive(Debug, Clone, Copy)]
struct Doors {
    /// That for MQTT gives tickets.
    tickets: bool,
    people: SocketAddr,
    devices: SocketAddr,
    mqtt: SocketAddr,
}

impl Doors {
    /// Held open together while they are chosen, so that they differ.
    fn free() -> anyhow::Result<Self> {
        let listener = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let (people, devices, mqtt) = (listener()?, listener()?, listener()?);
        Ok(Self {
            tickets: false,
            people: people.local_addr()?,
            devices: devices.local_addr()?,
            mqtt: mqtt.local_addr()?,
        })
    }
}

/// The issuing CA and the product of the devices that are revoked with it.
pub const LINE: &str = "line";

/// Makes `folder` the state of a plane whose devices have enrolled, by what every user has: its
/// API and its EST door. Ended by a kill: a copy of the folder is a plane after a crash.
fn prepare(folder: &Path, devices: usize, of_line: usize) -> anyhow::Result<()> {
    let doors = Doors::free()?;
    let line = (
        "products/line.toml",
        "[line]\nca = \"line\"\ndescription = \"Likewise\"\n",
    );
    for (path, text) in FLEET.into_iter().chain((of_line > 0).then_some(line)) {
        let path = folder.join("fleet").join(path);
        std::fs::create_dir_all(path.parent().context("a file without a folder")?)?;
        std::fs::write(path, text)?;
    }
    let server = Server::serve(folder, doors, Durability::Process)?;
    let begun = Instant::now();
    if of_line > 0 {
        server.operate(&["identity", "ca", "create", LINE, "--for", "device"])?;
    }
    let mut enroll = Command::new(crate::built(&crate::root_of_repository(), "release", "sim"));
    enroll
        .args(["enroll", "--product", "device", "--socket"])
        .arg(server.socket.as_deref().context("ours has a socket")?)
        .args(["--est", &doors.devices.to_string()])
        .args(["--devices", &devices.to_string(), "--fleet"])
        .arg(folder.join("fleet"))
        .arg("--out")
        .arg(&server.credentials.folder);
    if of_line > 0 {
        enroll.args(["--also", &format!("{LINE}:{of_line}:{LINE}")]);
    }
    let output = enroll.output().context("cannot run sim")?;
    ensure!(
        output.status.success(),
        "sim enroll: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    eprintln!(
        "  {} devices enrolled in {:.1} s",
        devices + of_line,
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    // `cp -a` keeps modes: the plane refuses keys that others may read.
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(status.success(), "cannot copy {}", from.display());
    Ok(())
}

/// # Errors
/// If ours does not build.
pub fn build(root: &Path) -> anyhow::Result<()> {
    crate::steps::cargo(root, &["build", "--release", "--locked", "-p", "fleetward"])
}

/// How a peer is named in a figure.
///
/// # Errors
/// If it is not installed.
pub fn version_of(kind: Kind) -> anyhow::Result<String> {
    match kind {
        Kind::Fleetward => Ok("fleetward".to_owned()),
        Kind::Forwarder => Ok("a forwarder over plain TCP".to_owned()),
        Kind::Mosquitto => mosquitto_version(),
        Kind::MosquittoPersistent => Ok(format!("{}, persistence on", mosquitto_version()?)),
        Kind::Rumqttd => {
            let program = crate::tools::RUMQTTD
                .program(&crate::root_of_repository())
                .context("rumqttd is missing")?;
            let output = Command::new(program).arg("--version").output()?;
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }
        Kind::Cfssl => {
            let output = Command::new("cfssl").arg("version").output()?;
            let text = String::from_utf8_lossy(&output.stdout);
            let version = text.lines().find_map(|line| line.strip_prefix("Version: "));
            Ok(format!(
                "cfssl {}",
                version.unwrap_or("of unknown version").trim()
            ))
        }
    }
}

fn mosquitto_version() -> anyhow::Result<String> {
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

impl Scratch {
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// A name in it that nothing has. Not a port: the next run may be given the same one.
    fn unused(&self, name: &str) -> anyhow::Result<PathBuf> {
        (0..)
            .map(|number| self.0.join(format!("{name}-{number}")))
            .find(|folder| !folder.exists())
            .context("no free name")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Free a moment ago: who takes it in between makes the server fail loudly, not the figure wrong.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn proportional_of(rollup: &str) -> Option<f64> {
    rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))?
        .trim()
        .strip_suffix(" kB")?
        .parse()
        .ok()
}

pub fn last_words(log: &Path) -> String {
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
            proportional_of("Rss:    9000 kB\nPss:        8123 kB\nPss_Dirty: 7 kB\n"),
            Some(8123.0)
        );
        assert_eq!(proportional_of("Rss: 1 kB\n"), None);
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

    #[test]
    fn ours_declares_what_the_peer_allows() {
        let doors = Doors::free().unwrap();
        let text = fleetward_configuration(Path::new("/x"), doors, Durability::Process);
        for line in [
            "data_dir = \"/x/data\"".to_owned(),
            format!("mqtt = \"{}\"", doors.mqtt),
            "durability = \"process\"".to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}");
        }
        let fleet: String = FLEET.iter().map(|(_, text)| *text).collect();
        for topic in ["t/{device}/up", "t/{device}/down"] {
            assert!(fleet.contains(topic), "{topic}");
            assert!(MOSQUITTO_ACCESS.contains(&topic.replace("{device}", "%u")));
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
        let server = Server::mosquitto(&scratch, 1, Kind::Mosquitto).unwrap();
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
        assert!(server.proportional_kilobytes().unwrap() > 100.0);
        let pid = server.child.id();
        drop(server);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
