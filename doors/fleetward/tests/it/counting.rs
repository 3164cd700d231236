//! The signer's count against the log, over kill -9: every certificate that was ever signed is on
//! record, or stands in the log as one that is not.

use crate::plane::{Home, Plane, Settings, wait_until};
use crate::tools;
use serde_json::Value;
use sim::Device;
use sim::device::Manner;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const DIFFER: &str = "identity.signatures-differ";
const ENROLLED: &str = "identity.device-enrolled";

/// What is known of the signatures under devices' certificates, over all CAs.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counted {
    signed: u64,
    recorded: u64,
    unrecorded: u64,
}

impl Counted {
    fn of(plane: &Plane) -> Self {
        let authorities = plane.get("/api/v1/identity/authorities").expect(200).json();
        let mut all = Self::default();
        for signatures in (authorities["issuing"].as_array().unwrap().iter())
            .flat_map(|one| one["signatures"].as_array().unwrap())
            .filter(|one| one["purpose"] == "device-certificate")
        {
            let number = |name: &str| signatures[name].as_u64().unwrap();
            all.signed += number("signed");
            all.recorded += number("recorded");
            all.unrecorded += number("unrecorded");
        }
        all
    }
}

fn of_action<'e>(entries: &'e [Value], action: &str) -> Vec<&'e Value> {
    (entries.iter())
        .filter(|entry| entry["action"] == action)
        .collect()
}

/// Whatever was signed is on record or told as a gap, and the log says the same. Holds after a
/// start, while nothing is on its way.
#[track_caller]
pub fn assert_counted(plane: &Plane) {
    let (counted, entries) = (Counted::of(plane), plane.entries());
    assert_eq!(
        counted.signed,
        counted.recorded + counted.unrecorded,
        "{counted:?}"
    );
    let enrolled = of_action(&entries, ENROLLED).len() as u64;
    assert_eq!(counted.recorded, enrolled, "{counted:?}");
    let told = of_action(&entries, DIFFER);
    let told = (told.iter()).filter(|entry| entry["details"]["purpose"] == "device-certificate");
    let detail = |entry: &Value, name: &str| -> u64 {
        entry["details"][name].as_str().unwrap().parse().unwrap()
    };
    let unrecorded: u64 = told.clone().map(|entry| detail(entry, "unrecorded")).sum();
    assert_eq!(counted.unrecorded, unrecorded, "{entries:#?}");
    // A kill is no power cut: nothing is in doubt, and no count is older than the record.
    for entry in told {
        assert_eq!(
            (detail(entry, "in_doubt"), detail(entry, "uncounted")),
            (0, 0),
            "{entry}"
        );
    }
}

/// Another program that holds the database, as a careless backup would: nothing is recorded
/// meanwhile.
struct Held(Child);

impl Held {
    fn begin(database: &Path) -> Self {
        const HOLD: &str = "import sqlite3, sys\n\
            database = sqlite3.connect(sys.argv[1])\n\
            database.execute('BEGIN IMMEDIATE')\n\
            print('held', flush=True)\n\
            sys.stdin.read()\n";
        let mut child = Command::new("python3")
            .args(["-c", HOLD])
            .arg(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "held\n");
        Self(child)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Its database goes with it, unchanged.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_crash_between_signature_and_record_is_a_gap_that_the_log_tells() {
    if !tools::have(&["python3"]) {
        return;
    }
    const DEVICES: u64 = 6;
    let home = Home::new(&Settings::default());
    let mut plane = home.start_prepared();
    let mut devices: Vec<Device> = (0..DEVICES)
        .map(|n| home.device(&format!("gap-{n}")))
        .collect();
    let mut first = home.device("first");
    plane.expect(devices.iter().chain([&first]));
    first.enroll(&plane.doors(), &Manner::default()).unwrap();
    assert_counted(&plane);
    let before = Counted::of(&plane);

    // Signed, and on no record when the blow comes.
    let doors = plane.doors();
    let held = Held::begin(&home.data_dir().join("control.db"));
    let answers: Vec<_> = std::thread::scope(|scope| {
        let askers: Vec<_> = (devices.iter_mut())
            .map(|device| scope.spawn(|| device.enroll(&doors, &Manner::default())))
            .collect();
        wait_until("all are signed", || {
            Counted::of(&plane).signed == before.signed + DEVICES
        });
        plane.kill_now();
        (askers.into_iter())
            .map(|asker| asker.join().unwrap())
            .collect()
    });
    drop(held);
    plane.kill();
    assert!(answers.iter().all(Result::is_err), "{answers:?}");

    plane = home.start();
    plane.lines.wait_for(0, "device-certificate Gap");
    assert_counted(&plane);
    let gap = Counted {
        signed: before.signed + DEVICES,
        recorded: before.recorded,
        unrecorded: DEVICES,
    };
    assert_eq!(Counted::of(&plane), gap);
    let told = plane.entries();
    let told = of_action(&told, DIFFER);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!(told[0]["actor"], "plane");
    assert_eq!(told[0]["details"]["unrecorded"], DEVICES.to_string());
    let data = home.data_dir().display().to_string();
    let arguments = ["identity", "ca", "list", "--data", &data];
    let list = tools::run(&home, env!("CARGO_BIN_EXE_fleetward"), &arguments, b"");
    assert!(list.good, "{list:?}");
    assert!(list.text().contains("WITHOUT RECORD"), "{}", list.text());

    // Nobody is locked out by it, and it is told once.
    for device in &mut devices {
        device.enroll(&plane.doors(), &Manner::default()).unwrap();
    }
    plane.kill();
    plane = home.start();
    assert_counted(&plane);
    let now = Counted {
        signed: gap.signed + DEVICES,
        recorded: gap.recorded + DEVICES,
        ..gap
    };
    assert_eq!(Counted::of(&plane), now);
    assert_eq!(of_action(&plane.entries(), DIFFER).len(), 1);
}
