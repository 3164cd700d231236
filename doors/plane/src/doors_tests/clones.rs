//! A key that was copied: who is told of, and who is left alone.

use super::{House, PATIENCE, blocking, id};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use detection::Feature;
use model::{Attribution, Subject};
use sim::credential::request_pem;
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
