//! A plane with its real doors, and somebody at them: what is admitted and what is told. Each test
//! is named after what somebody would try.

mod abuse;
mod assurance;
mod brokers;
mod claiming;
mod clones;
mod keeping;
mod returning;
mod revoking;
mod rotation;
mod status;
mod stubs;

use crate::certify::lists;
use crate::config::Config;
use crate::entries::Actor;
use crate::flow;
use crate::judge::signals::{Inbox, Told};
use crate::listen::{Arrivals, DevicesDoor, Doors, serve_door};
use crate::plane::Plane;
use crate::startup::Foundation;
use crate::{api, sign_in};
use access::{SourceFile, containment_topic, report_topic};
use detection::{Feature, Observation};
use identity::Fact;
use model::{Attribution, Containment, DeviceId, Principal, SerialNumber, Source, Subject};
use mqtt::{Connect, Qos, Version};
use sim::credential::Key;
use sim::device::{Manner, Shown};
use sim::tls::{Client, Endpoint, Options, Versions};
use sim::{Credential, Device, Factory, Flaw, Session};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::watch;

/// No wait for something that comes is longer.
const PATIENCE: Duration = Duration::from_secs(60);

struct House {
    plane: Arc<Plane>,
    inbox: Inbox,
    told: Vec<Told>,
    factory: Factory,
    at: sim::device::Doors,
    devices_port: u16,
    stopping: watch::Sender<bool>,
    _scratch: TempDir,
}

impl House {
    /// A plane of the example fleet with devices that are expected.
    async fn with(devices: &[&str]) -> Self {
        Self::with_config(devices, "").await
    }

    /// As [`House::with`], with more at the end of the configuration.
    async fn with_config(devices: &[&str], more: &str) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let text = format!(
            "data_dir = {:?}\n[listen]\npeople = \"127.0.0.1:0\"\ndevices = \"127.0.0.1:0\"\n\
             mqtt = \"127.0.0.1:0\"\n[gateway]\nshards = 2\ndurability = \"process\"\n\
             [identity]\nstatus_url = \"http://status.test\"\ncrl_shards = 4\n{more}",
            scratch.path().join("data")
        );
        let config = Config::from_text(&text, &|_| None).unwrap();
        let foundation = Foundation::open(&config).unwrap();
        let doors = Doors::bind(&config.listen).unwrap();
        let addresses = doors.addresses().unwrap();
        let config_terms = config.identity.tls_terms();
        let plane = foundation.into_plane(config, &doors).unwrap();
        let (stopping, stopped) = watch::channel(false);
        let door = DevicesDoor {
            trust: Arc::clone(plane.trust()),
            terms: config_terms,
        };
        let router = api::devices_router(&plane);
        let signals = plane.signals.clone();
        let arrivals = Arrivals::of(doors.devices, &Arc::default()).unwrap();
        tokio::spawn(serve_door(arrivals, door, router, signals, stopped));
        let inbox = plane.inbox.lock().take().unwrap();
        let roots = [plane.tree().root().to_vec()];
        let at = sim::device::Doors {
            est: Endpoint::new(addresses.devices, "localhost", &roots).unwrap(),
            mqtt: Endpoint::new(addresses.mqtt, "localhost", &roots).unwrap(),
        };
        let factory = Factory::new("Acme Factory", sim::now()).unwrap();
        let house = Self {
            plane,
            inbox,
            told: Vec::new(),
            factory,
            at,
            devices_port: addresses.devices.port(),
            stopping,
            _scratch: scratch,
        };
        house.prepare(devices).await;
        house
    }

    async fn prepare(&self, devices: &[&str]) {
        let maker: model::ManufacturerId = "acme".parse().unwrap();
        let pem = self.factory.certificate_pem();
        lists::add_manufacturer(&self.plane, maker.clone(), &pem, &Actor::Plane)
            .await
            .unwrap();
        self.apply("").await;
        let rows = devices
            .iter()
            .map(|name| format!("SN-{name},camera,{name},\n"));
        let csv = format!("serial,product,device,groups\n{}", rows.collect::<String>());
        let list = identity::expected::parse_csv(&csv).unwrap();
        lists::expect_devices(&self.plane, &maker, list, &csv, &Actor::Plane)
            .await
            .unwrap();
    }

    /// Applies a fleet of one product, with a comment to make it another.
    async fn apply(&self, comment: &str) {
        let files = [
            ("fleet.toml", format!("name = \"test\" # {comment}\n")),
            ("products/p.toml", "[camera]\n".to_owned()),
            (
                "channels/c.toml",
                "[up]\ntopic = \"v1/{device}/up\"\ndirection = \"from-device\"\n\
                 payload_bytes_max = 100\n\
                 [down]\ntopic = \"v1/{device}/down\"\ndirection = \"to-device\"\n\
                 payload_bytes_max = 100\n"
                    .to_owned(),
            ),
            (
                "policies/p.cedar",
                "@id(\"own\") permit (principal is Device, action, resource)\n\
                 when { resource.owner == principal };\n"
                    .to_owned(),
            ),
        ]
        .map(|(path, text)| SourceFile {
            path: path.to_owned(),
            text,
        });
        flow::apply(&self.plane, files.into(), None, &Actor::Plane)
            .await
            .unwrap();
    }

    fn device(&self, name: &str) -> Device {
        let serial = SerialNumber::new(&format!("SN-{name}")).unwrap();
        let idevid = self
            .factory
            .idevid(&serial, Flaw::None, sim::now())
            .unwrap();
        Device::new(id(name), serial, idevid)
    }

    /// One that enrolled and is connected.
    async fn connected(&self, name: &str) -> Device {
        let mut device = self.device(name);
        let at = self.at.clone();
        blocking(move || {
            device.enroll(&at, &Manner::default()).unwrap();
            device.connect(&at, &Manner::default()).unwrap();
            device
        })
        .await
    }

    async fn contain(&self, name: &str, containment: Containment) -> u32 {
        let fact = Fact::DeviceContained {
            device: id(name),
            containment,
            at: sim::now(),
        };
        self.say(name, &fact).await
    }

    async fn restore(&self, name: &str) -> u32 {
        self.say(name, &Fact::DeviceRestored { device: id(name) })
            .await
    }

    async fn say(&self, name: &str, fact: &Fact) -> u32 {
        self.plane.learn(fact).unwrap();
        let facts = self.plane.admission.facts_of(&Principal::Device(id(name)));
        self.plane.shards().contain(&facts).await
    }

    /// Waits until something is told, keeping all that was told on the way.
    async fn wait_told(&mut self, what: &str, is_it: impl Fn(&Told) -> bool) -> Told {
        let mut looked_at = 0;
        loop {
            if let Some(told) = self.told.iter().skip(looked_at).find(|told| is_it(told)) {
                return told.clone();
            }
            looked_at = self.told.len();
            let more = self.inbox.recv_many(&mut self.told, 1000);
            match tokio::time::timeout(PATIENCE, more).await {
                Ok(count) if count > 0 => {}
                _ => panic!("{what} was not told, only {:#?}", self.told),
            }
        }
    }

    async fn wait_seen(&mut self, what: &str, is_it: impl Fn(&Observation) -> bool) -> Observation {
        let told = self
            .wait_told(
                what,
                |told| matches!(told, Told::Observation(seen) if is_it(seen)),
            )
            .await;
        match told {
            Told::Observation(seen) => seen,
            other => panic!("{other:?}"),
        }
    }

    /// What was told of a device as proven, so far.
    fn proven_of(&self, name: &str) -> Vec<&Feature> {
        let subject = Subject::Device(id(name));
        self.told
            .iter()
            .filter_map(|told| match told {
                Told::Observation(seen)
                    if seen.subject == subject && seen.attribution == Attribution::Proven =>
                {
                    Some(&seen.feature)
                }
                _ => None,
            })
            .collect()
    }

    async fn end(self) {
        self.stopping.send_replace(true);
        let plane = self.plane;
        blocking(move || plane.shards().drain()).await;
    }
}

type IsIt = fn(&Feature) -> bool;

fn id(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    crate::shared::off_thread(work).await.unwrap()
}

fn is_failure(feature: &Feature, why: &str) -> bool {
    matches!(feature, Feature::HandshakeFailed { reason, .. } if reason == why)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_victims_certificate_without_its_key_is_claimed_and_never_proven() {
    let mut house = House::with(&["victim"]).await;
    let mut victim = house.device("victim");
    let at = house.at.clone();
    let victim = blocking(move || {
        victim.enroll(&at, &Manner::default()).unwrap();
        victim
    })
    .await;
    let subject = Subject::Device(id("victim"));
    // Its TLS at the door for devices was proven; from here on nothing is.
    house
        .wait_seen("enrolling", |seen| {
            seen.subject == subject && matches!(seen.feature, Feature::TlsSession { .. })
        })
        .await;
    house.told.clear();
    for version in [Versions::Only13, Versions::Only12] {
        let ldevid = victim.ldevid().unwrap().chain().to_vec();
        let idevid = victim.idevid().chain().to_vec();
        let at = house.at.clone();
        blocking(move || {
            let options = Options {
                versions: version,
                ..Options::default()
            };
            for chain in [ldevid, idevid] {
                let stolen = Credential::new(chain, Key::generate().unwrap()).unwrap();
                let client = Client::new(&at.est, Some(&stolen.presented()), &options).unwrap();
                assert!(sim::est::simpleenroll(&client, "victim", "SN-victim", PATIENCE).is_err());
            }
        })
        .await;
    }
    for _ in 0..4 {
        let seen = house
            .wait_seen("the claim", |seen| {
                is_failure(&seen.feature, "no-possession")
            })
            .await;
        assert_eq!(
            (&seen.subject, seen.attribution),
            (&subject, Attribution::Claimed)
        );
        assert_eq!(seen.source, Source::Gateway);
    }
    let chain = victim.ldevid().unwrap().chain().to_vec();
    let at = house.at.clone();
    blocking(move || {
        let stolen = Credential::new(chain, Key::generate().unwrap()).unwrap();
        let options = Options::default();
        let client = Client::new(&at.mqtt, Some(&stolen.presented()), &options).unwrap();
        let connect = Connect::new(Version::V5, "victim");
        assert!(Session::open(&client, &connect, PATIENCE).is_err());
    })
    .await;
    let at_mqtt = |feature: &Feature| {
        matches!(feature, Feature::HandshakeFailed { reason, door }
            if reason == "no-possession" && door == "mqtt")
    };
    let seen = house
        .wait_seen("the claim at MQTT", |seen| at_mqtt(&seen.feature))
        .await;
    assert_eq!(
        (seen.subject, seen.attribution),
        (subject, Attribution::Claimed)
    );
    assert_eq!(house.proven_of("victim"), Vec::<&Feature>::new());
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_old_clients_are_told_by_their_address_alone() {
    let mut house = House::with(&["cam-1"]).await;
    let (at, other) = (
        house.at.clone(),
        Factory::new("Mallory", sim::now()).unwrap(),
    );
    let serial = SerialNumber::new("SN-cam-1").unwrap();
    let forged = other.idevid(&serial, Flaw::None, sim::now()).unwrap();
    let mut old = house.device("cam-1");
    blocking(move || {
        let forged = Device::new(id("cam-1"), serial, forged);
        let manner = Manner::default();
        assert!(forged.ask_enroll(&at, &manner, Shown::Idevid).is_err());
        old.enroll(&at, &manner).unwrap();
        let manner = Manner {
            tls: Options {
                versions: Versions::Only12,
                ..Options::default()
            },
            ..Manner::default()
        };
        assert!(old.try_connect(&at, &manner, Shown::Ldevid).is_err());
    })
    .await;
    let loopback = Subject::Address([127, 0, 0, 1].into());
    let unknown = house
        .wait_seen("the forged identity", |seen| {
            is_failure(&seen.feature, "unknown-issuer")
        })
        .await;
    let old = house
        .wait_seen(
            "the old client",
            |seen| matches!(&seen.feature, Feature::ProtocolTooOld { door, .. } if door == "mqtt"),
        )
        .await;
    for seen in [unknown, old] {
        assert_eq!(
            (seen.subject, seen.attribution),
            (loopback.clone(), Attribution::Address)
        );
    }
    // Nor does a wrong link say who tried it.
    let asking = sign_in::Asking {
        from: Some([192, 0, 2, 7].into()),
        before: None,
    };
    let guessed = sign_in::link::sign_in(&house.plane, "guess", &asking).await;
    assert!(guessed.is_err());
    let seen = house
        .wait_seen("the guess", |seen| {
            matches!(seen.feature, Feature::SignIn { accepted: false })
        })
        .await;
    assert_eq!(seen.subject, Subject::Address([192, 0, 2, 7].into()));
    assert_eq!(seen.attribution, Attribution::Address);
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_tells_who_it_is_and_what_it_may_not() {
    let mut house = House::with(&["cam-1", "cam-2"]).await;
    let mut camera = house.connected("cam-1").await;
    let at = house.at.clone();
    let camera = blocking(move || {
        let session = camera.session().unwrap();
        session.publish("v1/cam-1/up", b"12345").unwrap();
        assert!(session.publish("v1/cam-2/up", b"x").is_err());
        // With a certificate that must be renewed otherwise.
        let manner = Manner::default();
        assert!(camera.ask_enroll(&at, &manner, Shown::Ldevid).is_err());
        camera
    })
    .await;
    let of_camera = |seen: &Observation| seen.subject == Subject::Device(id("cam-1"));
    let proven = |is_it: IsIt| {
        move |seen: &Observation| {
            of_camera(seen) && seen.attribution == Attribution::Proven && is_it(&seen.feature)
        }
    };
    let told: [(&str, IsIt); 5] = [
        ("TLS", |feature| {
            matches!(feature, Feature::TlsSession { version, group: Some(group), door }
                if version == "TLSv1_3" && group == "X25519MLKEM768" && door == "mqtt")
        }),
        (
            "opening",
            |feature| matches!(feature, Feature::SessionOpened { address, .. } if address.is_loopback()),
        ),
        ("metering", |feature| {
            matches!(
                feature,
                Feature::Messages {
                    count: 1,
                    bytes: 5,
                    denied: 1,
                    ..
                }
            )
        }),
        ("denial", |feature| {
            matches!(feature, Feature::Denied { action, target, reason }
                if action == "publish" && target == "v1/cam-2/up" && reason == "no-permit")
        }),
        ("EST's refusal", |feature| {
            matches!(feature, Feature::Denied { action, reason, .. }
                if action == "est" && reason == "enroll-needs-idevid")
        }),
    ];
    for (what, is_it) in told {
        house.wait_seen(what, proven(is_it)).await;
    }
    let camera_is = Principal::Device(id("cam-1"));
    house
        .wait_told(
            "connecting",
            |told| matches!(told, Told::Connected { principal, .. } if *principal == camera_is),
        )
        .await;
    drop(camera);
    house
        .wait_told("leaving", |told| {
            matches!(told, Told::Disconnected { principal, lost: true, .. }
                if *principal == camera_is)
        })
        .await;
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantined_device_talks_to_the_plane_alone_until_it_is_restored() {
    let mut house = House::with(&["cam-1"]).await;
    let mut camera = house.connected("cam-1").await;
    assert_eq!(house.contain("cam-1", Containment::Quarantined).await, 1);
    let (report, told) = (report_topic(&id("cam-1")), containment_topic(&id("cam-1")));
    let topic = told.clone();
    let mut camera = blocking(move || {
        let session = camera.session().unwrap();
        let refused = session.publish("v1/cam-1/up", b"x").unwrap_err();
        assert!(refused.to_string().contains("contained"), "{refused}");
        assert!(
            session
                .subscribe_one("v1/cam-1/down", Qos::AtLeastOnce)
                .is_err()
        );
        session.publish(&report, b"{}").unwrap();
        session.subscribe_one(&topic, Qos::AtLeastOnce).unwrap();
        camera
    })
    .await;
    let is_report = |told: &Told| matches!(told, Told::Report { .. });
    let reported = house.wait_told("the report", is_report).await;
    assert!(matches!(reported, Told::Report { device, payload, .. }
        if device == id("cam-1") && payload == b"{}"));
    let word = b"{\"containment\":\"quarantined\"}".to_vec();
    let shards = house.plane.shards();
    assert_eq!(
        shards.tell_device(&id("cam-1"), &told, word.clone()).await,
        1
    );
    assert_eq!(
        shards
            .tell_device(&id("cam-1"), "v1/cam-1/down", word.clone())
            .await,
        0
    );
    // Another fleet, another session, another certificate: it stays where it is.
    house.apply("again").await;
    let at = house.at.clone();
    let mut camera = blocking(move || {
        let session = camera.session().unwrap();
        let heard = session.next_delivery(Instant::now() + PATIENCE).unwrap();
        assert_eq!(heard.map(|heard| heard.payload), Some(word));
        assert!(session.publish("v1/cam-1/up", b"x").is_err());
        camera.reenroll(&at, &Manner::default(), true).unwrap();
        camera.connect(&at, &Manner::default()).unwrap();
        assert!(
            camera
                .session()
                .unwrap()
                .publish("v1/cam-1/up", b"x")
                .is_err()
        );
        camera
    })
    .await;
    assert_eq!(house.restore("cam-1").await, 1);
    blocking(move || {
        camera
            .session()
            .unwrap()
            .publish("v1/cam-1/up", b"x")
            .unwrap()
    })
    .await;
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_isolated_device_comes_in_by_no_door() {
    let mut house = House::with(&["cam-1", "cam-2"]).await;
    let mut camera = house.connected("cam-1").await;
    let mut neighbour = house.connected("cam-2").await;
    assert_eq!(house.contain("cam-1", Containment::Isolated).await, 1);
    let at = house.at.clone();
    let camera = blocking(move || {
        let session = camera.session().unwrap();
        let ended = session.next(Instant::now() + PATIENCE).unwrap_err();
        assert!(ended.is_by_server(), "{ended}");
        let back = camera.try_return(&at, &Manner::default());
        assert!(
            back.reconnect_refused() && back.reenroll_refused(),
            "{back:?}"
        );
        neighbour
            .session()
            .unwrap()
            .publish("v1/cam-2/up", b"x")
            .unwrap();
        camera
    })
    .await;
    let seen = house
        .wait_seen("its return", |seen| {
            is_failure(&seen.feature, "device-isolated")
        })
        .await;
    // It proved its key, so this is truly its doing.
    assert_eq!(seen.subject, Subject::Device(id("cam-1")));
    assert_eq!(seen.attribution, Attribution::Proven);
    assert_eq!(house.restore("cam-1").await, 0);
    let at = house.at.clone();
    blocking(move || {
        let manner = Manner::default();
        camera.try_connect(&at, &manner, Shown::Ldevid).unwrap();
    })
    .await;
    house.end().await;
}
