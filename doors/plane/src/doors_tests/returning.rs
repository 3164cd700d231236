//! A certificate that has ended, at every door: it opens the one place for those who return, within
//! its product's grace, and nothing else.

use super::{House, PATIENCE, blocking, id, is_failure};
use crate::clock;
use crate::entries::Actor;
use crate::flow;
use crate::plane::random;
use crate::withdrawing::Revoking;
use access::SourceFile;
use identity::{Fact, profile};
use model::{Principal, Revocable, RevocationReason};
use signer::Purpose;
use sim::credential::Key;
use sim::device::{Manner, Shown};
use sim::tls::{Client, Options};
use sim::{Credential, Device, Refusal};
use std::time::{Duration, Instant};
use store::{Change, Direction, Holder, Write};

impl House {
    async fn grace(&self, products: &str) {
        let files = [
            ("fleet.toml", "name = \"test\"\n"),
            ("products/p.toml", products),
        ];
        let files = files.map(|(path, text)| SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        });
        flow::apply(&self.plane, files.into(), None, &Actor::Plane)
            .await
            .unwrap();
    }

    /// A device with a certificate of ours that ended a few minutes ago, on record like any other.
    async fn ended(&self, name: &str) -> Device {
        let (plane, key) = (&self.plane, Key::generate().unwrap());
        // Our CA began ten minutes ago, and nothing begins before it.
        let terms = profile::Terms {
            public_key: &key.public_key_info().unwrap(),
            serial_random: random().unwrap(),
            now: clock::now().minus(Duration::from_secs(540)),
            lifetime: Duration::from_secs(60),
        };
        let tree = plane.tree();
        let issuer = &tree.for_device(None).unwrap().issuer;
        let unsigned = profile::ldevid(plane.realm(), &id(name), None, issuer, &terms).unwrap();
        let signature = plane
            .sign(Purpose::DeviceCertificate, unsigned.to_be_signed())
            .unwrap();
        let (certificate, not_after) = (unsigned.certificate(), unsigned.not_after());
        let row = store::Certificate {
            id: certificate,
            holder: Holder::Device(id(name)),
            not_before: unsigned.not_before(),
            not_after,
            key: None,
            key_kind: None,
            der: unsigned.assemble(&signature).unwrap(),
        };
        let mut device = self.device(name);
        let known = store::Device {
            id: id(name),
            product: "camera".parse().unwrap(),
            groups: Vec::new(),
            manufacturer: "acme".parse().unwrap(),
            serial: device.serial().clone(),
            enrolled_at: row.not_before,
        };
        let change = Change::new(Direction::Grant)
            .write(Write::PutDevice(known))
            .write(Write::PutCertificate(row.clone()));
        plane.commit(change).await.unwrap();
        let principal = Principal::Device(id(name));
        let fact = Fact::CertificateIssued {
            principal,
            certificate,
            key: crate::plane::digest(&key.public_key_info().unwrap()),
            not_after,
        };
        plane.learn(&fact).unwrap();
        device.adopt(Credential::new(vec![row.der], key).unwrap());
        device
    }

    async fn at_est<T: Send + 'static>(
        &self,
        device: &Device,
        ask: impl FnOnce(&Client, &Credential) -> T + Send + 'static,
    ) -> T {
        let (at, shown) = (self.at.est.clone(), device.ldevid().unwrap().clone());
        blocking(move || {
            let client = Client::new(&at, Some(&shown.presented()), &Options::default()).unwrap();
            ask(&client, &shown)
        })
        .await
    }

    async fn returns(&self, device: &Device) -> Result<Credential, Refusal> {
        self.at_est(device, |client, shown| {
            sim::est::return_after_end(client, shown, PATIENCE)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_certificate_opens_one_place_and_nothing_else() {
    let mut house = House::with(&["cam-1"]).await;
    let device = house.ended("cam-1").await;
    // Without grace it is not even let through the handshake.
    assert!(house.returns(&device).await.is_err());
    house
        .wait_seen("the end", |seen| {
            is_failure(&seen.feature, "certificate-expired")
        })
        .await;
    house.told.clear();

    house.grace("[camera]\nrenewal_grace_days = 10\n").await;
    let refused = house
        .at_est(&device, |client, shown| {
            sim::est::simplereenroll(client, shown, true, PATIENCE).unwrap_err()
        })
        .await;
    assert!(
        matches!(refused, Refusal::Http { status: 403, .. }),
        "{refused}"
    );
    // What services and people may ask for is not for it.
    for path in [
        "/metrics",
        "/api/v1/detection/baselines",
        "/api/v1/audit/entries",
        "/log/checkpoint",
    ] {
        let line = house
            .at_est(&device, move |client, _| first_line(client, path))
            .await;
        let is_refused = line.contains(" 401 ") || line.contains(" 403 ");
        assert!(is_refused, "{path}: {line}");
    }
    let (at, asks) = (house.at.clone(), device);
    let device = blocking(move || {
        assert!(
            asks.try_connect(&at, &Manner::default(), Shown::Ldevid)
                .is_err()
        );
        asks
    })
    .await;
    house
        .wait_seen("the end at MQTT", |seen| {
            is_failure(&seen.feature, "certificate-expired")
        })
        .await;

    // Where it may ask, it gets the next one, which opens everything again.
    let next = house.returns(&device).await.unwrap();
    let mut device = device;
    device.adopt(next);
    let at = house.at.clone();
    blocking(move || device.connect(&at, &Manner::default()).unwrap()).await;
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_another_products_grace_and_a_revoked_certificate_help_nobody_back() {
    let mut house = House::with(&["cam-1", "cam-2"]).await;
    // The handshake goes by the longest grace of all, the certificate by its product's.
    house
        .grace("[camera]\n[lock]\nrenewal_grace_days = 10\n")
        .await;
    let device = house.ended("cam-1").await;
    let refused = house.returns(&device).await.unwrap_err();
    assert!(
        matches!(refused, Refusal::Http { status: 403, .. }),
        "{refused}"
    );

    house.grace("[camera]\nrenewal_grace_days = 10\n").await;
    let stolen = house.ended("cam-2").await;
    let row = &house
        .plane
        .store
        .certificates_of(&Principal::Device(id("cam-2")))
        .unwrap()[0];
    let what = Revoking::one(
        Revocable::Certificate(row.certificate.id),
        RevocationReason::KeyCompromise,
    );
    flow::revoke(&house.plane, &what, &Actor::Plane)
        .await
        .unwrap();
    assert!(house.returns(&stolen).await.is_err());
    house
        .wait_seen("the revocation", |seen| {
            is_failure(&seen.feature, "certificate-revoked")
        })
        .await;
    assert!(house.returns(&device).await.is_ok());
    house.end().await;
}

fn first_line(client: &Client, path: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    let mut transport = client.connect(PATIENCE).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    transport.write(request.as_bytes(), deadline).unwrap();
    let mut received = Vec::new();
    while !received.contains(&b'\n') {
        transport.read(&mut received, deadline).unwrap();
    }
    let text = String::from_utf8_lossy(&received).into_owned();
    text.lines().next().unwrap().to_owned()
}
