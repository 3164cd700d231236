//! How a plane begins and ends: what is wrong is said in one line before any port opens, and
//! nothing recorded is left unpublished.

use crate::log::assert_sound;
use crate::plane::{Home, Settings};
use sim::device::Manner;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The start must fail with exit code 1 and one line that holds all of `said`.
#[track_caller]
fn assert_refused(home: &Home, said: &[&str]) {
    let Err((status, lines)) = home.try_start() else {
        panic!("the plane started");
    };
    assert_eq!(status.code(), Some(1), "{lines:?}");
    assert_eq!(lines.len(), 1, "{lines:#?}");
    for text in said {
        assert!(lines[0].contains(text), "{text:?} is not in {:?}", lines[0]);
    }
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A home whose plane has been started once and ended well.
fn used_home() -> Home {
    let home = Home::new(&Settings::default());
    home.start().stop_well();
    home
}

#[test]
fn a_value_out_of_range_is_refused_by_name() {
    let settings = Settings {
        shards: 65,
        ..Settings::default()
    };
    let home = Home::new(&settings);
    assert_refused(&home, &["gateway.shards", "65 is not in 1 to 64"]);
    assert!(
        !home.data_dir().exists(),
        "nothing is made for a configuration that is refused"
    );
}

#[test]
fn an_unknown_key_is_refused_with_its_line() {
    let home = Home::new(&Settings {
        gateway: "shardz = 2".into(),
        ..Settings::default()
    });
    let Err((status, lines)) = home.try_start() else {
        panic!("the plane started")
    };
    assert_eq!(status.code(), Some(1));
    // The reader of TOML shows the place with a line under it.
    let text = lines.join("\n");
    assert!(text.contains("shardz") && text.contains("line "), "{text}");
}

#[test]
fn a_data_folder_that_others_may_write_is_refused() {
    let home = used_home();
    set_mode(&home.data_dir(), 0o777);
    assert_refused(&home, &[&home.data_dir().display().to_string(), "chmod"]);
}

#[test]
fn a_seal_key_that_others_may_read_is_refused() {
    let home = used_home();
    let key = home.data_dir().join("seal.key");
    set_mode(&key, 0o644);
    assert_refused(&home, &["seal.key", "644", "600"]);
    set_mode(&key, 0o600);
    home.start().stop_well();
}

#[test]
fn a_missing_seal_key_is_never_made_anew() {
    let home = used_home();
    let key = home.data_dir().join("seal.key");
    std::fs::rename(&key, home.path("kept")).unwrap();
    assert_refused(&home, &["seal.key is not there", "operator: restore it"]);
    assert!(!key.exists());
    std::fs::rename(home.path("kept"), &key).unwrap();
    home.start().stop_well();
}

#[test]
fn another_seal_key_opens_nothing() {
    let home = used_home();
    let other = used_home();
    let key = home.data_dir().join("seal.key");
    std::fs::copy(other.data_dir().join("seal.key"), &key).unwrap();
    assert_refused(&home, &["key"]);
}

#[test]
fn a_folder_of_another_tenant_is_refused() {
    let home = used_home();
    home.configure(&Settings {
        tenant: "other",
        ..Settings::default()
    });
    assert_refused(&home, &["tenant", "acme", "other"]);
}

#[test]
fn a_port_in_use_is_named_and_no_other_opens() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let free = {
        let probe = TcpListener::bind("127.0.0.1:0").unwrap();
        probe.local_addr().unwrap()
    };
    let home = Home::new(&Settings::default());
    let text = std::fs::read_to_string(home.path("plane.toml")).unwrap();
    let mqtt = format!("mqtt = \"{}\"", taken.local_addr().unwrap());
    let text = text
        .replace("mqtt = \"127.0.0.1:0\"", &mqtt)
        .replace("people = \"127.0.0.1:0\"", &format!("people = \"{free}\""));
    home.write("plane.toml", text.as_bytes());
    assert_refused(
        &home,
        &["listen.mqtt", &taken.local_addr().unwrap().to_string()],
    );
    assert!(!home.data_dir().join("fleetward.sock").exists());
    assert!(std::net::TcpStream::connect(free).is_err());
}

#[test]
fn a_second_plane_on_the_same_folder_is_refused_and_the_first_goes_on() {
    let home = Home::new(&Settings::default());
    let plane = home.start();
    assert_refused(&home, &[&home.data_dir().display().to_string()]);
    // Its local socket was not taken away either.
    plane.get("/readyz").expect(204);
    plane.stop_well();
}

#[test]
fn asked_to_end_it_closes_sessions_and_publishes_the_last_entry() {
    let home = Home::new(&Settings {
        shards: 2,
        ..Settings::default()
    });
    let plane = home.start_prepared();
    let mut devices = [home.device("cam-1"), home.device("cam-2")];
    plane.expect(&devices);
    let (doors, manner) = (plane.doors(), Manner::default());
    for device in &mut devices {
        device.enroll(&doors, &manner).unwrap();
        device.connect(&doors, &manner).unwrap();
    }
    // Recorded an instant before the end, so that publishing it is the end's affair.
    let last = plane.revoke(&"cam-9".parse().unwrap());
    let vkey = plane.vkey();
    plane.stop_well();
    for device in &mut devices {
        let ended = device.session().unwrap().ping().unwrap_err();
        assert!(ended.is_by_server(), "{ended}");
    }
    assert_eq!(assert_sound(&home, &vkey), last.entry + 1);
    home.start().stop_well();
}
