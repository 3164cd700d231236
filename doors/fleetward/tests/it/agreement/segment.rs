//! A network that is nobody else's, with a plane in it and each device's agent in a part of its own.

use super::probing::may_have_a_gateway;
use crate::plane::{Home, Plane};
use access::Host;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sim::Device;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The plane's, for MQTT and for EST.
pub const DOORS: [&str; 2] = ["203.0.113.250:8883", "203.0.113.250:8444"];
/// Set where the test runs in a network of its own.
const INSIDE: &str = "FLEETWARD_TEST_SEGMENT";

/// Whether this is the network that is nobody else's. If not, `test` is run in one, and what it says is
/// said here; or it is said why there can be none.
pub fn enter(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if !agent_program().exists() {
        println!("skipped: {} is not built", agent_program().display());
        return false;
    }
    let mut mount = Command::new("unshare");
    mount.args(["-rnm", "mount", "--bind", "/etc/hosts", "/etc/hosts"]);
    let may_mount = mount.output().is_ok_and(|ran| ran.status.success());
    if !may_mount {
        println!("skipped: a hosts file of one's own cannot be had here");
    }
    if !may_mount || !may_have_a_gateway() {
        return false;
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let ran = Command::new("unshare")
        .arg("-rnm")
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    let is_well = ran.status.success() && said.contains(" 1 passed");
    let wrong = String::from_utf8_lossy(&ran.stderr);
    assert!(is_well, "{said}\n{wrong}");
    for line in said.lines() {
        if line.starts_with("agreement: ") || line.starts_with("skipped: ") {
            println!("{line}");
        }
    }
    false
}

/// The plane's end of it, to which devices are attached.
pub fn make() {
    for line in [
        "link set lo up",
        // Of its own: else it takes that of a device's link, and another with each that comes.
        "link add br0 address 02:00:00:00:00:01 type bridge",
        "addr add 192.168.10.1/24 dev br0",
        "addr add 203.0.113.250/32 dev br0",
        "-6 addr add 2001:db8:10::ffff/64 dev br0 nodad",
        "link set br0 up",
    ] {
        ip(Command::new("ip"), line);
    }
}

/// The plane opens its doors where devices find them.
pub fn put_doors(home: &Home) {
    let path = home.path("plane.toml");
    let mut text = std::fs::read_to_string(&path).unwrap();
    for (door, address) in ["mqtt", "devices"].into_iter().zip(DOORS) {
        let any = format!("{door} = \"127.0.0.1:0\"");
        assert!(text.contains(&any));
        text = text.replace(&any, &format!("{door} = \"{address}\""));
    }
    std::fs::write(path, text).unwrap();
}

/// An agent, its device's addresses and its idea of what names mean.
pub struct Agent {
    home: PathBuf,
    running: Child,
}

impl Agent {
    pub fn start(
        home: &Home,
        plane: &Plane,
        number: usize,
        host: &Host,
        device: &Device,
        names: &Path,
    ) -> Self {
        let folder = home.path(device.id().as_str());
        std::fs::create_dir(&folder).unwrap();
        device.idevid().write(&folder, "idevid").unwrap();
        let roots = sim::credential::pem("CERTIFICATE", &plane.root());
        std::fs::write(folder.join("roots.pem"), roots).unwrap();
        let text = format!(
            "device = \"{}\"\nproduct = \"{}\"\nstate_dir = \"state\"\nroots_file = \"roots.pem\"\n\
             idevid_certificate_file = \"idevid.pem\"\nidevid_key_file = \"idevid.key\"\n\
             report_seconds = 1\nreconnect_seconds_max = 1\n\
             enforce_destinations = true\nenforce_locally = true\n\
             [plane]\nmqtt = \"{}\"\nest = \"{}\"\nserver_name = \"localhost\"\n",
            host.device, host.product, DOORS[0], DOORS[1],
        );
        std::fs::write(folder.join("agent.toml"), text).unwrap();
        // It begins once its link is there.
        let script = "mount --bind \"$1\" /etc/hosts && echo ready && read go && \
                      exec \"$2\" --config \"$3\" run";
        let mut running = Command::new("unshare")
            .args(["-n", "-m", "sh", "-c", script, "sh"])
            .arg(names)
            .arg(agent_program())
            .arg(folder.join("agent.toml"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(running.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let mut go = running.stdin.take().unwrap();
        let agent = Self {
            home: folder,
            running,
        };
        agent.attach(number, host);
        go.write_all(b"go\n").unwrap();
        agent
    }

    /// Its link to the plane's end, with the addresses that the site knows.
    fn attach(&self, number: usize, host: &Host) {
        let pid = self.running.id();
        ip(
            Command::new("ip"),
            &format!("link add d{number} type veth peer name eth0 netns {pid}"),
        );
        ip(
            Command::new("ip"),
            &format!("link set d{number} master br0 up"),
        );
        let [four, six] = host.addresses[..] else {
            panic!("{host:?}")
        };
        for line in [
            "link set lo up".to_owned(),
            format!("addr add {four}/24 dev eth0"),
            format!("-6 addr add {six}/64 dev eth0 nodad"),
            "link set eth0 up".to_owned(),
            "route add default via 192.168.10.1".to_owned(),
            "-6 route add default via 2001:db8:10::ffff".to_owned(),
        ] {
            let mut device = self.inside();
            device.arg("ip");
            ip(device, &line);
        }
    }

    /// Runs what follows as a program of the device would.
    pub fn inside(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-n", "-t", &self.running.id().to_string(), "--"]);
        command
    }

    pub fn status(&self) -> Value {
        let mut command = Command::new(agent_program());
        command.arg("--config").arg(self.home.join("agent.toml"));
        let output = command.args(["status", "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    pub fn stop(&mut self) {
        kill_process(Pid::from_child(&self.running), Signal::TERM).unwrap();
        assert!(self.running.wait().unwrap().success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.running.kill();
        let _ = self.running.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.home.join("log")).unwrap_or_default();
            println!("the lines of {}:\n{log}", self.home.display());
        }
    }
}

fn agent_program() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_fleetward")).with_file_name("fleetward-agent")
}

fn ip(mut command: Command, line: &str) {
    let ran = command.args(line.split(' ')).output().unwrap();
    assert!(ran.status.success(), "ip {line}: {ran:?}");
}
