//! A real agent at a real plane: it enrolls, publishes, reports and renews; kill -9 of either
//! costs no message; what is revoked stays out.
//!
//! The agent's program must have been built beside ours: `cargo xtask test` does, `cargo build -p agent`
//! does it alone. Without it these tests are skipped, and say so.

use crate::authorities::run;
use crate::plane::{Home, PATIENCE, Plane, Settings, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sim::{Device, Service};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The folder of one agent, and its process while it runs.
struct Agent {
    home: PathBuf,
    program: PathBuf,
    running: Option<Child>,
}

impl Agent {
    /// `None`, with a message, where the program is not built.
    fn of(home: &Home, plane: &Plane, device: &Device, extra: &str) -> Option<Self> {
        let program = Path::new(env!("CARGO_BIN_EXE_fleetward")).with_file_name("fleetward-agent");
        if !program.exists() {
            println!("skipped: {} is not built", program.display());
            return None;
        }
        let folder = home.path(device.id().as_str());
        std::fs::create_dir(&folder).unwrap();
        device.idevid().write(&folder, "idevid").unwrap();
        let roots = sim::credential::pem("CERTIFICATE", &plane.root());
        std::fs::write(folder.join("roots.pem"), roots).unwrap();
        std::fs::write(folder.join("firmware"), b"firmware 3.1.0").unwrap();
        let text = format!(
            "device = \"{}\"\nproduct = \"sensor\"\nstate_dir = \"state\"\n\
             roots_file = \"roots.pem\"\nidevid_certificate_file = \"idevid.pem\"\n\
             idevid_key_file = \"idevid.key\"\nreport_seconds = 1\nreconnect_seconds_max = 1\n\
             firmware_version = \"3.1.0\"\nfirmware_file = \"firmware\"\n{extra}\n\
             [plane]\nest = \"localhost:{}\"\nmqtt = \"localhost:{}\"\n\
             [[publish]]\ntopic = \"v1/sensor/{{device}}/telemetry/status\"\nevery_seconds = 1\n\
             [sources]\ndestinations = \"sock_diag\"\n",
            device.id(),
            plane.devices.port(),
            plane.mqtt.port(),
        );
        std::fs::write(folder.join("agent.toml"), text).unwrap();
        Some(Self {
            home: folder,
            program,
            running: None,
        })
    }

    fn command(&self, verb: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(self.home.join("agent.toml"));
        command.args(verb).stdin(Stdio::null());
        command
    }

    fn start(&mut self) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.home.join("log"))
            .unwrap();
        self.running = Some(self.command(&["run"]).stderr(log).spawn().unwrap());
    }

    fn kill(&mut self) {
        let mut child = self.running.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn stop(&mut self) -> ExitStatus {
        let mut child = self.running.take().unwrap();
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        child.wait().unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.home.join("log")).unwrap_or_default()
    }

    fn status(&self) -> Value {
        let output = self.command(&["status", "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    fn certificate_files(&self) -> BTreeSet<String> {
        std::fs::read_dir(self.home.join("state"))
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with("ldevid-"))
            .collect()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(child) = &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            println!("the agent's lines:\n{}", self.log());
        }
    }
}

/// What a consumer got of a device's own messages: (boot, n).
#[derive(Default)]
pub struct Got(pub BTreeSet<(String, u64)>);

impl Got {
    /// Takes until `enough`, or fails.
    #[track_caller]
    pub fn take_until(&mut self, service: &mut Service, enough: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !enough(self) {
            assert!(Instant::now() < deadline, "too little came: {:?}", self.0);
            let session = service.session().unwrap();
            let soon = Instant::now() + Duration::from_millis(200);
            if let Some(delivery) = session.next_delivery(soon).unwrap() {
                let status: Value = serde_json::from_slice(&delivery.payload).unwrap();
                session.acknowledge(&[delivery]).unwrap();
                let boot = status["boot"].as_str().unwrap().to_owned();
                self.0.insert((boot, status["n"].as_u64().unwrap()));
            }
        }
    }

    /// Every run's numbers from 1 up to the highest are here.
    pub fn is_whole(&self) -> bool {
        let boots: BTreeSet<&String> = self.0.iter().map(|(boot, _)| boot).collect();
        boots.iter().all(|boot| {
            let of_boot = self.0.iter().filter(|(b, _)| b == *boot);
            let numbers: Vec<u64> = of_boot.map(|(_, n)| *n).collect();
            numbers.iter().copied().eq(1..=numbers.len() as u64)
        })
    }
}

/// The next start opens the same doors as this one did.
fn keep_doors(home: &Home, plane: &Plane) {
    let path = home.path("plane.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let any = |door: &str| format!("{door} = \"127.0.0.1:0\"");
    let text = text
        .replace(&any("devices"), &format!("devices = \"{}\"", plane.devices))
        .replace(&any("mqtt"), &format!("mqtt = \"{}\"", plane.mqtt));
    std::fs::write(path, text).unwrap();
}

#[test]
fn an_agent_enrolls_publishes_and_loses_nothing_when_the_plane_is_killed() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let device = home.device("agent-1");
    plane.expect([&device]);
    let Some(mut agent) = Agent::of(&home, &plane, &device, "") else {
        return;
    };
    let mut ingest = plane.ingest();
    ingest.connect().unwrap();
    agent.start();
    let mut got = Got::default();
    got.take_until(&mut ingest, |got| got.0.len() >= 2);
    wait_until("the agent says that it is connected", || {
        agent.status()["state"] == "connected"
    });
    keep_doors(&home, &plane);
    plane.kill();
    wait_until("the agent knows that the plane is gone", || {
        agent.status()["state"] == "connecting"
    });
    let plane = home.start();
    ingest.set_endpoint(plane.doors().mqtt);
    ingest.connect().unwrap();
    let before = got.0.len();
    got.take_until(&mut ingest, |got| {
        got.0.len() >= before + 3 && got.is_whole()
    });
    assert!(agent.stop().success());
    let status = agent.status();
    assert_eq!(status["state"], "ended", "{status}");
    assert_eq!(status["counts"]["dropped"], 0, "{status}");
    // Telemetry and reports alike.
    assert_eq!(status["counts"]["refused"], 0, "{status}");
    assert!(status["report_sequence"].as_u64() > Some(2), "{status}");
    plane.stop_well();
}

#[test]
fn an_agent_renews_and_kill_9_at_any_moment_does_not_lock_it_out() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let device = home.device("agent-2");
    plane.expect([&device]);
    let Some(mut agent) = Agent::of(&home, &plane, &device, "renew_seconds_max = 1") else {
        return;
    };
    // Each round ends after another number of steps of the renewal.
    for round in 0..8u64 {
        agent.start();
        let files = plane.entries().len();
        wait_until("a certificate is issued", || plane.entries().len() > files);
        std::thread::sleep(Duration::from_millis(round * 3));
        agent.kill();
    }
    agent.start();
    let first = agent.certificate_files();
    wait_until("it renews once more and the old one retires", || {
        let now = agent.certificate_files();
        now.len() == 1 && now != first
    });
    assert_eq!(plane.connected(), ["device/agent-2"]);
    assert!(agent.stop().success());
    plane.stop_well();
}

#[test]
fn a_revoked_agent_stays_out_and_keeps_its_calm() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let device = home.device("agent-3");
    plane.expect([&device]);
    let Some(mut agent) = Agent::of(&home, &plane, &device, "") else {
        return;
    };
    agent.start();
    wait_until("it is connected", || {
        plane.connected() == ["device/agent-3"]
    });
    plane.revoke(device.id());
    wait_until("it tries its factory identity and is refused", || {
        agent.log().contains("not enrolled again")
    });
    assert!(plane.connected().is_empty());
    assert_eq!(agent.status()["state"], "connecting");
    assert!(agent.stop().success());
    plane.stop_well();
}

#[test]
fn a_quarantined_agent_falls_silent_until_it_is_restored_though_the_plane_restarts() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let device = home.device("agent-4");
    plane.expect([&device]);
    let Some(mut agent) = Agent::of(&home, &plane, &device, "") else {
        return;
    };
    let mut ingest = plane.ingest();
    ingest.connect().unwrap();
    agent.start();
    let mut got = Got::default();
    got.take_until(&mut ingest, |got| !got.0.is_empty());
    let quarantine = serde_json::json!({
        "device": "agent-4", "containment": "quarantined", "reason": "a drill",
    });
    let path = "/api/v1/response/containments";
    plane.post(path, &quarantine).expect(201);
    wait_until("the agent obeys", || {
        agent.status()["containment"] == "quarantined"
    });
    // It comes back to a plane that has told it before it was there: it is told again.
    keep_doors(&home, &plane);
    plane.kill();
    let plane = home.start();
    ingest.set_endpoint(plane.doors().mqtt);
    ingest.connect().unwrap();
    let mark = agent.log().len();
    wait_until("it is back and still obeys", || {
        agent.log()[mark.min(agent.log().len())..].contains("connected to")
            || agent.status()["state"] == "connected"
    });
    wait_until("it is still quarantined", || {
        let status = agent.status();
        status["state"] == "connected" && status["containment"] == "quarantined"
    });
    let released = plane
        .try_ask("DELETE", &format!("{path}/agent-4"), None)
        .unwrap();
    released.expect(200);
    wait_until("it goes on", || agent.status()["containment"].is_null());
    let before = got.0.len();
    got.take_until(&mut ingest, |got| {
        got.0.len() >= before + 2 && got.is_whole()
    });
    assert!(agent.stop().success());
    let status = agent.status();
    assert_eq!(status["counts"]["refused"], 0, "{status}");
    plane.stop_well();
}

#[test]
fn an_isolated_agent_that_is_killed_stays_cut_off_with_nobody_to_ask_until_it_is_given_back() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let device = home.device("agent-6");
    plane.expect([&device]);
    let Some(mut agent) = Agent::of(&home, &plane, &device, "") else {
        return;
    };
    agent.start();
    wait_until("it is connected", || agent.status()["state"] == "connected");
    let isolation = serde_json::json!({
        "device": "agent-6", "containment": "isolated", "reason": "a drill",
    });
    let path = "/api/v1/response/containments";
    plane.post(path, &isolation).expect(201);
    wait_until("the agent obeys", || {
        agent.status()["containment"] == "isolated"
    });
    keep_doors(&home, &plane);
    plane.kill();
    agent.kill();
    let before = agent.status()["boot"].clone();
    agent.start();
    wait_until("it has started again and found nobody", || {
        let status = agent.status();
        status["boot"] != before && status["report_sequence"].as_u64() > Some(2)
    });
    let status = agent.status();
    assert_eq!(status["containment"], "isolated", "{status}");
    assert_eq!(status["state"], "connecting", "{status}");
    // Reports wait, and no message of the device's own was made.
    let reports = status["report_sequence"].as_u64().unwrap();
    assert!(
        status["queue_messages"].as_u64() <= Some(reports),
        "{status}"
    );

    let plane = home.start();
    let mut ingest = plane.ingest();
    ingest.connect().unwrap();
    plane
        .try_ask("DELETE", &format!("{path}/agent-6"), None)
        .unwrap()
        .expect(200);
    let mut got = Got::default();
    got.take_until(&mut ingest, |got| got.0.len() >= 2);
    // The first of its messages since then is the first that it made.
    assert!(got.is_whole(), "{:?}", got.0);
    assert!(agent.status()["containment"].is_null());
    assert!(agent.stop().success());
    assert!(!home.path("agent-6/state/containment.json").exists());
    plane.stop_well();
}

/// The next root of a plane, made known, and a CA below it.
const NEXT_ROOT: &str = "\
    umask 077\n\
    openssl rand -base64 32 > one.passphrase\n\
    openssl rand -base64 32 > two.passphrase\n\
    fleetward identity root export --bundle one.bundle --passphrase-file one.passphrase --yes\n\
    fleetward identity root create --trust-domain fleetward.internal --tenant acme \
      --bundle two.bundle --passphrase-file two.passphrase --out two.pem\n\
    fleetward identity root link --before one.bundle --before-passphrase-file one.passphrase \
      --bundle two.bundle --passphrase-file two.passphrase --out next-root.pem\n\
    fleetward identity root install next-root.pem\n\
    fleetward identity ca request default --out default.csr\n\
    fleetward identity root sign --bundle two.bundle --passphrase-file two.passphrase \
      --request default.csr --out default.pem --record ceremony.jsonl --yes\n\
    fleetward identity ca install default default.pem\n";

#[test]
fn an_agent_learns_the_next_root_follows_it_and_forgets_the_old_one_though_it_is_killed() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let device = home.device("agent-5");
    plane.expect([&device]);
    let Some(mut agent) = Agent::of(&home, &plane, &device, "renew_seconds_max = 1") else {
        return;
    };
    agent.start();
    wait_until("it is connected", || {
        plane.connected() == ["device/agent-5"]
    });
    run(&home, NEXT_ROOT);
    let roots = |agent: &Agent| agent.status()["roots"].as_array().map_or(0, Vec::len);
    wait_until("it has learned the next root", || roots(&agent) == 2);
    let ahead = serde_json::json!({ "dry_run": true });
    let unlearned = |step: &str| {
        let path = format!("/api/v1/identity/roots/{step}");
        plane.post(&path, &ahead).expect(200).json()["unlearned"].clone()
    };
    wait_until("it has said so", || unlearned("rollover") == 0);
    agent.kill();
    run(&home, "fleetward identity root rollover --serve");
    agent.start();
    let mark = plane.entries().len();
    wait_until("it renews below the new root", || {
        plane.entries().len() > mark + 1
    });
    run(&home, "fleetward identity root retire");
    agent.kill();
    agent.start();
    let now = plane.get("/api/v1/identity/authorities").expect(200).json();
    wait_until("it believes the new root alone", || {
        let status = agent.status();
        status["roots"] == serde_json::json!([now["roots"][0]["sha256"]])
            && status["state"] == "connected"
    });
    assert!(agent.stop().success());
    plane.stop_well();
}
