use crate::broker::Broker;
use mqtt::{Qos, Version};
use sim::load::{
    Arrivals, CertificatePaths, CertificateSet, Containments, Mark, Mode, Report, Revocations,
    Settings, Withdrawn, make_certificates, run,
};
use sim::plane::Plane;
use sim::tls::{Client, Groups, Options, Versions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

fn settings(broker: &Broker, mode: Mode) -> Settings {
    settings_at(broker.address, &broker.paths, mode)
}

fn settings_at(address: SocketAddr, paths: &CertificatePaths, mode: Mode) -> Settings {
    Settings {
        mode,
        address,
        server_name: "localhost".to_owned(),
        ca: paths.ca.clone(),
        cert_dir: paths.devices.clone(),
        devices: 20,
        rate: 1000.0,
        arrivals: Arrivals::Even,
        payload_bytes: 128,
        qos: Qos::AtLeastOnce,
        warmup: Duration::from_millis(100),
        measured: Duration::from_millis(500),
        drain: Duration::from_secs(30),
        topic_template: "t/{device}/up".to_owned(),
        device_filter: "t/{device}/down".to_owned(),
        consumer: Some(paths.consumer.clone()),
        consumer_id: "consumer".to_owned(),
        consumer_filter: "t/+/up".to_owned(),
        consumer_persistent: false,
        revocations: None,
        containments: None,
        handshakes: 8,
        window: 64,
        keep_alive_seconds: 60,
        version: Version::V5,
        in_clear: false,
        tls: Versions::Both,
        groups: Groups::All,
        resume: false,
        seed: 7,
    }
}

fn measure(settings: &Settings) -> Report {
    run(settings, &mut |_| ()).unwrap()
}

fn complete(report: &Report) {
    assert!(report.published > 0, "{report:?}");
    assert!(report.failures.is_empty(), "{report:?}");
    let totals = report.totals;
    assert_eq!(totals.acknowledged, totals.sent, "{report:?}");
    assert_eq!(totals.delivered, totals.acknowledged, "{report:?}");
    assert_eq!(totals.lost + totals.duplicates + totals.foreign, 0);
    assert_eq!(totals.order_violations, 0);
}

#[test]
fn everything_acknowledged_by_mosquitto_is_delivered_in_every_dialect() {
    let Some(broker) = Broker::start(20, &[]) else {
        return;
    };
    for (version, tls, qos) in [
        (Version::V5, Versions::Only13, Qos::AtLeastOnce),
        (Version::V311, Versions::Only12, Qos::AtLeastOnce),
        (Version::V5, Versions::Only12, Qos::AtMostOnce),
    ] {
        let mut marks = Vec::new();
        let settings = Settings {
            version,
            tls,
            qos,
            ..settings(&broker, Mode::Publish)
        };
        let report = run(&settings, &mut |mark| marks.push(mark)).unwrap();
        complete(&report);
        assert_eq!(report.totals.sent, report.published);
        assert_eq!(
            marks,
            [
                Mark::Connected(20),
                Mark::MeasuringBegins,
                Mark::MeasuringEnds
            ]
        );
    }
}

#[test]
fn what_the_forwarder_acknowledges_arrives_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let set = CertificateSet {
        folder: folder.path(),
        devices: 20,
        prefix: "device",
        days: 1,
    };
    make_certificates(&set, sim::now()).unwrap();
    let probe = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = probe.local_addr().unwrap();
    drop(probe);
    // It ends with this process.
    std::thread::spawn(move || sim::forward::serve(address));
    while TcpStream::connect(address).is_err() {
        std::thread::yield_now();
    }
    let paths = CertificatePaths::of(folder.path());
    let settings = Settings {
        in_clear: true,
        ..settings_at(address, &paths, Mode::Publish)
    };
    let report = measure(&settings);
    complete(&report);
    assert_eq!(report.connected, 20);
}

/// The size the comparison with another broker needs. Long in a debug build: run it by name.
#[test]
#[ignore = "a thousand handshakes and 15,000 messages"]
fn a_thousand_devices_at_five_thousand_messages_a_second() {
    let Some(broker) = Broker::start(1000, &[]) else {
        return;
    };
    let settings = Settings {
        devices: 1000,
        rate: 5000.0,
        arrivals: Arrivals::Own,
        measured: Duration::from_secs(3),
        ..settings(&broker, Mode::Publish)
    };
    let report = measure(&settings);
    complete(&report);
    assert_eq!(report.connected, 1000);
}

#[test]
fn fan_out_owes_a_delivery_to_every_device() {
    let Some(broker) = Broker::start(5, &[]) else {
        return;
    };
    let settings = Settings {
        devices: 5,
        rate: 100.0,
        topic_template: "t/device-00002/down".to_owned(),
        device_filter: "t/device-00002/down".to_owned(),
        ..settings(&broker, Mode::Fanout)
    };
    let report = measure(&settings);
    assert_eq!(report.totals.sent, report.published * 5);
    assert_eq!(report.totals.acknowledged, report.totals.sent);
    // One device alone may read there: what the other four are owed must show as lost.
    assert_eq!(report.totals.delivered, report.published, "{report:?}");
    assert_eq!(report.totals.lost, report.published * 4, "{report:?}");
}

#[test]
fn a_publish_that_the_broker_denies_is_counted_as_refused_and_not_as_lost() {
    let Some(broker) = Broker::start(2, &[]) else {
        return;
    };
    let settings = Settings {
        devices: 2,
        rate: 100.0,
        topic_template: "t/device-00001/up".to_owned(),
        ..settings(&broker, Mode::Publish)
    };
    let report = measure(&settings);
    assert!(report.refused > 0, "{report:?}");
    assert_eq!(report.failures.get("puback:0x87"), Some(&report.refused));
    assert_eq!(
        report.totals.acknowledged + report.refused,
        report.published
    );
    assert_eq!(report.totals.lost, 0, "{report:?}");
}

#[test]
fn connecting_and_idling_are_counted() {
    let Some(broker) = Broker::start(20, &[]) else {
        return;
    };
    let connects = measure(&settings(&broker, Mode::Connect));
    assert!(connects.failures.is_empty(), "{connects:?}");
    assert!(connects.connect_p50_us.is_some(), "{connects:?}");
    let idle = measure(&settings(&broker, Mode::Idle));
    assert_eq!((idle.connected, idle.disconnected), (20, 0), "{idle:?}");
}

#[test]
fn strangers_are_counted_by_the_alert_that_refused_them() {
    let Some(broker) = Broker::start(0, &[]) else {
        return;
    };
    let strangers = crate::folder();
    let set = CertificateSet {
        folder: strangers.path(),
        devices: 10,
        prefix: "device",
        days: 2,
    };
    let paths = make_certificates(&set, sim::now()).unwrap();
    let settings = Settings {
        cert_dir: paths.devices,
        devices: 10,
        ..settings(&broker, Mode::Idle)
    };
    let report = measure(&settings);
    assert_eq!(report.connected, 0);
    assert_eq!(report.failures["alert:unknown_ca"], 10, "{report:?}");
    let settings = Settings {
        consumer: Some(paths.consumer),
        ..Settings {
            mode: Mode::Publish,
            ..settings
        }
    };
    let error = run(&settings, &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("unknown_ca"), "{error}");
}

#[test]
fn a_run_that_cannot_be_is_refused_before_anything_is_opened() {
    let Some(broker) = Broker::start(1, &[]) else {
        return;
    };
    let good = Settings {
        devices: 1,
        ..settings(&broker, Mode::Publish)
    };
    type Spoil = fn(&mut Settings);
    let cases: [(Spoil, &str); 5] = [
        (|wrong| wrong.devices = 2, "holds 1 pairs"),
        (|wrong| wrong.payload_bytes = 79, "use 80 or more"),
        (|wrong| wrong.rate = f64::NAN, "NaN"),
        (|wrong| wrong.ca = "/nonexistent".into(), "/nonexistent"),
        (
            |wrong| (wrong.consumer, wrong.mode) = (None, Mode::Fanout),
            "name it",
        ),
    ];
    for (spoil, says) in cases {
        let mut wrong = good.clone();
        spoil(&mut wrong);
        let error = run(&wrong, &mut |_| ()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

/// An API that takes what it is asked for and refuses from the `refused`th revocation on. Asked,
/// it calls `ends` with the name of what is revoked, and then answers.
fn revoking_api(
    socket: &Path,
    requests: usize,
    refused: usize,
    mut ends: impl FnMut(&str) + Send + 'static,
) -> JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        let mut asked = Vec::new();
        for number in 0..requests {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            // A question ends with its head, an act with its body.
            while !(request.ends_with(b"}")
                || request.starts_with(b"GET") && request.ends_with(b"\r\n\r\n"))
            {
                let mut byte = [0];
                assert_eq!(stream.read(&mut byte).unwrap(), 1);
                request.push(byte[0]);
            }
            let text = String::from_utf8(request).unwrap();
            let body = text.split("\r\n\r\n").nth(1).unwrap();
            let (status, answer) = if text.starts_with("GET") {
                ("200 OK", "[]")
            } else if number < refused {
                let body: serde_json::Value = serde_json::from_str(body).unwrap();
                let name = body["device"].as_str().unwrap();
                ends(name);
                asked.push(name.to_owned());
                let receipt = r#"{"sessions_closed":1,"in_force_after_micros":7,"in_force_at_unix_micros":5,"closed_after_micros":8,"recorded_after_micros":9,"recorded":{}}"#;
                ("201 Created", receipt)
            } else {
                let body: serde_json::Value = serde_json::from_str(body).unwrap();
                asked.push(body["device"].as_str().unwrap().to_owned());
                ("503 Service Unavailable", "sealed")
            };
            write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{answer}",
                answer.len()
            )
            .unwrap();
        }
        asked
    })
}

fn revoking(broker: &Broker, socket: &Path) -> Settings {
    Settings {
        revocations: Some(Revocations {
            plane: Plane::new(socket, Duration::from_secs(10)),
            what: Withdrawn::Devices(3),
        }),
        ..settings(broker, Mode::Revoke)
    }
}

/// So many devices are quarantined, one by one.
fn containing(broker: &Broker, socket: &Path, alone: usize) -> Settings {
    Settings {
        containments: Some(Containments {
            plane: Plane::new(socket, Duration::from_secs(10)),
            alone,
            together: 0,
            changes: 0,
            fleet: socket.with_file_name("fleet"),
            product: "line".to_owned(),
            prefix: "line-".to_owned(),
            whole: false,
        }),
        ..settings(broker, Mode::Contain)
    }
}

#[test]
fn a_revocation_reports_its_receipt_and_what_the_device_saw() {
    let Some(broker) = Broker::start(20, &[]) else {
        return;
    };
    let folder = crate::folder();
    let socket = folder.path().join("api.sock");
    // Three revocations, and the question who is connected still.
    let api = revoking_api(&socket, 4, 1, |_| ());
    let settings = Settings {
        drain: Duration::from_secs(2),
        ..revoking(&broker, &socket)
    };
    let report = measure(&settings);
    let asked = api.join().unwrap();
    // This broker ends nobody: all stay, and every message of everybody arrives.
    complete(&report);
    assert_eq!(report.disconnected, 0);
    assert_eq!(report.revocations.len(), 3);
    for (number, (one, asked)) in report.revocations.iter().zip(&asked).enumerate() {
        assert_eq!(one.what, format!("device/{asked}"));
        assert_eq!(one.refused.is_none(), number == 0, "{one:?}");
        let receipt = one.receipt.map(|receipt| receipt.in_force_after_micros);
        assert_eq!(receipt, (number == 0).then_some(7));
        assert!(one.last_accepted_us.is_some(), "{one:?}");
        assert_eq!(
            (one.closed_us, &one.not_closed),
            (None, &vec![asked.clone()])
        );
        assert_eq!((one.connections, one.ports.len()), (1, 1));
        assert!(one.left_open.is_empty());
    }
}

/// The end of a connection came while the generator waited for a late answer and looked at no
/// socket, or an answer was taken for that of a turn which had been left out.
#[test]
fn a_revocation_that_is_answered_late_is_measured_like_the_others() {
    let Some(broker) = Broker::start(20, &[]) else {
        return;
    };
    let folder = crate::folder();
    let socket = folder.path().join("api.sock");
    let endpoint = broker.endpoint();
    let devices = broker.paths.devices.clone();
    // A client with the name of another takes its place: the broker ends the other's session.
    let mut guests = Vec::new();
    let api = revoking_api(&socket, 3, 3, move |name| {
        let presented = sim::Credential::read(&devices, name).unwrap().presented();
        let client = Client::new(&endpoint, Some(&presented), &Options::default()).unwrap();
        let connect = mqtt::Connect::new(Version::V5, name);
        guests.push(sim::Session::open(&client, &connect, Duration::from_secs(10)).unwrap());
        // Longer than the turn of a device, together longer than the run.
        std::thread::sleep(Duration::from_millis(400));
    });
    let report = measure(&revoking(&broker, &socket));
    let asked = api.join().unwrap();
    assert_eq!(report.disconnected, 0, "{report:?}");
    assert!(report.lasted_seconds >= 1.2, "{report:?}");
    assert_eq!(report.revocations.len(), 3);
    for (one, asked) in report.revocations.iter().zip(&asked) {
        assert_eq!(one.what, format!("device/{asked}"));
        assert!(
            one.not_closed.is_empty() && one.closed_us.unwrap() > 0.0,
            "{one:?}"
        );
        assert!(one.closed_us.unwrap() < one.answered_us, "{one:?}");
    }
}

/// A broker that cuts nobody off, behind an API that says it did: each message that passes is told.
#[test]
fn a_quarantine_that_is_acknowledged_and_does_not_bite_is_told() {
    let Some(broker) = Broker::start(20, &[]) else {
        return;
    };
    let folder = crate::folder();
    let socket = folder.path().join("api.sock");
    let api = revoking_api(&socket, 3, 3, |_| ());
    let report = measure(&containing(&broker, &socket, 3));
    assert_eq!(api.join().unwrap().len(), 3);
    assert_eq!(report.containments.len(), 3, "{report:?}");
    assert!(
        report.containments.iter().all(|one| one.sent_after > 0),
        "{report:?}"
    );
    assert_eq!(report.withheld, 0, "{report:?}");
    let told = report.failures["protocol"];
    assert!(told > 0, "{report:?}");
    assert!(report.example.unwrap().contains("after it was forbidden"));
}

/// A refusal before an act asked for it is a failure; after the acknowledgement it is what must be.
#[test]
fn who_was_never_forbidden_must_be_heard() {
    let Some(broker) = Broker::start(2, &[]) else {
        return;
    };
    let folder = crate::folder();
    let socket = folder.path().join("api.sock");
    let api = revoking_api(&socket, 1, 1, |_| ());
    let settings = Settings {
        devices: 2,
        rate: 200.0,
        // Not its own topic: this broker refuses all of it, also before anybody asked for that.
        topic_template: "t/nobody/up".to_owned(),
        ..containing(&broker, &socket, 1)
    };
    let report = measure(&settings);
    api.join().unwrap();
    assert!(report.withheld > 0, "{report:?}");
    assert!(report.failures["puback:0x87"] > 0, "{report:?}");
}

#[test]
fn a_fleet_comes_back_after_its_broker_was_ended() {
    let Some(broker) = Broker::start(20, &[]) else {
        return;
    };
    let settings = settings(&broker, Mode::Return);
    let broker = std::cell::RefCell::new(broker);
    let report = run(&settings, &mut |mark| {
        if mark == Mark::MeasuringBegins {
            broker.borrow_mut().restart();
        }
    })
    .unwrap();
    assert!(report.failures.is_empty(), "{report:?}");
    let back = report.returned.unwrap();
    assert!(back.attempts >= 20, "{back:?}");
    assert!(
        back.half_seconds <= back.most_seconds && back.most_seconds <= back.all_seconds,
        "{back:?}"
    );
}
