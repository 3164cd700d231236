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
    "auto",
    "--request-timeout",
    "60",
    "--suppress-health-check",
    "all",
    "--warnings",
    "off",
    "--no-color",
];
/// All that the parameters of an operation suggest, and so many that are made up.
const THEIRS: [&str; 4] = ["--phases", "coverage,fuzzing", "--max-examples", "5"];
const OTHERS: [&str; 6] = [
    "--phases",
    "fuzzing",
    "--max-examples",
    "1",
    "--mode",
    "positive",
];

/// Streams do not end; what they show is tested where they are.
const STREAMS: &str = "/api/v1/(events|gateway/tail)$";
/// At the door for devices alone.
const OF_DEVICES: &str = "/api/v1/identity/tpm/(challenges|enrollments)$";
/// Ends the session that asks.
const LAST: &str = "/api/v1/access/sign-out$";

/// Names that requests may guess: otherwise few would meet anything.
const NAMES: &str = "\
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
        let mut may = permitted(role);
        if role == "break-glass" {
            may.extend(permitted("operator"));
        }
        let base = format!("https://localhost:{}", plane.people.port());
        let but = [STREAMS, OF_DEVICES, LAST];
        ask_all(
            &home,
            &python,
            role,
            &base,
            &asker.headers_toml(),
            &may,
            &but,
        );
        asker
            .post("/api/v1/access/sign-out", &json!({}))
            .expect(204);
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
    let base = format!("https://localhost:{}", plane.people.port());
    let may = program.who()["actions"].clone();
    let may = may.as_array().unwrap().iter();
    let may: Vec<String> = may.map(|one| one.as_str().unwrap().to_owned()).collect();
    let headers = program.headers_toml();
    let but = [STREAMS, OF_DEVICES];
    ask_all(&home, &python, "token", &base, &headers, &may, &but);
    let may = permitted("stranger");
    ask_all(&home, &python, "stranger", &base, "", &may, &but);
    let base = format!("http://{}", bridge(home.data_dir().join("fleetward.sock")));
    let may = permitted("machine");
    ask_all(&home, &python, "machine", &base, "", &may, &but);
    plane.stop_well();
}

#[test]
fn schemathesis_by_certificates_of_devices_and_services() {
    let Some(python) = python_with("schemathesis") else {
        return;
    };
    for (column, name) in [
        ("device", "cam-1"),
        ("service", "commander"),
        ("observer", "network-observer"),
        ("for owners", "ingest"),
    ] {
        let (home, plane) = populated();
        match column {
            "device" => {
                let mut device = home.device("cam-1");
                let manner = Manner::default();
                device.enroll(&plane.doors(), &manner).unwrap();
                write_credential(&home, device.ldevid().unwrap(), name);
            }
            _ => write_credential(&home, &plane.certify(name), name),
        }
        let shows = format!("request-cert = \"{name}.pem\"\nrequest-cert-key = \"{name}.key\"\n");
        let base = format!("https://localhost:{}", plane.devices.port());
        let may = permitted(column);
        ask_all(&home, &python, column, &base, &shows, &may, &[STREAMS]);
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

/// Has every operation asked, except those whose path is like one of `but`: what somebody may ask in
/// all ways, what they may not in one.
#[track_caller]
fn ask_all(
    home: &Home,
    python: &str,
    who: &str,
    base: &str,
    shows: &str,
    may: &[String],
    but: &[&str],
) {
    // Secrets are in a file and not among arguments.
    let config = format!("tls-verify = false\n{shows}{NAMES}");
    home.write("schemathesis.toml", config.as_bytes());
    let hooks = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/interface");
    let excluded = format!("({})", but.join("|"));
    let permitted = may.join(" ");
    for (file, are_theirs, how) in [
        ("theirs.json", true, THEIRS),
        ("others.json", false, OTHERS),
    ] {
        let (interface, count) = operations(may, are_theirs);
        if count == 0 {
            continue;
        }
        home.write(file, interface.to_string().as_bytes());
        let mut arguments = vec!["-m", "schemathesis.cli", "run", file, "--url", base];
        arguments.extend(["--exclude-path-regex", &excluded]);
        arguments.extend(ALWAYS);
        arguments.extend(how);
        let environment = [
            ("SCHEMATHESIS_HOOKS", "roles"),
            ("PYTHONPATH", hooks),
            ("PYTHONDONTWRITEBYTECODE", "1"),
            ("PYTHONWARNINGS", "ignore"),
            ("FLEETWARD_MAY", &permitted),
        ];
        let ran = run_with(home, python, &arguments, &environment, b"");
        let said = format!("{}\n{}", ran.text(), ran.err);
        assert!(ran.good, "as {who}, {file}:\n{said}");
        let cases = said.lines().find(|line| line.contains(" generated, "));
        println!(
            "as {who}: {count} operations, {}",
            cases.unwrap_or("?").trim()
        );
    }
}

/// The interface with those operations only whose action is among these, or only the others; and how
/// many there are.
fn operations(may: &[String], among: bool) -> (Value, usize) {
    let text = include_str!("../../../plane/openapi.json");
    let mut interface: Value = serde_json::from_str(text).unwrap();
    let mut count = 0;
    for operations in interface["paths"].as_object_mut().unwrap().values_mut() {
        operations.as_object_mut().unwrap().retain(|_, operation| {
            let action = operation["x-action"].as_str().unwrap();
            may.iter().any(|one| one == action) == among
        });
        count += operations.as_object().unwrap().len();
    }
    (interface, count)
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
