//! Devices quarantined and a policy changed under load: what is forbidden when an act is acknowledged
//! and sent after it is refused, and nothing else is. The small form of `cargo xtask bench contain`.

use crate::plane::{Home, PATIENCE, Settings};
use sim::enroll::{Enrollment, Kind, enroll};
use sim::load::{self, Containments, Mode};
use sim::plane::Plane;
use sim::tls::{Groups, Versions};
use std::time::Duration;

const DEVICES: usize = 150;
/// Whose policy changes, and that are quarantined in one act at last.
const OF_LINE: usize = 200;

#[test]
fn nothing_forbidden_passes_and_nothing_permitted_is_refused_1_shard() {
    under_load(1);
}

#[test]
fn nothing_forbidden_passes_and_nothing_permitted_is_refused_2_shards() {
    under_load(2);
}

fn under_load(shards: u16) {
    let home = Home::new(&Settings {
        shards,
        more: "[identity]\ncertificates_per_hour = 0\n".to_owned(),
        ..Settings::default()
    });
    let running = home.start();
    let fleet = home.path("fleet");
    for (path, text) in FLEET {
        let path = fleet.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let plane = Plane::new(&home.data_dir().join("fleetward.sock"), PATIENCE);
    let kind = |product: &str, devices| Kind {
        product: product.to_owned(),
        devices,
        prefix: product.to_owned(),
    };
    let out = home.path("credentials");
    let enrollment = Enrollment {
        plane: &plane,
        est: running.devices,
        server_name: "localhost",
        fleet: &fleet,
        kinds: &[kind("device", DEVICES), kind("line", OF_LINE)],
        threads: 4,
        out: &out,
    };
    enroll(&enrollment, sim::now()).unwrap();
    let settings = load::Settings {
        mode: Mode::Contain,
        address: running.mqtt,
        server_name: "localhost".to_owned(),
        ca: out.join("ca.pem"),
        cert_dir: out.join("devices"),
        devices: DEVICES + OF_LINE,
        rate: 1000.0,
        arrivals: load::Arrivals::Own,
        payload_bytes: 128,
        qos: mqtt::Qos::AtLeastOnce,
        warmup: Duration::from_millis(200),
        measured: Duration::from_secs(2),
        drain: PATIENCE,
        topic_template: "t/{device}/up".to_owned(),
        device_filter: "t/{device}/down".to_owned(),
        consumer: Some((out.join("consumer.pem"), out.join("consumer.key"))),
        consumer_id: "consumer".to_owned(),
        consumer_filter: "t/+/up".to_owned(),
        consumer_persistent: false,
        revocations: None,
        containments: Some(Containments {
            plane,
            alone: 10,
            together: 10,
            changes: 3,
            fleet,
            product: "line".to_owned(),
            prefix: "line-".to_owned(),
            whole: true,
        }),
        handshakes: 8,
        window: 64,
        keep_alive_seconds: 60,
        version: mqtt::Version::V5,
        in_clear: false,
        tls: Versions::Both,
        groups: Groups::All,
        resume: false,
        seed: u64::from(shards),
    };
    let report = load::run(&settings, &mut |_| {}).unwrap();
    assert_eq!(report.connected, DEVICES + OF_LINE, "{report:?}");
    // A permitted message that was refused and a forbidden one that passed are failures.
    assert!(report.failures.is_empty(), "{report:?}");
    assert_eq!(
        (report.disconnected, report.totals.lost),
        (0, 0),
        "{report:?}"
    );
    assert_eq!(report.containments.len(), 10 + 1 + 2 * 3 + 1, "{report:?}");
    let whole = report.containments.last().unwrap();
    assert_eq!((whole.what, whole.sessions), ("product", OF_LINE));
    for one in &report.containments {
        assert!(one.refused.is_none() && one.sent_after > 0, "{one:?}");
    }
    assert!(report.withheld > 100, "{report:?}");
    running.stop_well();
}

const FLEET: [(&str, &str); 5] = [
    ("fleet.toml", "name = \"test\"\n"),
    ("products/p.toml", "[device]\n[line]\n"),
    ("services/s.toml", "[consumer]\n"),
    (
        "channels/c.toml",
        "[up]\ntopic = \"t/{device}/up\"\ndirection = \"from-device\"\npayload_bytes_max = 4096\n\
         rate_per_minute = 1000000\n",
    ),
    (
        "policies/p.cedar",
        "@id(\"device-sends-own\")\n\
         permit (principal is Device, action == Action::\"publish\", resource)\n\
         when { resource.owner == principal };\n\
         @id(\"consumer-receives-all\")\n\
         permit (principal == Service::\"consumer\", action == Action::\"receive\", resource);\n",
    ),
];
