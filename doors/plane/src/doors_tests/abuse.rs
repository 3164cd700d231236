//! The API at the door for devices and services: what is refused there is told, and who calls too
//! often waits.

use super::{House, PATIENCE, blocking, id};
use crate::entries::Actor;
use crate::flow;
use access::SourceFile;
use detection::{Feature, Observation};
use identity::CertificateRequest;
use model::{Attribution, ServiceId, Subject};
use sim::Credential;
use sim::credential::{Key, Presented};
use sim::tls::{Client, Options};
use std::time::Instant;

const PATH: &str = "/api/v1/detection/baselines";

impl House {
    /// A fleet with this service only, and a certificate of it.
    async fn service(&self, name: &ServiceId) -> Presented {
        let files = [
            ("fleet.toml", "name = \"test\"\n".to_owned()),
            ("products/p.toml", "[camera]\n".to_owned()),
            ("services/s.toml", format!("[{name}]\n")),
        ]
        .map(|(path, text)| SourceFile {
            path: path.to_owned(),
            text,
        });
        flow::apply(&self.plane, files.into(), None, &Actor::Plane)
            .await
            .unwrap();
        let key = Key::generate().unwrap();
        let pem = sim::credential::request_pem(&key, name.as_str()).unwrap();
        let der = crate::pem::decode(&pem, &["CERTIFICATE REQUEST"]).unwrap();
        let request = CertificateRequest::parse(&der).unwrap();
        let issued = flow::issue_to_service(&self.plane, name, &request, &Actor::Plane)
            .await
            .unwrap();
        Credential::new(vec![issued.der], key).unwrap().presented()
    }

    /// The first line of the answer.
    async fn ask(&self, shown: &Presented) -> String {
        let (at, shown) = (self.at.est.clone(), shown.clone());
        blocking(move || {
            let client = Client::new(&at, Some(&shown), &Options::default()).unwrap();
            let deadline = Instant::now() + PATIENCE;
            let mut transport = client.connect(PATIENCE).unwrap();
            let request =
                format!("GET {PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            transport.write(request.as_bytes(), deadline).unwrap();
            let mut received = Vec::new();
            while !received.contains(&b'\n') {
                transport.read(&mut received, deadline).unwrap();
            }
            let text = String::from_utf8_lossy(&received).into_owned();
            text.lines().next().unwrap().to_owned()
        })
        .await
    }

    async fn wait_denied(&mut self, why: &str) -> Observation {
        self.wait_seen(why, |seen| {
            matches!(&seen.feature, Feature::Denied { action, target, reason }
                if action == "api" && target == PATH && reason == why)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_refuses_to_a_device_is_told_as_proven() {
    let mut house = House::with(&["cam-1"]).await;
    let device = house.connected("cam-1").await;
    let shown = device.ldevid().unwrap().presented();
    let said = house.ask(&shown).await;
    assert!(said.contains(" 403 "), "{said}");
    let seen = house.wait_denied("forbidden").await;
    let device = Subject::Device(id("cam-1"));
    assert_eq!(
        (seen.subject, seen.attribution),
        (device, Attribution::Proven)
    );
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_calls_too_often_waits_and_is_told() {
    let mut house = House::with(&["cam-1"]).await;
    let name: ServiceId = "ingest".parse().unwrap();
    let shown = house.service(&name).await;
    let said = house.ask(&shown).await;
    assert!(!said.contains(" 429 "), "{said}");
    let subject = Subject::Service(name);
    house.plane.askers.use_up_reads(&subject);
    let said = house.ask(&shown).await;
    assert!(said.contains(" 429 "), "{said}");
    let seen = house.wait_denied("rate-exceeded").await;
    assert_eq!(
        (seen.subject, seen.attribution),
        (subject, Attribution::Proven)
    );
    house.end().await;
}
