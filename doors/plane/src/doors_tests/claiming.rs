//! A certificate that a claim certificate made and that nobody owned in time.

use super::*;
use crate::certify::claiming::{self, NewClaim};
use crate::certify::over_mqtt;
use model::Revocable;

const CREATE: &str = "$aws/certificates/create-from-csr/json";

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_owns_in_time_is_revoked_and_its_token_is_worth_nothing() {
    let house = House::with(&["cam-1"]).await;
    let batch = Factory::new("batch 17", sim::now()).unwrap();
    let serial = SerialNumber::new("none").unwrap();
    let claim = batch.idevid(&serial, Flaw::None, sim::now()).unwrap();
    let new = NewClaim {
        claim: "batch-17".parse().unwrap(),
        certificate_pem: sim::credential::pem("CERTIFICATE", claim.certificate()),
        manufacturer: "acme".parse().unwrap(),
        product: "camera".parse().unwrap(),
        template: None,
        addresses: vec!["127.0.0.0/8".parse().unwrap()],
        devices_max: 1,
        lifetime: Duration::from_secs(86_400),
    };
    claiming::add(&house.plane, new, &Actor::Plane)
        .await
        .unwrap();
    // As the task does that is not running here.
    let mut asking = house.plane.asking.lock().take().unwrap();
    let answering = async {
        let asked = asking.recv().await.unwrap();
        over_mqtt::answer(Arc::clone(&house.plane), asked).await;
    };
    let at = house.at.clone();
    let asking = blocking(move || {
        let options = Options::default();
        let client = Client::new(&at.mqtt, Some(&claim.presented()), &options).unwrap();
        let connect = Connect::new(Version::V311, "whatever");
        let mut session = Session::open(&client, &connect, PATIENCE).unwrap();
        for end in ["accepted", "rejected"] {
            let topic = format!("{CREATE}/{end}");
            session.subscribe_one(&topic, Qos::AtMostOnce).unwrap();
        }
        let request = sim::credential::request_pem(&Key::generate().unwrap(), "SN-cam-1").unwrap();
        let payload = serde_json::json!({ "certificateSigningRequest": request });
        session
            .publish(CREATE, payload.to_string().as_bytes())
            .unwrap();
        let answer = session.next_delivery(Instant::now() + PATIENCE).unwrap();
        answer.unwrap()
    });
    let (created, ()) = tokio::join!(asking, answering);
    assert_eq!(created.topic, format!("{CREATE}/accepted"));
    let created: serde_json::Value = serde_json::from_slice(&created.payload).unwrap();
    let token = created["certificateOwnershipToken"].as_str().unwrap();
    let token = identity::claim_certificate::token_hash(token);
    let row = house.plane.store.reservation(&token).unwrap().unwrap();
    let what = Revocable::Certificate(row.certificate);
    let stands = |house: &House| {
        let revocation = house.plane.trust().registry().revocation(&what);
        revocation.unwrap().reason.name()
    };
    assert_eq!(
        claiming::lapse(&house.plane, row.expires_at).await.unwrap(),
        0
    );
    assert_eq!(stands(&house), "certificate-hold");
    let late = row.expires_at.plus(Duration::from_millis(1));
    assert_eq!(claiming::lapse(&house.plane, late).await.unwrap(), 1);
    assert_eq!(stands(&house), "cessation-of-operation");
    assert_eq!(house.plane.store.reservation(&token).unwrap(), None);
    assert_eq!(claiming::lapse(&house.plane, late).await.unwrap(), 0);
    // The device may still have its first certificate by any way in.
    let mut device = house.device("cam-1");
    let at = house.at.clone();
    blocking(move || device.enroll(&at, &Manner::default()).unwrap()).await;
    house.end().await;
}
