//! The programs that everybody has: curl, openssl, mosquitto.

use crate::plane::{Home, Plane};
use sim::Credential;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub good: bool,
    pub out: Vec<u8>,
    pub err: String,
}

impl Ran {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

/// Whether a program is here; says so if a test is skipped for want of it.
pub fn have(programs: &[&str]) -> bool {
    programs.iter().all(|program| {
        let found = Command::new(program).arg("--version").output().is_ok()
            || Command::new(program).arg("version").output().is_ok();
        if !found {
            println!("skipped: {program} is not installed");
        }
        found
    })
}

/// A Python that has this module: the one of our tools, one that the environment names, or the
/// system's. Says so if a test is skipped for want of it.
pub fn python_with(module: &str) -> Option<String> {
    let own = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../target/tools/python/bin/python"
    );
    let named = std::env::var("FLEETWARD_PYTHON").ok();
    let all = [Some(own.to_owned()), named, Some("python3".to_owned())];
    let found = all.into_iter().flatten().find(|python| {
        let mut import = Command::new(python);
        import.args(["-c", &format!("import {module}")]);
        import.output().is_ok_and(|ran| ran.status.success())
    });
    if found.is_none() {
        println!("skipped: no Python has the module {module}");
    }
    found
}

/// Runs a program in the home's scratch folder with this on its input.
#[track_caller]
pub fn run(home: &Home, program: &str, arguments: &[&str], input: &[u8]) -> Ran {
    run_with(home, program, arguments, &[], input)
}

/// As [`run`], with more in its environment.
#[track_caller]
pub fn run_with(
    home: &Home,
    program: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
    input: &[u8],
) -> Ran {
    let mut child = Command::new(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(home.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that ends without reading is not our failure.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    Ran {
        good: output.status.success(),
        out: output.stdout,
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[track_caller]
pub fn openssl(home: &Home, arguments: &[&str], input: &[u8]) -> Ran {
    run(home, "openssl", arguments, input)
}

/// As [`openssl`], and it must end well.
#[track_caller]
pub fn openssl_well(home: &Home, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let ran = openssl(home, arguments, input);
    assert!(ran.good, "openssl {arguments:?}: {}", ran.err);
    ran.out
}

/// Writes `root.pem`, what every client here trusts.
pub fn write_root(home: &Home, plane: &Plane) {
    home.write(
        "root.pem",
        &plane.get("/api/v1/identity/ca").expect(200).body,
    );
}

/// Writes `<name>.pem` and `<name>.key`.
pub fn write_credential(home: &Home, credential: &Credential, name: &str) {
    credential.write(&home.path(""), name).unwrap();
}

/// What an HTTP server answered to curl; `status` 0 if it did not.
#[derive(Debug)]
pub struct Curled {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    pub err: String,
}

impl Curled {
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{text}\n{}\n{}", self.head, self.err);
        self
    }

    /// The text of a refusal, which clients can only show.
    #[track_caller]
    pub fn refusal(&self) -> String {
        assert!(
            self.head
                .to_lowercase()
                .contains("content-type: text/plain"),
            "{}",
            self.head
        );
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// curl at `path` of the door for devices, with more arguments.
pub fn curl(home: &Home, plane: &Plane, path: &str, arguments: &[&str]) -> Curled {
    curl_at(home, plane.devices, path, arguments)
}

/// curl at `path` of a door, with more arguments.
pub fn curl_at(home: &Home, door: SocketAddr, path: &str, arguments: &[&str]) -> Curled {
    let url = format!("https://localhost:{}{path}", door.port());
    let common = [
        "-sS",
        "--max-time",
        "30",
        "--cacert",
        "root.pem",
        "-D",
        "head",
        "-o",
        "body",
    ];
    for file in ["head", "body"] {
        let _ = std::fs::remove_file(home.path(file));
    }
    let arguments: Vec<&str> = common
        .iter()
        .chain(arguments)
        .copied()
        .chain([url.as_str()])
        .collect();
    let ran = run(home, "curl", &arguments, b"");
    let head = std::fs::read_to_string(home.path("head")).unwrap_or_default();
    Curled {
        status: head
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .unwrap_or(0),
        body: std::fs::read(home.path("body")).unwrap_or_default(),
        head,
        err: ran.err,
    }
}

/// One mosquitto client showing `name`, with more arguments.
pub fn mosquitto(home: &Home, plane: &Plane, program: &str, name: &str, more: &[&str]) -> Ran {
    let port = plane.mqtt.port().to_string();
    let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
    let mut arguments = vec!["-h", "localhost", "-p", &port, "--cafile", "root.pem"];
    if Path::new(&home.path(&cert)).exists() {
        arguments.extend(["--cert", &cert, "--key", &key]);
    }
    arguments.extend(more);
    run(home, program, &arguments, b"")
}
