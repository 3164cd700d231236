//! Who plays: a plane, twelve devices with the product's own agent, the service that hears them,
//! the observer.

use super::process::{Place, PlaneProcess, own_program};
use super::stage::{Stage, Wire, start_here};
use super::{fleet, observer};
use anyhow::{Context, bail};
use sim::device::Manner;
use sim::hearing::Hearing;
use sim::{Factory, Flaw, Service};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// What the factory is called at the plane.
pub const MANUFACTURER: &str = "demo-works";
/// Hears everything that devices say.
pub const INGEST: &str = "ingest";
pub const OBSERVER: &str = "network-observer";
/// Where nobody in the fleet has a reason to call.
pub const UNLISTED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 66);
pub const UNLISTED_PORT: u16 = 4444;
/// What the intruder listens on.
pub const OPENED_PORT: u16 = 2323;

const AGENT: &str = "fleetward-agent";
const PATIENCE: Duration = Duration::from_secs(20);

/// A kind of device: how many, where their places begin, how often one speaks. As often as
/// `examples/fleet` lets it.
struct Kind {
    product: &'static str,
    prefix: &'static str,
    count: u8,
    first_place: u8,
    every_seconds: u64,
}

const KINDS: [Kind; 3] = [
    Kind {
        product: "camera",
        prefix: "cam",
        count: 5,
        first_place: 11,
        every_seconds: 1,
    },
    Kind {
        product: "lock",
        prefix: "lock",
        count: 4,
        first_place: 21,
        every_seconds: 12,
    },
    Kind {
        product: "thermostat",
        prefix: "thermostat",
        count: 3,
        first_place: 31,
        every_seconds: 6,
    },
];

/// A device: its place, its files, its agent.
pub struct Member {
    pub name: String,
    pub product: &'static str,
    pub firmware_version: &'static str,
    pub serial: String,
    pub wire: Wire,
    pub folder: PathBuf,
    /// What it publishes to, with a sequence number in each message.
    pub topic: String,
    every_seconds: u64,
    agent: Option<Child>,
}

impl Member {
    /// The agent's process, dead or alive.
    pub fn pid(&self) -> Option<u32> {
        self.agent.as_ref().map(Child::id)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What the agent says of itself.
    pub fn status(&self) -> anyhow::Result<serde_json::Value> {
        let output = Command::new(agent_program()?)
            .arg("--config")
            .arg(self.path("agent.toml"))
            .args(["status", "--json"])
            .output()?;
        serde_json::from_slice(&output.stdout).with_context(|| {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            format!("the status of {}: {said}", self.name)
        })
    }

    /// Ends the agent as a service manager would.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let Some(agent) = &mut self.agent else {
            return Ok(());
        };
        let pid = i32::try_from(agent.id()).ok();
        let pid = pid.and_then(rustix::process::Pid::from_raw);
        // One that is dead already cannot be asked.
        let _ = rustix::process::kill_process(
            pid.context("a child without a process id")?,
            rustix::process::Signal::TERM,
        );
        agent.wait()?;
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }
}

/// The twelve, with their factory identities in their folders, and the list that says who is
/// expected.
pub fn make_members(scratch: &Path) -> anyhow::Result<(Vec<Member>, Factory, String)> {
    let now = sim::now();
    let factory = Factory::new("Demo Works Factory CA", now)?;
    let mut list = "serial,product,device\n".to_owned();
    let mut members = Vec::new();
    for kind in KINDS {
        for number in 1..=kind.count {
            let name = format!("{}-{number}", kind.prefix);
            let serial = format!("DW-{:04}", u16::from(kind.first_place + number) * 37);
            writeln!(list, "{serial},{},{name}", kind.product)?;
            let folder = scratch.join("devices").join(&name);
            std::fs::create_dir_all(&folder)?;
            factory
                .idevid(&serial.parse()?, Flaw::None, now)?
                .write(&folder, "idevid")?;
            let (firmware_version, image) =
                fleet::firmware(kind.product).context("a product without firmware")?;
            std::fs::write(folder.join("firmware.bin"), image)?;
            members.push(Member {
                topic: format!("v1/{}/{name}/telemetry/status", kind.product),
                name,
                product: kind.product,
                firmware_version,
                serial,
                wire: Wire::number(kind.first_place + number - 1),
                folder,
                every_seconds: kind.every_seconds,
                agent: None,
            });
        }
    }
    Ok((members, factory, list))
}

/// Where the plane stands on this stage: fixed doors where the network is ours.
pub fn place_of_plane(stage: &Stage) -> Place {
    match stage {
        Stage::Processes(_) => Place::anywhere(),
        Stage::Namespaces(_) => {
            let plane = stage.plane();
            let mut place = Place::anywhere();
            place.devices = (plane, 8444).into();
            place.mqtt = (plane, 8883).into();
            place.names.push(plane.to_string());
            place
        }
    }
}

/// Starts a member's agent at its place.
pub fn start_agent(
    stage: &Stage,
    member: &mut Member,
    doors: (SocketAddr, SocketAddr),
    roots: &Path,
    resolver: SocketAddr,
) -> anyhow::Result<()> {
    let config = agent_config(stage, member, doors, roots, resolver);
    let path = member.path("agent.toml");
    std::fs::write(&path, config)?;
    let command: Vec<OsString> = vec![
        agent_program()?.into(),
        "--config".into(),
        path.into(),
        "run".into(),
    ];
    member.agent = Some(stage.start_device(&member.wire, &command, &member.path("agent.log"))?);
    Ok(())
}

fn agent_config(
    stage: &Stage,
    member: &Member,
    (est, mqtt): (SocketAddr, SocketAddr),
    roots: &Path,
    resolver: SocketAddr,
) -> String {
    let Member {
        name,
        product,
        firmware_version,
        every_seconds,
        ..
    } = member;
    let topic = member.topic.replace(name, "{device}");
    // Where all devices share loopback, an agent must be told what is its own.
    let own = match stage {
        Stage::Namespaces(_) => format!("[dns]\nupstream = \"{resolver}\"\n"),
        Stage::Processes(_) => String::new(),
    };
    let address = match stage {
        Stage::Namespaces(_) => String::new(),
        Stage::Processes(_) => {
            format!("source_address = \"{}\"\n", stage.address_of(&member.wire))
        }
    };
    format!(
        "device = {name:?}\nproduct = {product:?}\nstate_dir = \"state\"\nroots_file = {roots:?}\n\
         idevid_certificate_file = \"idevid.pem\"\nidevid_key_file = \"idevid.key\"\n\
         report_seconds = 1\nreconnect_seconds_max = 2\nfirmware_file = \"firmware.bin\"\n\
         firmware_version = {firmware_version:?}\n{address}\
         plane = {{ est = \"{est}\", mqtt = \"{mqtt}\" }}\n\
         [[publish]]\ntopic = {topic:?}\nevery_seconds = {every_seconds}\n{own}"
    )
}

/// The agent lies beside this program.
pub fn agent_program() -> anyhow::Result<PathBuf> {
    let here = std::env::current_exe().context("this program's path")?;
    let agent = here.with_file_name(AGENT);
    if !agent.exists() {
        bail!(
            "{} is missing; build it with `cargo build -p agent`, or run `cargo xtask demo`",
            agent.display()
        );
    }
    Ok(agent)
}

/// The service that hears every device, its session kept by the plane while it is away.
pub fn start_hearing(plane: &mut PlaneProcess) -> anyhow::Result<Hearing> {
    let credential = plane.certify(INGEST)?;
    let filters = ["camera", "lock", "thermostat"]
        .map(|product| format!("v1/{product}/+/telemetry/status"))
        .map(|filter| (filter, mqtt::Qos::AtLeastOnce));
    let service = Service::new(
        INGEST.parse()?,
        plane.doors()?.mqtt,
        credential.presented(),
        filters.into(),
        Manner::default(),
    );
    Hearing::start(service)
        .map_err(|refusal| anyhow::anyhow!("the service {INGEST} was refused: {refusal}"))
}

/// The observer's process; killed when dropped.
pub struct Observing {
    child: Child,
    pub resolver: SocketAddr,
}

/// Starts the observer and waits until its resolver and its sink stand.
pub fn start_observer(
    stage: &Stage,
    plane: &mut PlaneProcess,
    members: &[Member],
    scratch: &Path,
    roots: &Path,
) -> anyhow::Result<Observing> {
    let folder = scratch.join("observer");
    std::fs::create_dir_all(&folder)?;
    plane.certify(OBSERVER)?.write(&folder, OBSERVER)?;
    let by_port = matches!(stage, Stage::Namespaces(_));
    let resolver = match stage {
        Stage::Namespaces(_) => SocketAddr::from((stage.plane(), 53)),
        // Above what an ordinary user may bind.
        Stage::Processes(_) => SocketAddr::from((Ipv4Addr::new(127, 0, 0, 1), free_udp_port()?)),
    };
    let (devices, _) = plane.bound();
    let ready = folder.join("ready");
    let plan = observer::Plan {
        url: format!("https://{devices}"),
        roots: roots.to_owned(),
        certificate: folder.join(format!("{OBSERVER}.pem")),
        key: folder.join(format!("{OBSERVER}.key")),
        by_port,
        plane: stage.plane().into(),
        devices: members
            .iter()
            .map(|member| observer::Watched {
                device: member.name.clone(),
                port: member.wire.port.clone(),
                address: stage.address_of(&member.wire).into(),
            })
            .collect(),
        resolver,
        names: fleet::names(),
        sink: sink_of(stage).into(),
        sink_ports: vec![UNLISTED_PORT],
        call_back: OPENED_PORT,
        ready: ready.clone(),
    };
    let file = folder.join("plan.json");
    std::fs::write(&file, serde_json::to_vec_pretty(&plan)?)?;
    let program = own_program()?.get_program().to_owned();
    let command = [program, "demo-part".into(), "observer".into(), file.into()];
    let log = folder.join("observer.log");
    let mut child = start_here(&[], &command, &log)?;
    let deadline = Instant::now() + PATIENCE;
    while !ready.exists() {
        if child.try_wait()?.is_some() || Instant::now() > deadline {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            bail!("the observer did not start: {}", said.trim());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(Observing { child, resolver })
}

/// Where unlisted places are on this stage.
pub fn unlisted(stage: &Stage) -> SocketAddr {
    match stage {
        Stage::Namespaces(_) => (UNLISTED, UNLISTED_PORT).into(),
        // Nothing bound to loopback can leave it, so even the outside is here.
        Stage::Processes(_) => (sink_of(stage), UNLISTED_PORT).into(),
    }
}

fn sink_of(stage: &Stage) -> Ipv4Addr {
    match stage {
        Stage::Namespaces(_) => Ipv4Addr::UNSPECIFIED,
        Stage::Processes(_) => Ipv4Addr::new(127, 198, 51, 66),
    }
}

fn free_udp_port() -> anyhow::Result<u16> {
    sim::outside::free_udp_port().context("no free port for the resolver")
}

impl Drop for Observing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
