//! Claim certificates: AWS's own SDK at our door, and what somebody would try who has the key that
//! lies in every device of a batch.

use crate::fixture::{der_of, fleet};
use crate::plane::{Home, Plane, Settings};
use crate::recipes::follow_with;
use crate::tools::{have, openssl_well, python_with, run, write_root};
use mqtt::{Connect, Qos, Version};
use serde_json::{Value, json};
use sim::credential::{Key, request_pem};
use sim::tls::{Client, Options};
use sim::{Credential, Refusal, Session};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const CREATE: &str = "$aws/certificates/create-from-csr/json";
const ENROLL: &str = "$aws/provisioning-templates/sensor/provision/json";

#[test]
fn aws_sdk_for_python_enrolls_by_the_recipe() {
    let Some(python) = python_with("awsiot") else {
        return;
    };
    if !have(&["openssl"]) {
        return;
    }
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    write_root(&home, &plane);
    plane
        .expect_csv("serial,product,device\nSN1,sensor,aws-1\nSN2,sensor,aws-2\n")
        .expect(201);
    let page = include_str!("../../../../docs/identity/aws-provisioning.md");
    let headings = ["Make a claim certificate", "Add it", "What the device does"];
    let here = |script: String| {
        script
            .replace("port=8883", &format!("port={}", plane.mqtt.port()))
            .replace("python3 ask.py", &format!("{python} ask.py"))
    };
    follow_with(&home, &plane, page, &headings, here);
    let thing = std::fs::read_to_string(home.path("thing")).unwrap();
    assert_eq!(thing.trim(), "aws-1");
    // The SDK's newer client asks over MQTT 5.
    home.write("ask5.py", ASK_BY_MQTT_5.as_bytes());
    let port = plane.mqtt.port().to_string();
    let ran = run(&home, &python, &["ask5.py", &port], b"");
    assert!(ran.good, "{}\n{}", ran.text(), ran.err);
    assert_eq!(ran.text().trim(), "claim-key-wanted\naws-2");
    // What it got speaks MQTT as the device.
    let pem = std::fs::read_to_string(home.path("device.pem")).unwrap();
    let key = openssl_well(
        &home,
        &["pkey", "-in", "device.key", "-outform", "DER"],
        b"",
    );
    let key = pkcs8(&home, &key);
    let credential = Credential::new(vec![der_of(&pem)], key).unwrap();
    let mut session = connect(&plane, &credential, "aws-1", Version::V5).unwrap();
    session
        .publish("v1/sensor/aws-1/telemetry/t", b"21")
        .unwrap();
    follow_with(&home, &plane, page, &["Retire it"], |script| script);
    let claims = plane.get(CLAIMS).expect(200).json();
    assert_eq!(claims[0]["devices"], 2);
    assert_eq!(claims[0]["state"], "retired");
    session
        .publish("v1/sensor/aws-1/telemetry/t", b"22")
        .unwrap();
}

const ASK_BY_MQTT_5: &str = r#"
import subprocess, sys, threading
from awscrt import mqtt_request_response
from awsiot import V2ServiceException, iotidentity, mqtt5_client_builder

subprocess.run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
    "-nodes", "-subj", "/CN=SN2", "-keyout", "two.key", "-out", "two.csr"],
    check=True, stderr=subprocess.DEVNULL)
connected = threading.Event()
client = mqtt5_client_builder.mtls_from_path(
    endpoint="localhost", port=int(sys.argv[1]), client_id="whatever", ca_filepath="root.pem",
    cert_filepath="claim.pem", pri_key_filepath="claim.key",
    on_lifecycle_connection_success=lambda _: connected.set())
client.start()
assert connected.wait(20)
options = mqtt_request_response.ClientOptions(
    max_request_response_subscriptions=6, max_streaming_subscriptions=0,
    operation_timeout_in_seconds=20)
identity = iotidentity.IotIdentityClientV2(client, options)
try:
    identity.create_keys_and_certificate(iotidentity.CreateKeysAndCertificateRequest()).result(20)
except V2ServiceException as refused:
    print(refused.modeled_error.error_code)
certificate = identity.create_certificate_from_csr(iotidentity.CreateCertificateFromCsrRequest(
    certificate_signing_request=open("two.csr").read())).result(20)
thing = identity.register_thing(iotidentity.RegisterThingRequest(
    template_name="sensor", parameters={"SerialNumber": "SN2"},
    certificate_ownership_token=certificate.certificate_ownership_token)).result(20)
print(thing.thing_name)
client.stop()
"#;

fn pkcs8(home: &Home, key: &[u8]) -> Key {
    home.write("key.der", key);
    let arguments = [
        "pkcs8", "-topk8", "-nocrypt", "-inform", "DER", "-in", "key.der", "-outform", "DER",
    ];
    Key::from_pkcs8(&openssl_well(home, &arguments, b"")).unwrap()
}

const CLAIMS: &str = "/api/v1/identity/claim-certificates";

/// A plane that expects d1 to d4 and believes a claim certificate.
struct Scene {
    home: Home,
    plane: Plane,
    claim: Credential,
}

impl Scene {
    fn new(terms: &Value) -> Self {
        let home = Home::new(&Settings::default());
        let plane = home.start_prepared();
        let rows = (1..=4).map(|number| format!("SN{number},sensor,d{number}\n"));
        let csv = format!("serial,product,device\n{}", rows.collect::<String>());
        plane.expect_csv(&csv).expect(201);
        let claim = claim_of("batch 17");
        let scene = Self { home, plane, claim };
        scene.add("batch-17", &scene.claim, terms).expect(201);
        scene
    }

    fn add(&self, name: &str, claim: &Credential, terms: &Value) -> crate::http::Answer {
        let mut body = json!({
            "claim": name,
            "certificate_pem": sim::credential::pem("CERTIFICATE", claim.certificate()),
            "manufacturer": "acme",
            "product": "sensor",
            "addresses": ["127.0.0.0/8"],
            "devices_max": 3,
            "days": 30,
        });
        for (name, value) in terms.as_object().unwrap() {
            body[name] = value.clone();
        }
        self.plane.post(CLAIMS, &body)
    }

    fn connect(&self) -> Result<Session, Refusal> {
        connect(&self.plane, &self.claim, "whatever", Version::V311)
    }

    fn asking(&self) -> Asking {
        Asking::new(self.connect().unwrap())
    }

    fn actions(&self) -> Vec<String> {
        let entries = self.plane.entries();
        let actions = entries
            .iter()
            .map(|entry| entry["action"].as_str().unwrap());
        actions.map(str::to_owned).collect()
    }
}

/// A device with a claim certificate, connected and listening.
struct Asking {
    session: Session,
}

impl Asking {
    fn new(mut session: Session) -> Self {
        for topic in [CREATE, ENROLL] {
            for end in ["accepted", "rejected"] {
                let topic = format!("{topic}/{end}");
                session.subscribe_one(&topic, Qos::AtLeastOnce).unwrap();
            }
        }
        Self { session }
    }

    /// The answer on `accepted`, or the code of the refusal.
    fn ask(&mut self, topic: &str, payload: &Value) -> Result<Value, String> {
        self.session
            .publish(topic, payload.to_string().as_bytes())
            .unwrap();
        let answer = self.session.next_delivery(Instant::now() + PATIENCE);
        let answer = answer.unwrap().expect("no answer");
        let said: Value = serde_json::from_slice(&answer.payload).unwrap();
        if answer.topic == format!("{topic}/accepted") {
            return Ok(said);
        }
        assert_eq!(answer.topic, format!("{topic}/rejected"));
        assert!(said["statusCode"].as_u64().unwrap() >= 400, "{said}");
        assert!(
            said["errorMessage"].as_str().unwrap().contains(": "),
            "{said}"
        );
        Err(said["errorCode"].as_str().unwrap().to_owned())
    }

    fn create(&mut self, serial: &str, key: &Key) -> Result<Value, String> {
        self.create_by(&request_pem(key, serial).unwrap())
    }

    fn create_by(&mut self, request_pem: &str) -> Result<Value, String> {
        self.ask(CREATE, &json!({ "certificateSigningRequest": request_pem }))
    }

    fn enroll(&mut self, created: &Value, serial: &str) -> Result<Value, String> {
        let payload = json!({
            "certificateOwnershipToken": created["certificateOwnershipToken"],
            "parameters": { "SerialNumber": serial },
        });
        self.ask(ENROLL, &payload)
    }
}

fn connect(
    plane: &Plane,
    credential: &Credential,
    client_id: &str,
    version: Version,
) -> Result<Session, Refusal> {
    let options = Options::default();
    let client = Client::new(&plane.doors().mqtt, Some(&credential.presented()), &options);
    Session::open(
        &client.unwrap(),
        &Connect::new(version, client_id),
        PATIENCE,
    )
}

/// Of a CA that nobody here knows.
fn claim_of(common_name: &str) -> Credential {
    let factory = sim::Factory::new(common_name, sim::now()).unwrap();
    let serial = model::SerialNumber::new("no-device").unwrap();
    factory
        .idevid(&serial, sim::Flaw::None, sim::now())
        .unwrap()
}

fn credential_of(created: &Value, key: Key) -> Credential {
    let pem = created["certificatePem"].as_str().unwrap();
    Credential::new(vec![der_of(pem)], key).unwrap()
}

fn key() -> (Key, Key) {
    let key = Key::generate().unwrap();
    let same = Key::from_pkcs8(key.pkcs8()).unwrap();
    (key, same)
}

#[test]
fn a_certificate_is_good_once_its_token_is_shown_and_not_before() {
    let scene = Scene::new(&json!({}));
    let mut asking = scene.asking();
    let (key, same) = key();
    let created = asking.create("SN1", &key).unwrap();
    assert_eq!(created["certificateId"].as_str().unwrap().len(), 64);
    let own = credential_of(&created, same);
    let barred = connect(&scene.plane, &own, "d1", Version::V5);
    assert!(barred.is_err(), "on hold");
    let acts = scene.actions();
    assert_eq!(acts.last().unwrap(), "identity.certificate-reserved");

    let thing = asking.enroll(&created, "SN1").unwrap();
    assert_eq!(
        thing,
        json!({ "thingName": "d1", "deviceConfiguration": {} })
    );
    let acts = scene.actions();
    assert_eq!(acts.last().unwrap(), "identity.device-enrolled");
    let mut session = connect(&scene.plane, &own, "d1", Version::V5).unwrap();
    session.publish("v1/sensor/d1/telemetry/t", b"21").unwrap();
    // A replay grants nothing: the same answer, and no second entry.
    assert_eq!(asking.enroll(&created, "SN1").unwrap(), thing);
    assert_eq!(scene.actions(), acts);
    // Nor does it bring back what was revoked.
    let device = "d1".parse().unwrap();
    scene.plane.revoke(&device);
    let replayed = asking.enroll(&created, "SN1");
    assert!(replayed.is_err(), "{replayed:?}");
    assert!(connect(&scene.plane, &own, "d1", Version::V5).is_err());
}

#[test]
fn the_same_in_cbor() {
    // RFC 8949: the head of an item of a major type, all of them shorter than 65,536.
    fn head(major: u8, value: usize) -> Vec<u8> {
        let bytes = u16::try_from(value).unwrap().to_be_bytes();
        match value {
            0..24 => vec![major << 5 | bytes[1]],
            _ => vec![major << 5 | 25, bytes[0], bytes[1]],
        }
    }
    let text = |text: &str| [head(3, text.len()), text.as_bytes().to_vec()].concat();
    /// The text that stands behind a name.
    fn behind(payload: &[u8], name: &str) -> String {
        let at = payload
            .windows(name.len())
            .position(|window| window == name.as_bytes())
            .unwrap();
        let rest = &payload[at + name.len()..];
        let (bytes, from) = match rest[0] & 0x1f {
            24 => (usize::from(rest[1]), 2),
            25 => (usize::from(u16::from_be_bytes([rest[1], rest[2]])), 3),
            short => (usize::from(short), 1),
        };
        assert_eq!(rest[0] >> 5, 3, "a text");
        String::from_utf8(rest[from..from + bytes].to_vec()).unwrap()
    }
    let scene = Scene::new(&json!({}));
    let mut session = scene.connect().unwrap();
    let mut ask = |topic: &str, payload: &[u8]| {
        for end in ["accepted", "rejected"] {
            let topic = format!("{topic}/{end}");
            session.subscribe_one(&topic, Qos::AtMostOnce).unwrap();
        }
        session.publish(topic, payload).unwrap();
        let answer = session
            .next_delivery(Instant::now() + PATIENCE)
            .unwrap()
            .unwrap();
        (answer.topic, answer.payload)
    };
    let (key, same) = key();
    let (create, enroll) = (
        CREATE.replace("json", "cbor"),
        ENROLL.replace("json", "cbor"),
    );
    let request = request_pem(&key, "SN1").unwrap();
    let payload = [
        head(5, 1),
        text("certificateSigningRequest"),
        text(&request),
    ]
    .concat();
    let (topic, created) = ask(&create, &payload);
    assert_eq!(topic, format!("{create}/accepted"));
    let pem = behind(&created, "certificatePem");
    let token = behind(&created, "certificateOwnershipToken");
    let parameters = [head(5, 1), text("SerialNumber"), text("SN1")].concat();
    let payload = [
        head(5, 2),
        text("certificateOwnershipToken"),
        text(&token),
        text("parameters"),
        parameters,
    ]
    .concat();
    let (topic, thing) = ask(&enroll, &payload);
    assert_eq!(topic, format!("{enroll}/accepted"));
    assert_eq!(behind(&thing, "thingName"), "d1");
    let own = Credential::new(vec![der_of(&pem)], same).unwrap();
    connect(&scene.plane, &own, "d1", Version::V5).unwrap();
    let (topic, refused) = ask(&enroll, b"\xa0");
    assert_eq!(topic, format!("{enroll}/rejected"));
    assert_eq!(behind(&refused, "errorCode"), "claim-payload-malformed");
}

#[test]
fn another_devices_ownership_token_helps_nobody() {
    let scene = Scene::new(&json!({}));
    let other = claim_of("batch 18");
    scene.add("batch-18", &other, &json!({})).expect(201);
    let mut asking = scene.asking();
    let created = asking.create("SN1", &key().0).unwrap();
    let mut thief = scene.asking();
    thief.create("SN2", &key().0).unwrap();
    let mut elsewhere =
        Asking::new(connect(&scene.plane, &other, "whatever", Version::V5).unwrap());
    for told in [
        thief.enroll(&created, "SN2"),
        thief.enroll(&created, "SN9"),
        elsewhere.enroll(&created, "SN1"),
    ] {
        assert_eq!(told, Err("ownership-token-unknown".to_owned()));
    }
    let guessed = json!({ "certificateOwnershipToken": "A".repeat(43) });
    let told = thief.enroll(&guessed, "SN1");
    assert_eq!(told, Err("ownership-token-unknown".to_owned()));
    asking.enroll(&created, "SN1").unwrap();
}

#[test]
fn a_claim_certificate_used_to_publish_telemetry_is_cut_off_and_told() {
    let scene = Scene::new(&json!({}));
    let mark = scene.plane.lines.mark();
    let mut session = scene.connect().unwrap();
    let told = session.publish("v1/sensor/d1/telemetry/t", b"lies");
    assert!(told.is_err(), "{told:?}");
    let line = scene.plane.lines.wait_for(mark, "claim-certificate-alone");
    assert!(line.contains("v1/sensor/d1/telemetry/t"), "{line}");
    let mut session = scene.connect().unwrap();
    assert!(session.subscribe_one("#", Qos::AtMostOnce).is_err());
    // It is no way into the door for devices either.
    let options = Options::default();
    let presented = scene.claim.presented();
    let client = Client::new(&scene.plane.doors().est, Some(&presented), &options).unwrap();
    assert!(sim::est::simpleenroll(&client, "d1", "SN1", PATIENCE).is_err());
}

#[test]
fn no_more_devices_than_it_is_for_and_none_twice() {
    let scene = Scene::new(&json!({ "devices_max": 2 }));
    let mut asking = scene.asking();
    let mut enroll = |serial: &str| {
        let created = asking.create(serial, &key().0)?;
        asking.enroll(&created, serial)
    };
    enroll("SN1").unwrap();
    let again = enroll("SN1");
    assert_eq!(again, Err("claim-device-has-certificate".to_owned()));
    let unlisted = enroll("SN7");
    assert_eq!(unlisted, Err("serial-unlisted".to_owned()));
    enroll("SN2").unwrap();
    let third = enroll("SN3");
    assert_eq!(third, Err("claim-certificate-used-up".to_owned()));
    // What was begun before the last place was taken does not get past it.
    let scene = Scene::new(&json!({ "devices_max": 1 }));
    let mut asking = scene.asking();
    let first = asking.create("SN1", &key().0).unwrap();
    let second = asking.create("SN2", &key().0).unwrap();
    asking.enroll(&first, "SN1").unwrap();
    let told = asking.enroll(&second, "SN2");
    assert_eq!(told, Err("claim-certificate-used-up".to_owned()));
    // A hundred requests do not make a hundred certificates.
    let mut asking = scene.asking();
    for _ in 0..10 {
        let _ = asking.create("SN2", &key().0);
    }
    let claims = scene.plane.get(CLAIMS).expect(200).json();
    assert!(claims[0]["certificates"].as_u64().unwrap() <= 4, "{claims}");
}

#[test]
fn it_opens_nothing_from_elsewhere_after_it_was_retired_or_for_another_product() {
    let scene = Scene::new(&json!({ "addresses": ["198.51.100.0/24", "2001:db8::/32"] }));
    let mark = scene.plane.lines.mark();
    assert!(scene.connect().is_err());
    scene
        .plane
        .lines
        .wait_for(mark, "claim-certificate-elsewhere");

    let scene = Scene::new(&json!({}));
    let mut asking = scene.asking();
    let created = asking.create("SN1", &key().0).unwrap();
    let path = format!("{CLAIMS}/batch-17/retirement");
    let done = scene.plane.post(&path, &json!({})).expect(200).json();
    assert_eq!(done["sessions_closed"], 1);
    assert!(asking.session.ping().is_err());
    let mark = scene.plane.lines.mark();
    assert!(scene.connect().is_err());
    scene
        .plane
        .lines
        .wait_for(mark, "claim-certificate-retired");
    // Nor after a restart, nor by adding it once more.
    let home = scene.home;
    scene.plane.stop_well();
    let plane = home.start();
    assert!(connect(&plane, &scene.claim, "whatever", Version::V5).is_err());
    drop(created);
    let scene = Scene {
        home,
        plane,
        claim: scene.claim,
    };
    let again = scene.add("batch-19", &scene.claim, &json!({}));
    again.expect(409);

    let mut files = fleet();
    files.push(("products/q.toml", "[lamp]\n".to_owned()));
    scene.plane.apply(&files);
    let lamps = claim_of("lamps");
    let terms = json!({ "product": "lamp", "template": "sensor" });
    scene.add("lamps", &lamps, &terms).expect(201);
    let mut asking = Asking::new(connect(&scene.plane, &lamps, "x", Version::V5).unwrap());
    let told = asking.create("SN1", &key().0);
    assert_eq!(told, Err("claim-of-another-product".to_owned()));
}

#[test]
fn what_names_a_device_is_no_claim_certificate() {
    let scene = Scene::new(&json!({}));
    let device = scene.home.device("d9");
    let told = scene.add("batch-20", device.idevid(), &json!({}));
    assert_eq!(
        told.expect(403).json()["code"],
        "claim-certificate-names-device"
    );
    for (field, value) in [
        ("addresses", json!([])),
        ("addresses", json!(["10.0.0.1/8"])),
        ("devices_max", json!(0)),
        ("days", json!(0)),
        ("template", json!("a/b")),
        ("product", json!("unknown")),
        ("manufacturer", json!("nobody")),
    ] {
        let claim = claim_of("batch 21");
        let told = scene.add("batch-21", &claim, &json!({ field: value }));
        assert!(matches!(told.status, 400 | 409), "{field}");
    }
}

#[test]
fn of_a_product_that_wants_approval_a_person_decides() {
    let scene = Scene::new(&json!({}));
    let mut files = fleet();
    for (path, text) in &mut files {
        if *path == "products/p.toml" {
            text.push_str("enrollment = \"approval\"\n");
        }
    }
    scene.plane.apply(&files);
    let mut asking = scene.asking();
    for serial in ["SN1", "SN8"] {
        // The same bytes each time: they are what the person approves.
        let request = request_pem(&Key::generate().unwrap(), serial).unwrap();
        let waits = asking.create_by(&request);
        assert_eq!(waits, Err("enrollment-waits".to_owned()), "{serial}");
        let pending = scene
            .plane
            .get("/api/v1/identity/pending")
            .expect(200)
            .json();
        let waiting = pending
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["serial"] == serial);
        let id = waiting.unwrap()["id"].as_str().unwrap().to_owned();
        let path = format!("/api/v1/identity/pending/{id}/approve");
        scene.plane.post(&path, &json!({})).expect(200);
        // Only for the key that the person saw.
        let other = asking.create(serial, &Key::generate().unwrap());
        assert_eq!(other, Err("pending-too-often".to_owned()), "{serial}");
        let created = asking.create_by(&request).unwrap();
        asking.enroll(&created, serial).unwrap();
    }
}
