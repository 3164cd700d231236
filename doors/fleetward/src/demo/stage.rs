//! Where the demo plays: each device in a network namespace of its own on one bridge, if this
//! machine lets us, and else as processes side by side.
//!
//! ```text
//!   the host          the demo's world (user + network namespace)
//!   browser ──────────> console's listener, opened in the host, inherited by the plane
//!                       plane · observer · ingest
//!                       br0 10.77.255.1 ──┬─ d11 ═ eth0 10.77.0.11 cam-1     (each a user +
//!                       nft table fleet ──┼─ d12 ═ eth0 10.77.0.12 cam-2      network namespace)
//!                                         └─ …
//! ```
//!
//! The observer and what it cuts are on the bridge's side, where a device is its port and cannot
//! be another. No root is needed, and nothing is left behind: the kernel removes all of it with
//! the last process. Whether it works is not guessed from settings but tried, in a child.

use super::process::own_program;
use nix::sched::CloneFlags;
use nix::unistd::{getgid, getuid};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// The plane, the resolver and the observer, as devices see them.
pub const PLANE: Ipv4Addr = Ipv4Addr::new(10, 77, 255, 1);
/// Networks for documentation (RFC 5737): all that lies outside, answered by the demo's sink.
const OUTSIDE: [&str; 3] = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"];
/// Where a freshly built stage sends its one packet.
const TRIED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 254);
const TRIED_PORT: u16 = 9;

/// The first step that this machine refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    pub step: String,
    pub why: String,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.step, self.why)
    }
}

impl std::error::Error for Failed {}

/// A device's place: its port on the bridge and its address there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wire {
    number: u8,
    pub port: String,
    pub address: Ipv4Addr,
}

impl Wire {
    /// Place `number` of the fleet, 1 to 254.
    #[must_use]
    pub fn number(number: u8) -> Self {
        Self {
            number,
            port: format!("d{number}"),
            address: Ipv4Addr::new(10, 77, 0, number),
        }
    }
}

/// What this machine gave us.
#[derive(Debug)]
pub enum Stage {
    Namespaces(Network),
    /// Processes side by side on loopback, and the first step towards more that failed.
    Processes(Failed),
}

impl Stage {
    /// Tries, and enters. Must come before the first thread.
    ///
    /// # Errors
    /// What worked in the child failed here.
    pub fn set(wanted: bool) -> Result<Self, Failed> {
        let tried = if wanted {
            try_in_a_child()
        } else {
            Err(failed("namespaces", &"not wanted (--without-namespaces)"))
        };
        match tried {
            Ok(()) => Network::enter().map(Self::Namespaces),
            Err(failed) => Ok(Self::Processes(failed)),
        }
    }

    /// Where devices find the plane.
    #[must_use]
    pub const fn plane(&self) -> Ipv4Addr {
        match self {
            Self::Namespaces(_) => PLANE,
            Self::Processes(_) => Ipv4Addr::LOCALHOST,
        }
    }

    /// Where a device is found.
    #[must_use]
    pub const fn address_of(&self, wire: &Wire) -> Ipv4Addr {
        match self {
            Self::Namespaces(_) => wire.address,
            // All of 127/8 is this machine: a label, not proof.
            Self::Processes(_) => Ipv4Addr::new(127, 0, 1, wire.number),
        }
    }

    /// Starts a device's program at its place. What it says on standard error goes to `log`.
    ///
    /// # Errors
    /// The step that failed.
    pub fn start_device(
        &self,
        wire: &Wire,
        command: &[OsString],
        log: &Path,
    ) -> Result<Child, Failed> {
        match self {
            Self::Namespaces(network) => network.start_device(wire, command, log),
            Self::Processes(_) => start_here(&[], command, log),
        }
    }

    /// Starts a program beside the one that runs as `pid`, in its place in the network.
    ///
    /// # Errors
    /// The step that failed.
    pub fn start_beside(
        &self,
        pid: u32,
        command: &[OsString],
        log: &Path,
    ) -> Result<Child, Failed> {
        match self {
            Self::Namespaces(_) => {
                start_here(&["--join".into(), pid.to_string().into()], command, log)
            }
            Self::Processes(_) => start_here(&[], command, log),
        }
    }
}

/// Starts a program that does not outlive this one.
///
/// # Errors
/// The system refuses.
pub fn start_here(place: &[OsString], command: &[OsString], log: &Path) -> Result<Child, Failed> {
    let log = append(log)?;
    own_program()
        .map_err(|e| failed("this program's path", &format!("{e:#}")))?
        .args(["demo-part", "stand-in", "--parent"])
        .arg(std::process::id().to_string())
        .args(place)
        .arg("--")
        .args(command)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .spawn()
        .map_err(|e| failed("a process", &e))
}

fn append(log: &Path) -> Result<File, Failed> {
    File::options()
        .create(true)
        .append(true)
        .open(log)
        .map_err(|e| failed("a log", &e))
}

/// The bridge and its table, in this process's namespaces.
#[derive(Debug)]
pub struct Network(());

/// Builds all of it once in a child and sends one packet; the child takes everything with it.
///
/// # Errors
/// The first step that failed.
pub fn try_in_a_child() -> Result<(), Failed> {
    let step = |why: String| Failed {
        step: "a child that tries".into(),
        why,
    };
    let mut child = own_program().map_err(|e| step(format!("{e:#}")))?;
    let output = child
        .args(["demo-part", "try-stage"])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| step(e.to_string()))?;
    let said: Result<Option<Failed>, _> = serde_json::from_slice(&output.stdout);
    match said {
        Ok(None) => Ok(()),
        Ok(Some(failed)) => Err(failed),
        Err(_) => Err(step(format!(
            "{}: {}",
            output.status,
            first_line(&String::from_utf8_lossy(&output.stderr))
        ))),
    }
}

/// The child's side: says what failed, or `null`, on standard output.
///
/// # Errors
/// Nobody listens.
pub fn try_here() -> anyhow::Result<()> {
    let failed = try_all().err();
    serde_json::to_writer(std::io::stdout(), &failed)?;
    Ok(())
}

fn try_all() -> Result<(), Failed> {
    let network = Network::enter()?;
    let wire = Wire::number(1);
    let knock = format!("{TRIED}:{TRIED_PORT}");
    let program = std::env::current_exe().map_err(|e| failed("this program's path", &e))?;
    let mut command = vec![program.into_os_string()];
    command.extend(["demo-part", "knock", knock.as_str()].map(Into::into));
    let mut child = network.start_device(&wire, &command, Path::new("/dev/null"))?;
    let status = child.wait().map_err(|e| failed("a device's process", &e))?;
    if !status.success() {
        return Err(failed("a packet from a device", &status));
    }
    let seen = network.seen()?;
    let packet = (wire.port, TRIED, Protocol::Udp, TRIED_PORT);
    if seen.destinations.contains_key(&packet) {
        Ok(())
    } else {
        Err(failed("a packet seen on the bridge", &"it was not"))
    }
}

/// Leaves the user and network namespaces that this process was born in. Must come before the
/// first thread.
///
/// # Errors
/// The kernel refuses; the text has its name for it.
pub fn unshare() -> Result<(), Failed> {
    let (uid, gid) = (getuid(), getgid());
    nix::sched::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)
        .map_err(|e| failed("unshare user and network namespace", &e))?;
    let maps = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {uid} 1")),
        ("/proc/self/gid_map", format!("0 {gid} 1")),
    ];
    for (path, text) in maps {
        std::fs::write(path, text).map_err(|e| failed(path, &e))?;
    }
    Ok(())
}

/// A device's side of its wire: the address alone, everything else behind the bridge, so that
/// even a packet to a neighbour leaves and is seen.
///
/// # Errors
/// The step that failed.
pub fn raise_wire(address: Ipv4Addr) -> Result<(), Failed> {
    ip(
        "a device's wire",
        &format!(
            "link set lo up\nlink set eth0 up\naddr add {address}/32 dev eth0\n\
             route add {PLANE}/32 dev eth0\nroute add default via {PLANE}\n"
        ),
    )
}

impl Network {
    /// Makes this process's world: its namespaces, the bridge, the table, what lies outside.
    ///
    /// # Errors
    /// The step that failed. The process cannot go back: try in a child first.
    pub fn enter() -> Result<Self, Failed> {
        unshare()?;
        ip("loopback up", "link set lo up\n")?;
        ip(
            "a bridge",
            &format!("link add br0 type bridge\naddr add {PLANE}/16 dev br0\nlink set br0 up\n"),
        )?;
        for outside in OUTSIDE {
            ip(
                "what lies outside",
                &format!("route add local {outside} dev lo\n"),
            )?;
        }
        nft("an nft table on the bridge", TABLE)?;
        Ok(Self(()))
    }

    /// For a process that was started inside: the world that it is in.
    #[must_use]
    pub const fn here() -> Self {
        Self(())
    }

    /// Starts a program in namespaces of its own, at the end of `wire`. What it says on standard
    /// error goes to `log`.
    ///
    /// # Errors
    /// The step that failed.
    pub fn start_device(
        &self,
        wire: &Wire,
        command: &[OsString],
        log: &Path,
    ) -> Result<Child, Failed> {
        let log = append(log)?;
        let mut child = own_program()
            .map_err(|e| failed("this program's path", &format!("{e:#}")))?
            .args(["demo-part", "stand-in", "--parent"])
            .arg(std::process::id().to_string())
            .arg("--own-network")
            .arg(wire.address.to_string())
            .arg("--")
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(|e| failed("a device's process", &e))?;
        match connect(wire, &mut child) {
            Ok(()) => Ok(child),
            Err(failed) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(failed)
            }
        }
    }

    /// What has left the devices so far, by port.
    ///
    /// # Errors
    /// `nft` cannot be read.
    pub fn seen(&self) -> Result<Seen, Failed> {
        let mut command = tool("nft");
        command.args(["-j", "list", "table", "bridge", "fleet"]);
        let text = run("reading the bridge's table", command, "")?;
        Seen::parse(&text)
    }

    /// From here on the port reaches the plane's two doors and nothing else.
    ///
    /// # Errors
    /// `nft` refuses.
    pub fn cut(&self, wire: &Wire) -> Result<(), Failed> {
        nft(
            "cutting a port",
            &format!("add element bridge fleet cut {{ \"{}\" }}\n", wire.port),
        )
    }

    /// Undoes [`Self::cut`].
    ///
    /// # Errors
    /// `nft` refuses.
    pub fn mend(&self, wire: &Wire) -> Result<(), Failed> {
        nft(
            "mending a port",
            &format!("delete element bridge fleet cut {{ \"{}\" }}\n", wire.port),
        )
    }
}

fn connect(wire: &Wire, child: &mut Child) -> Result<(), Failed> {
    const STEP: &str = "a device's namespaces";
    let mut said = String::new();
    let out = child.stdout.take();
    let out = out.ok_or_else(|| failed(STEP, &"no standard output"))?;
    BufReader::new(out)
        .read_line(&mut said)
        .map_err(|e| failed(STEP, &e))?;
    if said != "ready\n" {
        return Err(failed(STEP, &"it did not come up; its log says why"));
    }
    let Wire { port, address, .. } = wire;
    ip(
        "a pair of wires",
        &format!(
            "link add {port} type veth peer name eth0 netns {}\nlink set {port} master br0 up\n",
            child.id()
        ),
    )?;
    nft(
        "a port's address",
        &format!("add element bridge fleet home {{ \"{port}\" . {address} }}\n"),
    )?;
    let mut go: ChildStdin = child
        .stdin
        .take()
        .ok_or_else(|| failed(STEP, &"no standard input"))?;
    go.write_all(b"go\n").map_err(|e| failed(STEP, &e))
}

/// Seen before anything is dropped (priority -350), bound after (-300), and nothing from device
/// to device. Keyed by the port, which a device cannot choose. What goes to the plane is not
/// counted but for DNS: the plane meters that itself. An answer to a call from outside is no
/// destination.
const TABLE: &str = r#"
table bridge fleet {
 counter over { }
 counter forged { }
 counter other { }
 counter eastwest { }
 counter held { }
 set cut { typeof iifname; }
 set home { typeof iifname . ip saddr; }
 set vol { typeof iifname; size 2048; flags dynamic; }
 set dns { typeof iifname; size 2048; flags dynamic; }
 set listens { typeof iifname . tcp sport; size 4096; flags dynamic; }
 set answers { typeof iifname . ip daddr . tcp sport . tcp dport; size 16384; flags dynamic,timeout; timeout 1h; }
 set odd { typeof iifname . ip daddr . ip protocol; size 4096; flags dynamic; }
 set to { typeof iifname . ip daddr . meta l4proto . th dport; size 16384; flags dynamic,timeout; timeout 1h; }
 chain see { type filter hook prerouting priority -350; policy accept;
  iifname != "d*" return
  ether type arp return
  ether type != ip counter name other drop
  iifname . ip saddr != @home counter name forged drop
  ip protocol tcp tcp flags & (syn | ack) == (syn | ack) update @listens { iifname . tcp sport counter }
  ip protocol tcp tcp flags & (syn | ack) == (syn | ack) update @answers { iifname . ip daddr . tcp sport . tcp dport }
  udp dport 53 update @dns { iifname counter }
  tcp dport 53 update @dns { iifname counter }
  ip daddr 10.77.255.1 return
  update @vol { iifname counter }
  ip frag-off & 0x1fff != 0 update @odd { iifname . ip daddr . ip protocol counter } return
  ip protocol tcp iifname . ip daddr . tcp sport . tcp dport @answers return
  meta l4proto { tcp, udp } update @to { iifname . ip daddr . meta l4proto . th dport counter } return
  meta l4proto { tcp, udp } counter name over return
  update @odd { iifname . ip daddr . ip protocol counter }
 }
 chain bind { type filter hook prerouting priority -300; policy accept;
  iifname @cut ip daddr 10.77.255.1 tcp dport { 8444, 8883 } accept
  iifname @cut ether type != arp counter name held drop
 }
 chain between { type filter hook forward priority 0; policy drop; counter name eastwest; }
}
"#;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Port, address, protocol, port there.
pub type Destination = (String, Ipv4Addr, Protocol, u16);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub packets: u64,
    pub bytes: u64,
}

/// The table's counters since the beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    pub volume: std::collections::BTreeMap<String, Count>,
    pub dns: std::collections::BTreeMap<String, u64>,
    /// TCP ports at which a device answered a call, by its port on the bridge.
    pub listening: std::collections::BTreeSet<(String, u16)>,
    pub destinations: std::collections::BTreeMap<Destination, Count>,
    /// With a source address that is not the port's.
    pub forged: u64,
    /// From device to device; none of it arrived.
    pub east_west: u64,
    /// Of ports that are cut; none of it went on.
    pub held: u64,
}

impl Seen {
    /// Reads `nft -j list table`.
    fn parse(text: &str) -> Result<Self, Failed> {
        let wrong = |why: String| Failed {
            step: "reading the bridge's table".into(),
            why,
        };
        let listed: Listed = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
        let mut seen = Self::default();
        for object in listed.nftables {
            if let Some(counter) = object.counter {
                match counter.name.as_str() {
                    "forged" => seen.forged = counter.packets,
                    "eastwest" => seen.east_west = counter.packets,
                    "held" => seen.held = counter.packets,
                    _ => {}
                }
            }
            let Some(set) = object.set else { continue };
            for element in set.elem {
                let Element::Counted { elem } = element else {
                    continue;
                };
                let Counted { val, counter } = elem;
                let count = Count {
                    packets: counter.packets,
                    bytes: counter.bytes,
                };
                match (set.name.as_str(), val) {
                    ("vol", Key::One(port)) => drop(seen.volume.insert(port, count)),
                    ("dns", Key::One(port)) => drop(seen.dns.insert(port, count.packets)),
                    ("to", Key::Several { concat }) => {
                        if let Some(key) = destination(&concat) {
                            seen.destinations.insert(key, count);
                        }
                    }
                    ("listens", Key::Several { concat }) => {
                        seen.listening.extend(listener(&concat));
                    }
                    _ => {}
                }
            }
        }
        Ok(seen)
    }
}

fn listener(parts: &[serde_json::Value]) -> Option<(String, u16)> {
    let [port, own] = parts else {
        return None;
    };
    Some((
        port.as_str()?.to_owned(),
        u16::try_from(own.as_u64()?).ok()?,
    ))
}

fn destination(parts: &[serde_json::Value]) -> Option<Destination> {
    let [port, address, protocol, there] = parts else {
        return None;
    };
    let protocol = match protocol.as_str()? {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    };
    Some((
        port.as_str()?.to_owned(),
        address.as_str()?.parse().ok()?,
        protocol,
        u16::try_from(there.as_u64()?).ok()?,
    ))
}

#[derive(Deserialize)]
struct Listed {
    nftables: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    counter: Option<Named>,
    set: Option<Set>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    packets: u64,
}

#[derive(Deserialize)]
struct Set {
    name: String,
    #[serde(default)]
    elem: Vec<Element>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Element {
    Counted {
        elem: Counted,
    },
    /// Elements without a counter are not ours to read.
    Bare(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct Counted {
    val: Key,
    #[serde(default)]
    counter: Numbers,
}

#[derive(Deserialize, Default)]
struct Numbers {
    packets: u64,
    bytes: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Key {
    One(String),
    Several { concat: Vec<serde_json::Value> },
}

fn ip(step: &str, batch: &str) -> Result<(), Failed> {
    let mut command = tool("ip");
    command.args(["-batch", "-"]);
    run(step, command, batch).map(drop)
}

fn nft(step: &str, script: &str) -> Result<(), Failed> {
    let mut command = tool("nft");
    command.args(["-f", "-"]);
    run(step, command, script).map(drop)
}

/// A tool of the system, which an ordinary user's path may not name.
fn tool(name: &str) -> Command {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    let mut command = Command::new(name);
    command.env("PATH", path).env("LC_ALL", "C");
    command
}

fn run(step: &str, mut command: Command, input: &str) -> Result<String, Failed> {
    let program = command.get_program().display().to_string();
    let failed_so = |e: &dyn std::fmt::Display| failed(step, &format!("{program}: {e}"));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed_so(&e))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends early says why on standard error.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|e| failed_so(&e))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(failed_so(&first_line(&String::from_utf8_lossy(
            &output.stderr,
        ))))
    }
}

fn failed(step: &str, why: &dyn std::fmt::Display) -> Failed {
    Failed {
        step: step.to_owned(),
        why: why.to_string(),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or("it said nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_as_nft_prints_them() {
        let text = r#"{"nftables": [
          {"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
          {"table": {"family": "bridge", "name": "fleet", "handle": 1}},
          {"counter": {"family": "bridge", "name": "forged", "table": "fleet", "packets": 2, "bytes": 60}},
          {"set": {"family": "bridge", "name": "home", "type": ["ifname", "ipv4_addr"],
            "elem": [{"concat": ["d11", "10.77.0.11"]}]}},
          {"set": {"family": "bridge", "name": "dns", "type": "ifname",
            "elem": [{"elem": {"val": "d11", "counter": {"packets": 3, "bytes": 30}}}]}},
          {"set": {"family": "bridge", "name": "to", "flags": ["timeout"],
            "elem": [{"elem": {"val": {"concat": ["d11", "198.51.100.3", "tcp", 4444]},
              "expires": 3599, "counter": {"packets": 1, "bytes": 60}}},
              {"elem": {"val": {"concat": ["d11", "198.51.100.3", "icmp", 4444]},
              "expires": 3599, "counter": {"packets": 1, "bytes": 60}}}]}},
          {"chain": {"family": "bridge", "name": "see"}}]}"#;
        let seen = Seen::parse(text).unwrap();
        assert_eq!(seen.forged, 2);
        assert_eq!(seen.dns, [("d11".to_owned(), 3)].into());
        let to = (
            "d11".to_owned(),
            Ipv4Addr::new(198, 51, 100, 3),
            Protocol::Tcp,
            4444,
        );
        let count = Count {
            packets: 1,
            bytes: 60,
        };
        assert_eq!(seen.destinations, [(to, count)].into());
        assert!(Seen::parse("not json").is_err());
    }
}
