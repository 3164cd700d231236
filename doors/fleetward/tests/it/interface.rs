//! The API against its interface, asked by somebody else's tool as each role: schemathesis makes
//! requests of `openapi.json`, good ones and bad ones, the same ones each time.

use crate::people::Asker;
use crate::plane::{Home, Plane, Settings};
use crate::response::watched_fleet;
use crate::tools::{python_with, run_with, write_credential};
use serde_json::{Value, json};
use sim::device::Manner;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::spawn;

const ALWAYS: [&str; 17] = [
    "--checks",
    "not_a_server_error,status_code_conformance,content_type_conformance,\
     response_schema_conformance,response_headers_conformance,negative_data_rejection,\
     missing_required_header,unsupported_method,nothing_beyond_the_role",
    "--seed",
    "6",
    "--generation-database",
    "none",
    "--no-shrink",
    "--continue-on-failure",
    "--rate-limit",
    "90/s",
    "--request-timeout",
    "60",
    "--suppress-health-check",
    "all",
    "--warnings",
    "off",
    "--no-color",
];
/// All that the parameters of an operation suggest, and so many that are made up.
const FULLY: &[&str] = &["--phases", "coverage,fuzzing", "--max-examples", "5"];
const ONCE: &[&str] = &[
    "--phases",
    "fuzzing",
    "--max-examples",
    "1",
    "--mode",
    "positive",
];

/// Streams do not end; what they show is tested where they are.
const STREAMS: &[&str] = &["events_events", "gateway_tail"];
/// At the door for devices alone.
const OF_DEVICES: &[&str] = &["identity_challenge_tpm", "identity_enroll_by_tpm"];
/// Ends the session that asks.
const SIGN_OUT: &[&str] = &["access_sign_out"];
/// Whoever may do this to others finds themselves in the list.
const ON_PEOPLE: &[&str] = &["access_disable_person", "access_change_person"];

/// Names that requests may guess: otherwise few would meet anything.
const NAMES: &str = "\
[checks.missing_required_header]\nexpected-statuses = [400, 401, 403, 406, 415, 422, 428]\n\
[dictionaries.devices]\nvalues = [\"cam-1\", \"cam-2\"]\n\
[dictionaries.products]\nvalues = [\"sensor\"]\n\
[dictionaries.manufacturers]\nvalues = [\"acme\"]\n\
[parameters]\n\
\"path.device\" = { dictionary = \"devices\", probability = 0.5 }\n\
\"query.device\" = { dictionary = \"devices\", probability = 0.5 }\n\
\"body.device\" = { dictionary = \"devices\", probability = 0.5 }\n\
\"path.product\" = { dictionary = \"products\", probability = 0.5 }\n\
\"path.manufacturer\" = { dictionary = \"manufacturers\", probability = 0.5 }\n\
\"query.manufacturer\" = { dictionary = \"manufacturers\", probability = 0.5 }\n";

#[test]
fn schemathesis_as_each_role_of_people() {
    let Some(python) = python_with("schemathesis") else {
        return;
    };
    for role in [
        "viewer",
        "operator",
        "release-manager",
        "release-approver",
        "pki-admin",
        "policy-admin",
        "auditor",
        "tenant-admin",
        "break-glass",
    ] {
        // Each has a plane of their own: what one changes, no other meets.
        let (home, plane) = populated();
        let first = Asker::first(&home, &plane);
        let asker = match role {
            "break-glass" => first.invite_with_broken_glass(),
            role => first.invite(&[role]).1,
        };
        let mut column = Column {
            who: role,
            base: format!("https://localhost:{}", plane.people.port()),
            shows: asker.headers_toml(),
            may: permitted(role),
            known: Vec::new(),
            but: match role {
                "tenant-admin" => &[STREAMS, OF_DEVICES, SIGN_OUT, ON_PEOPLE],
                _ => &[STREAMS, OF_DEVICES, SIGN_OUT],
            },
        };
        if role != "viewer" {
            column.known = permitted("viewer");
        }
        if role == "break-glass" {
            column.may.extend(permitted("operator"));
        }
        column.ask_all(&home, &python);
        asker
            .post("/api/v1/access/sign-out", &json!({}))
            .expect(200);
        plane.stop_well();
    }
}

#[test]
fn schemathesis_as_a_program_with_a_token_as_nobody_and_as_the_machine() {
    let Some(python) = python_with("schemathesis") else {
        return;
    };
    let (home, plane) = populated();
    let first = Asker::first(&home, &plane);
    let (_, program) = first.token(&["operator", "policy-admin"], &[]);
    let may = program.who()["actions"].clone();
    let may = may.as_array().unwrap().iter();
    let door = format!("https://localhost:{}", plane.people.port());
    let socket = bridge(home.data_dir().join("fleetward.sock"));
    let but: &[&[&str]] = &[STREAMS, OF_DEVICES];
    let token = Column {
        who: "token",
        base: door.clone(),
        shows: program.headers_toml(),
        may: may.map(|one| one.as_str().unwrap().to_owned()).collect(),
        known: permitted("operator"),
        but,
    };
    let stranger = Column {
        who: "stranger",
        base: door,
        shows: String::new(),
        may: permitted("stranger"),
        known: Vec::new(),
        but,
    };
    let machine = Column {
        who: "machine",
        base: format!("http://{socket}"),
        shows: String::new(),
        may: permitted("machine"),
        known: Vec::new(),
        but,
    };
    for column in [token, stranger, machine] {
        column.ask_all(&home, &python);
    }
    plane.stop_well();
}

#[test]
fn schemathesis_by_certificates_of_devices_and_services() {
    let Some(python) = python_with("schemathesis") else {
        return;
    };
    for (who, name) in [
        ("device", "cam-1"),
        ("service", "commander"),
        ("observer", "network-observer"),
        ("for owners", "ingest"),
    ] {
        let (home, plane) = populated();
        if who == "device" {
            let mut device = home.device("cam-1");
            let manner = Manner::default();
            device.enroll(&plane.doors(), &manner).unwrap();
            write_credential(&home, device.ldevid().unwrap(), name);
        } else {
            write_credential(&home, &plane.certify(name), name);
        }
        let column = Column {
            who,
            base: format!("https://localhost:{}", plane.devices.port()),
            shows: format!("request-cert = \"{name}.pem\"\nrequest-cert-key = \"{name}.key\"\n"),
            may: permitted(who),
            known: match who {
                "observer" | "for owners" => permitted("service"),
                _ => Vec::new(),
            },
            but: &[STREAMS],
        };
        column.ask_all(&home, &python);
        plane.stop_well();
    }
}

/// A plane with two devices, where nobody is asked for a second person: acts are done.
fn populated() -> (Home, Plane) {
    let never = ["policy", "ca", "revoke_many", "rights"]
        .map(|class| format!("second_person_{class} = \"never\"\n"));
    let home = Home::new(&Settings {
        more: format!("[access]\n{}", never.concat()),
        ..Settings::default()
    });
    let plane = home.start_prepared();
    let mut files = watched_fleet();
    for (path, text) in &mut files {
        if path.starts_with("services/") {
            *text = text.replace("[ingest]\n", "[ingest]\nspeaks_for_owners = true\n");
        }
    }
    plane.apply(&files);
    let devices = ["cam-1", "cam-2"].map(|name| home.device(name));
    plane.expect(&devices);
    (home, plane)
}

/// Somebody who asks, and what the table promises them.
struct Column<'c> {
    who: &'c str,
    base: String,
    /// How they show who they are, as lines of the tool's configuration.
    shows: String,
    may: Vec<String>,
    /// What others were asked in all ways before them: once is enough.
    known: Vec<String>,
    /// What is not asked.
    but: &'c [&'c [&'c str]],
}

impl Column<'_> {
    /// Has every operation asked: what is theirs in all ways, what is not, or is known, in one.
    #[track_caller]
    fn ask_all(&self, home: &Home, python: &str) {
        // Secrets are in a file and not among arguments.
        let config = format!("tls-verify = false\n{}{NAMES}", self.shows);
        home.write("schemathesis.toml", config.as_bytes());
        let interface = concat!(env!("CARGO_MANIFEST_DIR"), "/../plane/openapi.json");
        let hooks = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/interface");
        let may = self.may.join(" ");
        for (fully, how) in [(true, FULLY), (false, ONCE)] {
            let names = self.operations(fully);
            if names.is_empty() {
                continue;
            }
            let these = format!("^({})$", names.join("|"));
            let mut arguments = vec!["-m", "schemathesis.cli", "run", interface];
            // A kept connection may be closed by the door as the next request leaves, which is no answer:
            // asked again, by a new one.
            arguments.extend(["--request-retries", "2"]);
            arguments.extend(["--url", &self.base, "--include-operation-id-regex", &these]);
            arguments.extend(ALWAYS);
            arguments.extend(how);
            let environment = [
                ("SCHEMATHESIS_HOOKS", "roles"),
                ("PYTHONPATH", hooks),
                ("PYTHONDONTWRITEBYTECODE", "1"),
                ("PYTHONWARNINGS", "ignore"),
                ("FLEETWARD_MAY", &may),
            ];
            let ran = run_with(home, python, &arguments, &environment, b"");
            let said = format!("{}\n{}", ran.text(), ran.err);
            assert!(ran.good, "as {}:\n{said}", self.who);
            let cases = said.lines().find(|line| line.contains(" generated, "));
            let cases = cases.unwrap_or("?").trim();
            println!("as {}: {} operations, {cases}", self.who, names.len());
        }
    }

    /// By their names in the interface.
    fn operations(&self, fully: bool) -> Vec<String> {
        let text = include_str!("../../../plane/openapi.json");
        let interface: Value = serde_json::from_str(text).unwrap();
        let paths = interface["paths"].as_object().unwrap().values();
        let all = paths.flat_map(|operations| operations.as_object().unwrap().values());
        let has = |list: &[String], operation: &Value| {
            let action = operation["x-action"].as_str().unwrap();
            list.iter().any(|one| one == action)
        };
        all.filter(|one| (has(&self.may, one) && !has(&self.known, one)) == fully)
            .map(|one| one["operationId"].as_str().unwrap().to_owned())
            .filter(|name| !self.but.iter().any(|names| names.contains(&name.as_str())))
            .collect()
    }
}

/// What somebody of this column may ask, as the table in the documents promises it.
fn permitted(column: &str) -> Vec<String> {
    let text = include_str!("../../../../docs/access/people.md");
    let cells = |line: &str| -> Vec<String> {
        let cells = line.trim().trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    };
    let mut lines = text
        .lines()
        .skip_while(|line| !line.starts_with("| action |"));
    let head = cells(lines.next().unwrap());
    let at = head.iter().position(|name| name == column).unwrap();
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    let rows = rows.map(cells).filter(|row| !row[at].is_empty());
    let may: Vec<String> = rows
        .map(|row| row[0].trim_matches('`').to_owned())
        .collect();
    assert!(may.iter().any(|action| action == "public.read"), "{may:?}");
    may
}

/// A port that leads to the local socket, which the tool cannot speak to.
fn bridge(socket: PathBuf) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    spawn(move || {
        for stream in listener.incoming() {
            let (Ok(near), Ok(far)) = (stream, UnixStream::connect(&socket)) else {
                continue;
            };
            let (back, forth) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            spawn(move || {
                copy(near, &far);
                let _ = far.shutdown(Shutdown::Both);
            });
            spawn(move || {
                copy(forth, &back);
                let _ = back.shutdown(Shutdown::Both);
            });
        }
    });
    address
}

fn copy(mut from: impl Read, mut to: impl Write) {
    let _ = std::io::copy(&mut from, &mut to);
}
