//! What MQTT can do, by clients that are not ours: mosquitto's and paho's, over mutual TLS.

use crate::fixture;
use crate::plane::{Home, Plane, Settings, wait_until};
use crate::tools::{have, mosquitto, write_credential, write_root};
use sim::device::Manner;
use std::process::{Child, Command, Stdio};

const PYTHON: &str = "/usr/bin/python3";
const VERSIONS: [&str; 2] = ["mqttv5", "mqttv311"];

/// The usual fleet, with what is retained, what is shared, and one who hears commands.
fn apply(plane: &Plane) {
    let with = |path: &str, text: String| match path {
        "channels/c.toml" => {
            text + "[state]\ntopic = \"v1/sensor/{device}/state/{any}\"\n\
                    direction = \"from-device\"\npayload_bytes_max = 1024\nretained_max = 100\n"
        }
        "services/s.toml" => {
            "[ingest]\nshares = [\"workers\"]\n[commander]\n[auditor]\n".to_owned()
        }
        "policies/p.cedar" => {
            text + "@id(\"auditor-hears-commands\")\n\
                    permit (principal == Service::\"auditor\", action == Action::\"receive\", resource)\n\
                    when { resource.direction == \"to-device\" };\n"
        }
        _ => text,
    };
    let fleet: Vec<(&str, String)> = (fixture::fleet().into_iter())
        .map(|(path, text)| (path, with(path, text)))
        .collect();
    plane.apply(&fleet);
}

/// A plane with that fleet, the device `cam` and three services, each with its files.
fn scene() -> (Home, Plane) {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    apply(&plane);
    let mut device = home.device("cam");
    plane.expect([&device]);
    device.enroll(&plane.doors(), &Manner::default()).unwrap();
    write_credential(&home, device.ldevid().unwrap(), "cam");
    for name in ["ingest", "commander", "auditor"] {
        write_credential(&home, &plane.certify(name), name);
    }
    write_root(&home, &plane);
    (home, plane)
}

/// A mosquitto client in the background with its output in a file; killed when dropped.
struct Background {
    child: Child,
    file: std::path::PathBuf,
}

impl Background {
    fn start(home: &Home, plane: &Plane, name: &str, id: &str, more: &[&str]) -> Self {
        let file = home.path(&format!("{id}.out"));
        let port = plane.mqtt.port().to_string();
        let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
        let child = Command::new("mosquitto_sub")
            .args(["-h", "localhost", "-p", &port, "--cafile", "root.pem"])
            .args(["--cert", &cert, "--key", &key, "-i", id])
            .args(more)
            .current_dir(home.path(""))
            .stdout(std::fs::File::create(&file).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("the subscription stands", || {
            let sessions = plane.get("/api/v1/gateway/sessions").expect(200).json();
            sessions.as_array().unwrap().iter().any(|session| {
                session["client_id"] == id
                    && session["connected"] == true
                    && session["subscriptions"] == 1
            })
        });
        Self { child, file }
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.file).unwrap()
    }

    fn lines(&self) -> usize {
        self.text().lines().count()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn mosquitto_speaks_qos_2_and_shares_and_leaves_a_will() {
    if !have(&["mosquitto_pub", "mosquitto_sub"]) {
        return;
    }
    let (home, plane) = scene();
    for version in VERSIONS {
        let say = |more: &[&str]| {
            let common = ["-V", version, "-i", "cam", "-q", "2", "-d"];
            mosquitto(
                &home,
                &plane,
                "mosquitto_pub",
                "cam",
                &[&common[..], more].concat(),
            )
        };
        let topic = "v1/sensor/cam/telemetry/t";
        let hears = [
            "-V",
            version,
            "-q",
            "2",
            "-t",
            "v1/sensor/+/telemetry/#",
            "-F",
            "%q %p",
        ];
        let ingest = Background::start(&home, &plane, "ingest", "ingest", &hears);
        let ran = say(&["-t", topic, "-m", "once"]);
        let said = ran.text() + &ran.err;
        assert!(
            ran.good && said.contains("PUBREC") && said.contains("PUBCOMP"),
            "{said}"
        );
        wait_until("it has come", || ingest.text() == "2 once\n");
        drop(ingest);

        // Ten messages among two who share.
        let shares = [
            "-V",
            version,
            "-q",
            "1",
            "-t",
            "$share/workers/v1/sensor/+/telemetry/#",
        ];
        let workers = ["ingest:a", "ingest:b"]
            .map(|id| Background::start(&home, &plane, "ingest", id, &shares));
        for number in 0..10 {
            assert!(say(&["-t", topic, "-m", &number.to_string()]).good);
        }
        let parts = || workers.each_ref().map(Background::lines);
        wait_until("all have come", || parts().iter().sum::<usize>() == 10);
        assert_eq!(parts(), [5, 5], "{version}");
        drop(workers);

        // A device that is killed leaves its will, retained, with all that it says.
        let alive = "v1/sensor/cam/state/alive";
        let will = [
            "-V",
            version,
            "-t",
            "v1/sensor/cam/command/+",
            "--will-topic",
            alive,
            "--will-payload",
            "gone",
            "--will-qos",
            "2",
            "--will-retain",
        ];
        let hears = ["-V", version, "-q", "2", "-t", alive, "-F", "%r %p"];
        let ingest = Background::start(&home, &plane, "ingest", "ingest", &hears);
        drop(Background::start(&home, &plane, "cam", "cam", &will));
        // In the second round, what is retained of the first comes before it.
        wait_until("the will has come", || ingest.text().ends_with("0 gone\n"));
        drop(ingest);
        let hears = [&hears[..], &["-C", "1", "-W", "30", "-i", "ingest"]].concat();
        let later = mosquitto(&home, &plane, "mosquitto_sub", "ingest", &hears);
        assert_eq!(later.text(), "1 gone\n", "{}", later.err);
    }
}

#[test]
fn mosquitto_finds_the_last_word_after_a_crash_until_it_is_taken_back() {
    if !have(&["mosquitto_pub", "mosquitto_sub"]) {
        return;
    }
    for version in VERSIONS {
        let (home, plane) = scene();
        let say = |plane: &Plane, topic: &str, more: &[&str]| {
            let common = ["-V", version, "-i", "cam", "-q", "1", "-r", "-t", topic];
            let ran = mosquitto(
                &home,
                plane,
                "mosquitto_pub",
                "cam",
                &[&common[..], more].concat(),
            );
            assert!(ran.good, "{}", ran.err);
        };
        let hear = |plane: &Plane| {
            let arguments = [
                "-V",
                version,
                "-i",
                "ingest",
                "-q",
                "1",
                "-t",
                "v1/sensor/+/state/+",
                "-F",
                "%r %t %p",
                "-W",
                "2",
            ];
            mosquitto(&home, plane, "mosquitto_sub", "ingest", &arguments).text()
        };
        say(&plane, "v1/sensor/cam/state/door", &["-m", "open"]);
        say(&plane, "v1/sensor/cam/state/door", &["-m", "shut"]);
        say(&plane, "v1/sensor/cam/state/light", &["-m", "on"]);
        plane.kill();
        let plane = home.start();
        assert_eq!(
            hear(&plane),
            "1 v1/sensor/cam/state/door shut\n1 v1/sensor/cam/state/light on\n"
        );
        say(&plane, "v1/sensor/cam/state/door", &["-n"]);
        plane.kill();
        let plane = home.start();
        assert_eq!(hear(&plane), "1 v1/sensor/cam/state/light on\n");
        // Contained: its word is withheld; restored: it is there again.
        let act = |json: serde_json::Value, path: &str| {
            plane.post(path, &json).expect(201);
        };
        act(
            serde_json::json!({ "device": "cam", "containment": "quarantined", "reason": "test" }),
            "/api/v1/response/containments",
        );
        assert_eq!(hear(&plane), "");
    }
}

#[test]
fn mosquitto_5_passes_on_what_a_message_says_of_itself() {
    if !have(&["mosquitto_pub", "mosquitto_sub"]) {
        return;
    }
    let (home, plane) = scene();
    let hears = [
        "-V",
        "mqttv5",
        "-q",
        "1",
        "-t",
        "v1/sensor/+/telemetry/#",
        "-D",
        "subscribe",
        "subscription-identifier",
        "7",
        "-F",
        "%t|%C|%D|%R|%P|%S|%p",
    ];
    let ingest = Background::start(&home, &plane, "ingest", "ingest", &hears);
    let say = |answer: &str| {
        let arguments = [
            "-V",
            "mqttv5",
            "-i",
            "cam",
            "-q",
            "1",
            "-t",
            "v1/sensor/cam/telemetry/t",
            "-m",
            "21",
            "-D",
            "publish",
            "content-type",
            "text/plain",
            "-D",
            "publish",
            "correlation-data",
            "c-1",
            "-D",
            "publish",
            "response-topic",
            answer,
            "-D",
            "publish",
            "user-property",
            "unit",
            "C",
        ];
        mosquitto(&home, &plane, "mosquitto_pub", "cam", &arguments)
    };
    assert!(say("v1/sensor/cam/command/answer").good);
    wait_until("it has come", || ingest.lines() == 1);
    assert_eq!(
        ingest.text(),
        "v1/sensor/cam/telemetry/t|text/plain|c-1|v1/sensor/cam/command/answer|unit:C|7|21\n"
    );
    // A confused responder: answers may not be asked for where somebody else listens.
    let mark = plane.lines.mark();
    let ran = say("v1/sensor/other/command/answer");
    assert!((ran.text() + &ran.err).contains("ot authorized"), "{ran:?}");
    plane.lines.wait_for(mark, "asked for answers on");
    assert_eq!(ingest.lines(), 1);
}

/// One publisher and one subscriber, both with sessions that last. The publisher notes what it was
/// told is complete, the subscriber what it got.
const EXACTLY_ONCE: &str = r#"
import os, sys, threading, time
import paho.mqtt.client as mqtt
port, count = int(sys.argv[1]), int(sys.argv[2])
got, sent = open("got.txt", "a", buffering=1), open("sent.txt", "a", buffering=1)
def client(name):
    made = mqtt.Client(client_id=name, clean_session=False)
    made.tls_set("root.pem", name + ".pem", name + ".key")
    made.reconnect_delay_set(1, 1)
    return made
hears, says = client("auditor"), client("commander")
hears.on_connect = lambda c, *_: c.subscribe("v1/sensor/+/command/+", 2)
hears.on_subscribe = lambda *_: open("stands", "w").close()
hears.on_message = lambda _c, _u, message: got.write(message.payload.decode() + "\n")
waiting = {}
def published(_c, _u, mid):
    number = waiting.pop(mid, None)
    if number is not None:
        sent.write("%d\n" % number)
says.on_publish = published
says.max_inflight_messages_set(10)
def run(one):
    one.connect_async("localhost", port)
    while True:
        try:
            one.loop_forever(retry_first_connection=True)
        except OSError:
            # What TLS says of a server that was killed ends paho's loop; a client tries again.
            time.sleep(0.2)
            try:
                one.reconnect()
            except OSError:
                pass
for one in (hears, says):
    threading.Thread(target=run, args=(one,), daemon=True).start()
while not os.path.exists("stands"):
    time.sleep(0.01)
for number in range(count):
    while len(waiting) > 8:
        time.sleep(0.002)
    with says._out_message_mutex:
        try:
            mid = says.publish("v1/sensor/cam/command/n", str(number), qos=2).mid
        except OSError:
            # It is kept all the same, and sent when the server is there again.
            mid = says._last_mid
        waiting[mid] = number
while not os.path.exists("stop"):
    time.sleep(0.05)
"#;

#[test]
fn a_crash_neither_loses_nor_doubles_a_message_of_qos_2() {
    let paho = Command::new(PYTHON)
        .args([
            "-c",
            "import paho.mqtt.client as it; assert hasattr(it.Client, 'tls_set')",
        ])
        .output();
    if !paho.is_ok_and(|ran| ran.status.success()) {
        println!("skipped: {PYTHON} has no paho-mqtt");
        return;
    }
    const COUNT: usize = 600;
    let (home, plane) = scene();
    // One port for all lives of the plane: its clients know it.
    let port = plane.mqtt.port();
    plane.stop_well();
    let config = std::fs::read_to_string(home.path("plane.toml")).unwrap();
    let config = config.replacen(
        "mqtt = \"127.0.0.1:0\"",
        &format!("mqtt = \"127.0.0.1:{port}\""),
        1,
    );
    assert!(config.contains(&format!("127.0.0.1:{port}")), "{config}");
    home.write("plane.toml", config.as_bytes());
    let mut plane = home.start();
    let mut clients = Command::new(PYTHON)
        .args(["-c", EXACTLY_ONCE, &port.to_string(), &COUNT.to_string()])
        .current_dir(home.path(""))
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let lines = |file: &str| {
        let text = std::fs::read_to_string(home.path(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    for crash in 1..=3 {
        wait_until("some are complete", || {
            lines("sent.txt").len() >= crash * COUNT / 5
        });
        plane.kill();
        plane = home.start();
    }
    wait_until("all are complete and have come", || {
        lines("sent.txt").len() >= COUNT && lines("got.txt").len() >= COUNT
    });
    home.write("stop", b"");
    clients.wait().unwrap();
    let mut got: Vec<usize> = (lines("got.txt").iter())
        .map(|line| line.parse().unwrap())
        .collect();
    assert!(got.is_sorted(), "in order");
    got.dedup();
    assert_eq!(got, (0..COUNT).collect::<Vec<_>>());
    assert_eq!(lines("got.txt").len(), COUNT, "each once");
}
