//! A key that was copied: who is told of, and who is left alone.

use super::{House, PATIENCE, blocking, id};
use crate::certify::bad_keys;
use crate::entries::Actor;
use crate::flow;
use access::SourceFile;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use detection::Feature;
use identity::{CertificateRequest, Fact, public_key_digest};
use model::{Attribution, Subject};
use sim::credential::request_pem;
use sim::device::Manner;
use sim::est;
use sim::tls::{Client, Options};

/// Whoever asks proved its factory identity and, by the request's signature, the copied key. So
/// it is told of; the device whose key it is did nothing, and nothing is told of it: nobody makes
/// us contain a victim by showing its key.
#[tokio::test(flavor = "multi_thread")]
async fn attack_a_victims_key_in_a_second_device() {
    let mut house = House::with(&["cam-1", "cam-2"]).await;
    let victim = house.connected("cam-1").await;
    let second = house.device("cam-2");
    let copied = victim.ldevid().unwrap().key();
    let pem = request_pem(copied, "cam-2").unwrap();
    let request = crate::pem::decode(&pem, &["CERTIFICATE REQUEST"]).unwrap();
    let (at, shown) = (house.at.est.clone(), second.idevid().presented());
    let refused = blocking(move || {
        let client = Client::new(&at, Some(&shown), &Options::default()).unwrap();
        let body = STANDARD.encode(request);
        let media_type = "application/pkcs10";
        est::post(
            &client,
            "simpleenroll",
            media_type,
            body.as_bytes(),
            PATIENCE,
        )
    })
    .await;
    assert!(refused.is_err(), "one key was certified for two devices");
    let seen = house
        .wait_seen("the copied key", |seen| {
            matches!(&seen.feature, Feature::Denied { reason, .. } if reason == "request-key-of-another")
        })
        .await;
    assert_eq!(seen.subject, Subject::Device(id("cam-2")));
    assert_eq!(seen.attribution, Attribution::Proven);
    let told = house.proven_of("cam-1");
    let is_harmless = |feature: &&Feature| {
        !matches!(
            feature,
            Feature::Denied { .. } | Feature::HandshakeFailed { .. }
        )
    };
    assert!(told.iter().all(is_harmless), "{told:?}");
    house.is_in(victim).await;
    house.end().await;
}

fn request_of(key: &sim::credential::Key, name: &str) -> CertificateRequest {
    let pem = request_pem(key, name).unwrap();
    let der = crate::pem::decode(&pem, &["CERTIFICATE REQUEST"]).unwrap();
    CertificateRequest::parse(&der).unwrap()
}

/// A back end that got hold of a device's key does not become a service by it.
#[tokio::test(flavor = "multi_thread")]
async fn attack_a_devices_key_in_a_service() {
    let house = House::with(&["cam-1"]).await;
    let victim = house.connected("cam-1").await;
    let files = [
        ("fleet.toml", "name = \"test\"\n"),
        ("products/p.toml", "[camera]\n"),
        ("services/s.toml", "[ingest]\n"),
    ];
    let files = files.map(|(path, text)| SourceFile {
        path: path.to_owned(),
        text: text.to_owned(),
    });
    flow::apply(&house.plane, files.into(), None, &Actor::Plane)
        .await
        .unwrap();
    let ingest = "ingest".parse().unwrap();
    let request = request_of(victim.ldevid().unwrap().key(), "ingest");
    let issued = flow::issue_to_service(&house.plane, &ingest, &request, &Actor::Plane).await;
    let refused = issued.err().unwrap().to_string();
    assert!(
        refused.contains("is the key of device/cam-1 already"),
        "{refused}"
    );
    house.is_in(victim).await;
    house.end().await;
}

/// The factory gave two devices one key. Whoever comes second is told; the first goes on.
#[tokio::test(flavor = "multi_thread")]
async fn attack_a_factory_key_in_two_devices() {
    let mut house = House::with(&["cam-1", "cam-2"]).await;
    let first = house.connected("cam-1").await;
    let mut kept = Vec::new();
    let store = &house.plane.store;
    store
        .for_each_shown_key(|device, key| kept.push((device, key)))
        .unwrap();
    let own = public_key_digest(first.idevid().certificate()).unwrap();
    assert_eq!(kept, [(id("cam-1"), own)]);
    // As if the first had come by the key that the second has.
    let mut second = house.device("cam-2");
    let key = public_key_digest(second.idevid().certificate()).unwrap();
    let device = id("cam-1");
    house.plane.learn(&Fact::KeyShown { device, key }).unwrap();
    let at = house.at.clone();
    blocking(move || assert!(second.enroll(&at, &Manner::default()).is_err())).await;
    let seen = house
        .wait_seen("the copied factory key", |seen| {
            matches!(&seen.feature, Feature::Denied { reason, .. } if reason == "idevid-key-of-another")
        })
        .await;
    assert_eq!(seen.subject, Subject::Device(id("cam-2")));
    house.is_in(first).await;
    house.end().await;
}

/// Whoever has a device's key makes certificates in store: it comes to an end, is seen, and nobody
/// else waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn attack_a_burst_of_certificates_in_one_name() {
    let more = "certificates_per_hour = 3\n";
    let mut house = House::with_config(&["cam-1", "cam-2"], more).await;
    let mut thief = house.connected("cam-1").await;
    let at = house.at.clone();
    let refused = blocking(move || {
        let manner = Manner::default();
        for _ in 0..2 {
            thief.reenroll(&at, &manner, true).unwrap();
        }
        thief.reenroll(&at, &manner, true).unwrap_err().to_string()
    })
    .await;
    assert!(refused.contains("429"), "{refused}");
    let seen = house
        .wait_seen("the burst", |seen| {
            matches!(&seen.feature, Feature::Denied { reason, .. } if reason == "issuance-burst")
        })
        .await;
    assert_eq!(seen.subject, Subject::Device(id("cam-1")));
    assert_eq!(seen.attribution, Attribution::Proven);
    let other = house.connected("cam-2").await;
    house.is_in(other).await;
    house.end().await;
}

/// A key that has been published: whoever shows it is let in, as that is what a person must decide,
/// but proves nothing; and nothing is certified for it. A list that cannot be read changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn attack_a_victims_key_on_a_list_of_leaked_ones() {
    let scratch = tempfile::tempdir().unwrap();
    let list = scratch.path().join("known");
    std::fs::write(&list, "# none yet\n").unwrap();
    let more = format!("known_bad_keys_file = {list:?}\n");
    let mut house = House::with_config(&["cam-1", "cam-2"], &more).await;
    let victim = house.connected("cam-1").await;
    let key = public_key_digest(victim.ldevid().unwrap().certificate()).unwrap();
    std::fs::write(&list, format!("{key} leaked in an image\n")).unwrap();
    assert_eq!(bad_keys::read_again(&house.plane).await.unwrap(), 1);
    std::fs::write(&list, "no digest\n").unwrap();
    let unread = bad_keys::read_again(&house.plane).await.unwrap_err();
    assert!(unread.to_string().contains("line 1"), "{unread}");

    house.told.clear();
    let mut victim = house.is_in(victim).await;
    let known = |feature: &Feature| matches!(feature, Feature::KnownKey { flaw, .. } if flaw == "published");
    let seen = house
        .wait_seen("the leaked key at MQTT", |seen| known(&seen.feature))
        .await;
    assert_eq!(seen.subject, Subject::Device(id("cam-1")));
    assert_eq!(seen.attribution, Attribution::Claimed);
    let at = house.at.clone();
    let renewed = blocking(move || {
        let manner = Manner::default();
        // The same key is certified no more; another one is.
        assert!(victim.reenroll(&at, &manner, false).is_err());
        victim.reenroll(&at, &manner, true).unwrap();
        victim
    })
    .await;
    house
        .wait_seen("the refusal", |seen| {
            matches!(&seen.feature, Feature::Denied { reason, .. } if reason == "request-key-known")
        })
        .await;
    house.told.clear();
    let renewed = house.is_in(renewed).await;
    let other = house.connected("cam-2").await;
    house
        .wait_seen("cam-2 at MQTT", |seen| {
            seen.subject == Subject::Device(id("cam-2"))
                && matches!(seen.feature, Feature::SessionOpened { .. })
        })
        .await;
    let still = house.told.iter().any(|told| match told {
        crate::judge::signals::Told::Observation(seen) => known(&seen.feature),
        _ => false,
    });
    assert!(!still, "{:?}", house.told);
    drop((renewed, other));
    house.end().await;
}

/// Where a door saw whom is told with the address, so that two places at once can be told apart.
#[tokio::test(flavor = "multi_thread")]
async fn each_door_tells_from_where_it_was_opened() {
    let mut house = House::with(&["cam-1"]).await;
    let device = house.connected("cam-1").await;
    let seen = house
        .wait_seen("the door for devices", |seen| {
            matches!(&seen.feature, Feature::DoorOpened { door, address }
                if door == "devices" && address.is_loopback())
        })
        .await;
    assert_eq!(seen.subject, Subject::Device(id("cam-1")));
    drop(device);
    house.end().await;
}
