//! A plane for real: the verbs that ask it, and what it refuses to start with.

use crate::support::{Ran, command, finished, python_verifier, run, text};
use serde_json::Value;
use sim::device::{Doors, Manner};
use sim::tls::Endpoint;
use sim::{Device, Factory, Flaw};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A plane on ports that the system chose, in a scratch folder. Killed if a test fails.
struct Plane {
    scratch: tempfile::TempDir,
    child: Child,
    doors: Value,
}

const CONFIG: &str = "tenant = \"acme\"\n[listen]\npeople = \"127.0.0.1:0\"\n\
                      devices = \"127.0.0.1:0\"\nmqtt = \"127.0.0.1:0\"\n\
                      [gateway]\ndurability = \"process\"\n";

impl Plane {
    fn start() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        fs::write(scratch.path().join("plane.toml"), CONFIG).unwrap();
        let ready = scratch.path().join("ready.json");
        let mut child = serve(scratch.path())
            .args(["--ready-file", text(&ready)])
            .stderr(fs::File::create(scratch.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let patience = Instant::now() + Duration::from_secs(60);
        let doors = loop {
            if let Ok(text) = fs::read_to_string(&ready) {
                break serde_json::from_str(&text).unwrap();
            }
            let said = || fs::read_to_string(scratch.path().join("stderr")).unwrap();
            assert!(child.try_wait().unwrap().is_none(), "it ended: {}", said());
            assert!(Instant::now() < patience, "it is not ready: {}", said());
            std::thread::sleep(Duration::from_millis(20));
        };
        Self {
            scratch,
            child,
            doors,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// A verb asked of this plane.
    fn run(&self, arguments: &[&str]) -> Ran {
        let data = self.path("data");
        finished(
            command(arguments)
                .args(["--data", text(&data)])
                .current_dir(self.scratch.path()),
        )
    }

    fn port(&self, door: &str) -> u16 {
        self.doors[door]
            .as_str()
            .unwrap()
            .rsplit_once(':')
            .unwrap()
            .1
            .parse()
            .unwrap()
    }

    fn endpoint(&self, door: &str) -> Endpoint {
        let roots = sim::credential::read_certificates(&self.path("root.pem")).unwrap();
        let address = self.doors[door].as_str().unwrap().parse().unwrap();
        Endpoint::new(address, "localhost", &roots).unwrap()
    }

    /// SIGTERM, and what came of it.
    fn stop(mut self) -> (Option<i32>, String) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let code = self.child.wait().unwrap().code();
        (code, fs::read_to_string(self.path("stderr")).unwrap())
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(scratch: &Path) -> Command {
    let (config, data) = (scratch.join("plane.toml"), scratch.join("data"));
    let mut command = command(&["serve", "--config", text(&config), "--data", text(&data)]);
    command.stdout(Stdio::null());
    command
}

fn fleet() -> String {
    format!("{}/../../examples/fleet", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn from_an_empty_folder_to_a_proof() {
    let plane = Plane::start();
    assert!(
        plane
            .run(&["status"])
            .well()
            .starts_with("ready             yes\n")
    );

    // A device exists, and its maker vouches for it.
    let now = sim::now();
    let factory = Factory::new("Acme", now).unwrap();
    fs::write(plane.path("acme.pem"), factory.certificate_pem()).unwrap();
    plane
        .run(&[
            "identity",
            "manufacturer",
            "add",
            "--name",
            "acme",
            "--ca",
            "acme.pem",
        ])
        .well();
    assert!(
        plane
            .run(&["identity", "manufacturer", "list"])
            .well()
            .contains("acme")
    );
    let folder = fleet();
    assert!(
        plane
            .run(&["plan", &folder])
            .well()
            .contains("\n  + channel camera-telemetry\n")
    );
    let ran = plane.run(&["apply", &folder]);
    assert!(ran.refused().contains("say --yes"), "{ran:?}");
    assert!(
        plane
            .run(&["apply", &folder, "--yes"])
            .well()
            .contains("Version 1 is in force")
    );
    assert!(
        plane
            .run(&["apply", &folder])
            .well()
            .starts_with("Nothing to change")
    );
    fs::create_dir(plane.path("mine")).unwrap();
    fs::write(plane.path("mine/fleet.toml"), "name = \"x\"\n\u{1b} = 1\n").unwrap();
    let ran = plane.run(&["apply", "mine", "--yes"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.starts_with("mine/fleet.toml:2:"), "{ran:?}");
    assert!(
        ran.err.lines().last().unwrap().starts_with("fleetward: "),
        "{ran:?}"
    );
    assert!(!ran.err.contains('\u{1b}'), "{ran:?}");
    fs::write(
        plane.path("list.csv"),
        "serial,product,device\nSN-1,camera,cam-1\n",
    )
    .unwrap();
    let expect = ["identity", "expect", "--manufacturer", "acme", "list.csv"];
    assert!(plane.run(&expect).well().starts_with("devices  1\n"));
    fs::write(
        plane.path("bad.csv"),
        "serial,product\nSN-2,camera\n\u{1b}[2J,camera\n",
    )
    .unwrap();
    let ran = plane.run(&["identity", "expect", "--manufacturer", "acme", "bad.csv"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("line 3") && !ran.err.contains('\u{1b}'),
        "{ran:?}"
    );

    // It enrolls and connects.
    fs::write(
        plane.path("root.pem"),
        plane.run(&["identity", "ca"]).well(),
    )
    .unwrap();
    let serial = model::SerialNumber::new("SN-1").unwrap();
    let idevid = factory.idevid(&serial, Flaw::None, now).unwrap();
    let mut camera = Device::new(model::DeviceId::new("cam-1").unwrap(), serial, idevid);
    let doors = Doors {
        est: plane.endpoint("devices"),
        mqtt: plane.endpoint("mqtt"),
    };
    camera.enroll(&doors, &Manner::default()).unwrap();
    camera.connect(&doors, &Manner::default()).unwrap();
    assert!(
        plane
            .run(&["identity", "list"])
            .well()
            .contains("cam-1   camera")
    );
    let shown = plane
        .run(&["identity", "show", "cam-1", "--output", "json"])
        .json();
    let certificate = shown["certificates"][0]["certificate"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        plane
            .run(&["identity", "show", "cam-1"])
            .well()
            .contains(&certificate)
    );
    assert!(
        plane
            .run(&["gateway", "sessions"])
            .well()
            .contains("device/cam-1")
    );
    let topic = "v1/camera/cam-1/telemetry/light";
    let explain = plane.run(&["access", "explain", "--device", "cam-1", "--publish", topic]);
    assert!(
        explain
            .well()
            .starts_with("PERMITTED\npolicy   device-sends-own\n"),
        "{explain:?}"
    );
    let foreign = "v1/camera/cam-2/telemetry/light";
    let explain = plane.run(&[
        "access",
        "explain",
        "--device",
        "cam-1",
        "--publish",
        foreign,
    ]);
    assert_eq!(explain.code, 1);
    assert!(
        explain.out.starts_with("DENIED\n") && explain.err.is_empty(),
        "{explain:?}"
    );

    // It is revoked, and the log proves it.
    let revoke = [
        "identity",
        "revoke",
        "--device",
        "cam-1",
        "--reason",
        "key-compromise",
    ];
    let receipt = plane
        .run(&[&revoke[..], &["--output", "json"]].concat())
        .json();
    assert_eq!(receipt["sessions_closed"], 1);
    assert!(receipt["in_force_after_micros"].as_u64().unwrap() > 0);
    assert!(
        plane
            .run(&["identity", "list"])
            .well()
            .contains("key-compromise")
    );
    assert!(
        camera
            .try_return(&doors, &Manner::default())
            .reconnect_refused()
    );
    plane.run(&["identity", "crl", "--out", "fleet.crl"]).well();
    prove(&plane);
    watch_from_another_machine(&plane);

    let (code, said) = plane.stop();
    assert_eq!(code, Some(0), "{said}");
}

fn prove(plane: &Plane) {
    fs::write(
        plane.path("fleet.vkey"),
        plane.run(&["audit", "key"]).well(),
    )
    .unwrap();
    let (data, bundle) = (plane.path("data"), plane.path("evidence.json"));
    let revoked = |text: &str| text.contains("identity.device-revoked");
    // No wait: what was acknowledged is in the next bundle.
    plane
        .run(&["audit", "bundle", "--out", "evidence.json"])
        .well();
    let ran = run(&[
        "audit",
        "verify",
        text(&bundle),
        "--key",
        text(&plane.path("fleet.vkey")),
    ]);
    assert!(revoked(ran.well()), "{ran:?}");
    assert!(ran.out.ends_with("\nOK\n"), "{ran:?}");
    assert!(
        plane
            .run(&["audit", "entries", "--limit", "1000"])
            .well()
            .lines()
            .any(revoked)
    );
    let vkey = fs::read_to_string(plane.path("fleet.vkey")).unwrap();
    if let Some(python) = python_verifier(&["bundle", text(&bundle), "--key", vkey.trim()]) {
        assert!(python.well().ends_with("OK\n"), "{python:?}");
    }
    let log = PathBuf::from(format!("{}-log", data.display()));
    run(&["audit", "check", text(&log), "--key", vkey.trim()]).well();
    assert!(plane.run(&["audit", "seal"]).well().contains("sealed  -"));
}

fn watch_from_another_machine(plane: &Plane) {
    let openssl = Command::new("openssl")
        .args([
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ])
        .args([
            "-subj",
            "/CN=commander",
            "-keyout",
            "commander.key",
            "-out",
            "commander.csr",
        ])
        .current_dir(plane.scratch.path())
        .stderr(Stdio::null())
        .status();
    if openssl.is_ok_and(|status| status.success()) {
        let csr = ["--csr", "commander.csr", "--out", "commander.pem"];
        plane
            .run(&[&["identity", "certify", "commander"][..], &csr].concat())
            .well();
    } else {
        eprintln!("skipped: openssl is not installed");
    }
    let certify = ["identity", "certify", "ingest", "--new-key", "ingest.key"];
    plane
        .run(&[&certify[..], &["--out", "ingest.pem"]].concat())
        .well();
    let mode = fs::metadata(plane.path("ingest.key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = plane.run(&[&certify[..], &["--out", "ingest.pem"]].concat());
    assert!(
        again.refused().contains("ingest.key cannot be made"),
        "a key was overwritten"
    );
    let nobody = [
        "identity",
        "certify",
        "nobody",
        "--new-key",
        "n.key",
        "--out",
        "n.pem",
    ];
    assert!(plane.run(&nobody).refused().contains("service-unlisted"));
    assert!(!plane.path("n.key").exists() && !plane.path("n.pem").exists());

    let url = format!("https://localhost:{}", plane.port("devices"));
    let watch = |url: &str, key: &str| {
        finished(
            command(&[
                "audit",
                "watch",
                "--url",
                url,
                "--ca",
                "root.pem",
                "--cert",
                "ingest.pem",
            ])
            .args([
                "--key-file",
                key,
                "--key",
                "fleet.vkey",
                "--state",
                "seen",
                "--once",
            ])
            .current_dir(plane.scratch.path()),
        )
    };
    assert!(watch(&url, "ingest.key").well().starts_with("first: "));
    plane.run(&["identity", "manufacturer", "list"]).well();
    let after = watch(&url, "ingest.key");
    assert!(after.well().starts_with("unchanged: ") || after.out.starts_with("grown: "));
    let local = [
        "audit",
        "watch",
        "--key",
        "fleet.vkey",
        "--state",
        "seen",
        "--once",
    ];
    assert!(!plane.run(&local).well().starts_with("first"));
    fs::copy(plane.path("ingest.key"), plane.path("open.key")).unwrap();
    fs::set_permissions(plane.path("open.key"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(watch(&url, "open.key").refused().contains("chmod 600"));
    let elsewhere = url.replace("https", "http");
    assert!(
        watch(&elsewhere, "ingest.key")
            .refused()
            .contains("write https://host:8444")
    );
    let people = format!("https://127.0.0.2:{}", plane.port("people"));
    assert_eq!(
        watch(&people, "ingest.key").code,
        1,
        "another name than the certificate's was taken"
    );
}

#[test]
fn a_plane_that_cannot_start_says_why_in_one_line_and_opens_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let in_use = CONFIG.replacen(
        "mqtt = \"127.0.0.1:0\"",
        &format!("mqtt = \"{}\"", taken.local_addr().unwrap()),
        1,
    );
    let scratch = tempfile::tempdir().unwrap();
    let refuse = |config: &str, data_mode: u32, said: &str| {
        let data = scratch.path().join("data");
        fs::create_dir_all(&data).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(data_mode)).unwrap();
        fs::write(scratch.path().join("plane.toml"), config).unwrap();
        let ready = scratch.path().join("ready");
        fs::write(&ready, "a lie").unwrap();
        let ran = finished(serve(scratch.path()).args(["--ready-file", text(&ready)]));
        let line = ran.refused();
        assert!(
            line.starts_with("fleetward: ") && line.contains(said),
            "{config}: {ran:?}"
        );
        assert!(
            !data.join("fleetward.sock").exists(),
            "{config}: it opened its socket"
        );
        assert!(
            !ready.exists() || fs::read_to_string(&ready).unwrap() == "a lie",
            "{config}"
        );
    };
    refuse(
        "colour = 1\n",
        0o700,
        "line 1, column 1: unknown field `colour`",
    );
    refuse(
        "[gateway]\nshards = 0\n",
        0o700,
        "gateway.shards: 0 is not in 1 to 64",
    );
    refuse("tenant = \n", 0o700, "line 1");
    refuse(
        "[listen]\nmqtt = \"127.0.0.1:8443\"\n",
        0o700,
        "two doors share 127.0.0.1:8443",
    );
    refuse(CONFIG, 0o755, "chmod 700");
    refuse(&in_use, 0o700, "cannot be opened");
    let ran = finished(serve(scratch.path()).env("FLEETWARD_LOG", "=="));
    assert!(ran.refused().contains("FLEETWARD_LOG"), "{ran:?}");
    let none = scratch.path().join("none.toml");
    let ran = run(&["serve", "--config", text(&none)]);
    assert!(ran.refused().contains("cannot be read"), "{ran:?}");
}

#[test]
fn two_planes_do_not_share_a_folder() {
    let plane = Plane::start();
    let ran = finished(&mut serve(plane.scratch.path()));
    assert!(
        ran.refused().contains("is in use by another process"),
        "{ran:?}"
    );
    plane.run(&["status"]).well();
    let (code, said) = plane.stop();
    assert_eq!(code, Some(0), "{said}");
}

/// What was shown is what is applied, what was applied can be had again, and what moved meanwhile is
/// not applied by accident.
#[test]
fn a_fleet_is_planned_applied_exported_and_reverted() {
    let plane = Plane::start();
    let history = plane.run(&["access", "history"]);
    assert!(
        history.well().contains("nothing was applied yet"),
        "{history:?}"
    );
    plane.run(&["access", "export", "live"]).refused();
    plane.run(&["apply", &fleet(), "--yes"]).well();
    fs::write(
        plane.path("list.csv"),
        "serial,product,device,groups\ns-1,camera,cam-1,\ns-2,camera,cam-2,\n",
    )
    .unwrap();
    let factory = Factory::new("Acme Factory", sim::now()).unwrap();
    fs::write(plane.path("factory.pem"), factory.certificate_pem()).unwrap();
    let anchor = [
        "identity",
        "manufacturer",
        "add",
        "--name",
        "acme",
        "--ca",
        "factory.pem",
    ];
    plane.run(&anchor).well();
    let expect = ["identity", "expect", "--manufacturer", "acme", "list.csv"];
    plane.run(&expect).well();

    // A wider policy names who gains by it.
    plane.run(&["access", "export", "live"]).well();
    let more = "@id(\"cameras-give-notice\") permit (principal is Device in Product::\"camera\", \
                action == Action::\"publish\", resource == Channel::\"notice\");";
    fs::write(plane.path("live/policies/more.cedar"), more).unwrap();
    let refused = plane.run(&["plan", "live"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.err.contains("live/invariants.toml")
            && refused.err.contains("no-device-to-device is broken"),
        "{refused:?}"
    );
    fs::remove_file(plane.path("live/invariants.toml")).unwrap();
    let planned = plane.run(&["plan", "live"]);
    let shown = planned.well();
    assert!(
        shown.contains("- invariant no-device-to-device"),
        "{planned:?}"
    );
    assert!(
        shown.contains("+ policy cameras-give-notice"),
        "{planned:?}"
    );
    assert!(
        shown.contains(
            "gains publish notice (cameras-give-notice): 2 devices, as device/cam-1, device/cam-2"
        ),
        "{planned:?}"
    );
    plane.run(&["apply", "live", "--yes"]).well();

    // Back, as a version of its own; byte for byte what it was.
    let reverted = plane.run(&["access", "revert", "1", "--yes"]);
    assert!(
        reverted.well().contains("loses publish notice"),
        "{reverted:?}"
    );
    plane.run(&["access", "export", "again"]).well();
    let differs = Command::new("diff")
        .args(["-r", &fleet(), text(&plane.path("again"))])
        .output()
        .unwrap();
    assert!(differs.status.success(), "{differs:?}");
    let history = plane.run(&["access", "history", "--output", "json"]).json();
    let versions: Vec<_> = (history.as_array().unwrap().iter())
        .map(|one| {
            (
                one["version"].as_u64().unwrap(),
                one["in_force"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(versions, [(3, true), (2, false), (1, false)]);
    plane.run(&["access", "export", "again"]).refused();
    plane.run(&["access", "revert", "9", "--yes"]).refused();
}

/// Between the plan that a person saw and their yes, a device came that would gain by it too.
#[test]
fn a_plan_that_moved_is_not_applied() {
    let plane = Plane::start();
    plane.run(&["apply", &fleet(), "--yes"]).well();
    let files: Vec<Value> = read_files(Path::new(&fleet()))
        .into_iter()
        .map(|(path, text)| serde_json::json!({ "path": path, "text": text + "\n" }))
        .collect();
    let asked = |files: &Value| fs::write(plane.path("body.json"), files.to_string()).unwrap();
    let curl = |method: &str, path: &str| {
        let answer = Command::new("curl")
            .args(["-s", "-X", method, "--unix-socket"])
            .arg(plane.path("data/fleetward.sock"))
            .args([
                "-H",
                "content-type: application/json",
                "--data-binary",
                "@body.json",
            ])
            .arg(format!("http://localhost{path}"))
            .current_dir(plane.scratch.path())
            .output()
            .unwrap();
        serde_json::from_slice::<Value>(&answer.stdout).unwrap()
    };
    asked(&serde_json::json!({ "files": files }));
    let planned = curl("POST", "/api/v1/access/plan");
    let plan = planned["plan"].as_str().unwrap();
    // Somebody else applies first.
    plane.run(&["access", "export", "live"]).well();
    fs::remove_file(plane.path("live/invariants.toml")).unwrap();
    plane.run(&["apply", "live", "--yes"]).well();
    asked(&serde_json::json!({ "files": files, "plan": plan }));
    let refused = curl("PUT", "/api/v1/access/fleet");
    assert_eq!(refused["code"], "plan-moved", "{refused}");
    // Seen anew, it is applied.
    asked(&serde_json::json!({ "files": files }));
    let planned = curl("POST", "/api/v1/access/plan");
    asked(&serde_json::json!({ "files": files, "plan": planned["plan"] }));
    let applied = curl("PUT", "/api/v1/access/fleet");
    assert_eq!(applied["version"], 3, "{applied}");
}

fn read_files(folder: &Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for item in fs::read_dir(next).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = text(path.strip_prefix(folder).unwrap()).to_owned();
                files.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files
}
