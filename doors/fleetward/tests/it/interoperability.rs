//! Eclipse's interoperability suites (github.com/eclipse/paho.mqtt.testing), unmodified, through a
//! pipe that speaks mutual TLS for them. They are not ours to keep here: `FLEETWARD_PAHO_TESTING`
//! names their folder `interoperability`.

use crate::plane::{Home, Plane, Settings};
use crate::tools::{write_credential, write_root};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

const PYTHON: &str = "/usr/bin/python3";

/// Tests of the suites that ask for something that a rule of ours refuses, with the rule.
const REFUSED: [(&str, &str, &str); 2] = [
    (
        "client_test5",
        "test_subscribe_failure",
        "wants the unspecific 0x80 for a filter that is not granted; we say 0x87, not authorized",
    ),
    (
        "client_test5",
        "test_dollar_topics",
        "publishes to a topic that begins with `$`, which is the gateway's own: refused with 0x87 and \
         the reason, and the suite's client cannot read a reason in a PUBACK",
    ),
];

/// The pipe, ended with its test.
struct Pipe {
    child: Child,
    port: String,
}

impl Pipe {
    fn start(home: &Home, plane: &Plane) -> Self {
        home.write("pipe.py", include_bytes!("mqtt/pipe.py"));
        let shown = [
            "myclientid=myclientid",
            "myclientid2=myclientid2",
            "cleaner=cleaner",
            "=myclientid",
        ];
        let mut child = Command::new(PYTHON)
            .args(["pipe.py", "root.pem", &plane.mqtt.port().to_string()])
            .args(shown)
            .current_dir(home.path(""))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut port).unwrap();
        Self {
            child,
            port: port.trim().to_owned(),
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// What became of each test: `passed`, or why it failed.
fn run(
    folder: &str,
    pipe: &Pipe,
    home: &Home,
    module: &str,
    only: &[&str],
) -> BTreeMap<String, String> {
    home.write("suite.py", include_bytes!("mqtt/suite.py"));
    let ran = Command::new(PYTHON)
        .args(["suite.py", folder, module, &pipe.port])
        .args(only)
        .current_dir(home.path(""))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    let mut ended = BTreeMap::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("passed ") {
            ended.insert(name.to_owned(), "passed".to_owned());
        } else if let Some((name, why)) = line
            .strip_prefix("failed ")
            .and_then(|rest| rest.split_once(' '))
        {
            ended.insert(name.to_owned(), why.to_owned());
        }
    }
    println!("{module}: {ended:#?}");
    if ended.values().any(|how| how != "passed") {
        println!("{text}\n{}", String::from_utf8_lossy(&ran.stderr));
    }
    ended
}

/// A fleet that grants its services all of the suite's topics, by this template.
fn scene(template: &str) -> (Home, Plane, Pipe) {
    let home = Home::new(&Settings {
        gateway: "keep_alive_seconds_max = 60".into(),
        ..Settings::default()
    });
    let plane = home.start_prepared();
    let channels = format!(
        "[suite]\ntopic = \"{template}\"\ndirection = \"from-device\"\n\
         payload_bytes_max = 131072\nretained_max = 1000\n"
    );
    let services = "[myclientid]\nshares = [\"sharename\"]\n[myclientid2]\nshares = [\"sharename\"]\n[cleaner]\n";
    let policies = "@id(\"all\") permit (principal, action, resource);\n";
    plane.apply(&[
        ("fleet.toml", "name = \"suite\"\n".to_owned()),
        ("products/p.toml", "[sensor]\n".to_owned()),
        ("services/s.toml", services.to_owned()),
        ("channels/c.toml", channels),
        ("policies/p.cedar", policies.to_owned()),
    ]);
    for name in ["myclientid", "myclientid2", "cleaner"] {
        write_credential(&home, &plane.certify(name), name);
    }
    write_root(&home, &plane);
    let pipe = Pipe::start(&home, &plane);
    (home, plane, pipe)
}

fn suites() -> Option<String> {
    let Some(folder) = std::env::var_os("FLEETWARD_PAHO_TESTING").map(PathBuf::from) else {
        println!("skipped: FLEETWARD_PAHO_TESTING names no folder of Eclipse's suites");
        return None;
    };
    if !folder.join("client_test5.py").exists() {
        println!("skipped: {} holds no client_test5.py", folder.display());
        return None;
    }
    Some(folder.to_str().unwrap().to_owned())
}

#[test]
fn the_suites_of_eclipse_paho_pass() {
    let Some(folder) = suites() else { return };
    // `+/+` and `#`, which the suites subscribe to, are granted where every topic is.
    for (module, count) in [("client_test", 9), ("client_test5", 25)] {
        let (home, _plane, pipe) = scene("{device}/{rest...}");
        let mut ended = run(&folder, &pipe, &home, module, &[]);
        // There `test/nosubscribe` is granted too: that test has a fleet of its own.
        ended.remove("test_subscribe_failure");
        for (_, test, why) in REFUSED.iter().filter(|(of, ..)| *of == module) {
            if let Some(how) = ended.remove(*test) {
                assert_ne!(
                    how, "passed",
                    "{module}: strike {test} from the list: {why}"
                );
            }
        }
        let failed: Vec<_> = ended.iter().filter(|(_, how)| *how != "passed").collect();
        assert!(failed.is_empty(), "{module}: {failed:#?}");
        assert_eq!(ended.len(), count, "{module}: {ended:#?}");
    }
    for module in ["client_test", "client_test5"] {
        let (home, _plane, pipe) = scene(&format!("{module}/{{rest...}}"));
        let ended = run(&folder, &pipe, &home, module, &["test_subscribe_failure"]);
        let how = &ended["test_subscribe_failure"];
        let is_refused = (REFUSED.iter())
            .find(|(of, test, _)| (*of, *test) == (module, "test_subscribe_failure"));
        match is_refused {
            None => assert_eq!(how, "passed", "{module}"),
            Some((.., why)) => {
                assert_ne!(how, "passed", "{module}: strike it from the list: {why}");
            }
        }
    }
}
