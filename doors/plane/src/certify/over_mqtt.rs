//! Certificate requests that come over MQTT, for devices too small for a second protocol: asked on
//! one topic of the device's own, answered on another.
//!
//! The session proves the certificate that is to be renewed, as the handshake does at EST, and the
//! rest is the same: the same checks, the same entry in the log, the same answer when it is asked
//! again.

use crate::certify::claiming;
use crate::certify::enrolling::{self, Enrolled, Way};
use crate::flow;
use crate::judge::signals::Told;
use crate::plane::{Plane, digest};
use crate::trouble::Trouble;
use detection::Feature;
use identity::est::{self, BodyRefusal};
use identity::{CertificateRequest, Door, Operation, Presented, Refusal};
use model::{Attribution, CertificateId, DeviceId, Principal, Timestamp};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Requests that wait for their turn; whoever comes then is told to come again.
const REQUESTS_MAX: usize = 256;

/// A request as a shard took it.
#[derive(Debug, Clone)]
pub struct Request {
    pub device: DeviceId,
    /// Of the session.
    pub certificate: CertificateId,
    /// One request, PEM or DER; untrusted.
    pub payload: Vec<u8>,
    pub at: Timestamp,
}

/// What devices ask over MQTT.
#[derive(Debug)]
pub enum Asked {
    /// By its own certificate.
    Renewal(Request),
    /// By a claim certificate.
    Claim(claiming::Question),
}

/// Where the shards put it.
pub type Requests = mpsc::Sender<Asked>;
/// Where it is taken from.
pub type Asking = mpsc::Receiver<Asked>;

#[must_use]
pub fn queue() -> (Requests, Asking) {
    mpsc::channel(REQUESTS_MAX)
}

/// What the device is told: its certificate in PEM, or why not in JSON, with the digest of what it
/// sent.
pub fn refused(payload: &[u8], code: &str, detail: &str) -> Vec<u8> {
    serde_json::json!({
        "refused": code,
        "detail": detail,
        "request_sha256": digest(payload).to_string(),
    })
    .to_string()
    .into_bytes()
}

/// What a device is told whose request found no room.
#[must_use]
pub fn busy(payload: &[u8]) -> Vec<u8> {
    let detail = "too many ask at once; device: ask again in a minute";
    refused(payload, "busy", detail)
}

/// Does what is asked.
pub async fn answer(plane: Arc<Plane>, asked: Asked) {
    match asked {
        Asked::Renewal(request) => renew(plane, request).await,
        Asked::Claim(question) => claiming::answer(plane, question).await,
    }
}

/// Carries a request out and tells the device what became of it.
async fn renew(plane: Arc<Plane>, request: Request) {
    let told = match enroll(&plane, &request).await {
        Ok(Enrolled::Issued(der)) => est::pem(&[&der]).into_bytes(),
        // Only a factory identity's enrollment waits for a person.
        Ok(Enrolled::Waits { .. }) => refused(&request.payload, "fault", "please report this"),
        Err(trouble) => {
            let problem = crate::api::Problem::from(trouble);
            let (code, detail) = (problem.body.code, problem.body.detail.as_str());
            tracing::warn!(
                target: "devices",
                "device/{}: refused {code}: {detail} (it asked over MQTT) [{} must act]",
                request.device,
                problem.body.who_must_act.unwrap_or("device")
            );
            plane.signals.tell(Told::seen(
                Principal::Device(request.device.clone()),
                Attribution::Proven,
                Feature::Denied {
                    action: "enroll".to_owned(),
                    target: String::new(),
                    reason: code.to_owned(),
                },
                request.at,
            ));
            refused(&request.payload, code, detail)
        }
    };
    let topic = access::certificate_topic(&request.device);
    plane
        .shards()
        .tell_device(&request.device, &topic, told)
        .await;
}

async fn enroll(plane: &Arc<Plane>, asked: &Request) -> Result<Enrolled, Trouble> {
    let presented = presented(plane, asked)?;
    let der = read(&asked.payload)?;
    let request = CertificateRequest::parse(&der)?;
    let asked = enrolling::Asked {
        presented: &presented,
        way: Way::Est(Operation::SimpleReenroll),
        from: None,
        request: &request,
        label: None,
        generated: None,
    };
    flow::enroll(plane, &asked).await
}

/// The certificate that the session proved, read from the record.
fn presented(plane: &Plane, asked: &Request) -> Result<Presented, Trouble> {
    let unrecorded = || Refusal::UnrecordedCertificate {
        certificate: asked.certificate,
    };
    let row = plane.store.certificate(&asked.certificate)?;
    let der = row.ok_or_else(unrecorded)?.certificate.der;
    let anchors = plane.trust().anchors.get();
    let path = anchors
        .verify_path(Door::Gateway, &der, &[], asked.at)
        .map_err(Refusal::from)?;
    let presented = anchors.presented(&path, &der)?;
    let whose = plane.trust().registry().named_by(&presented);
    if whose != Some(Principal::Device(asked.device.clone())) {
        return Err(unrecorded().into());
    }
    Ok(presented)
}

fn read(payload: &[u8]) -> Result<Vec<u8>, BodyRefusal> {
    if payload.starts_with(b"-----BEGIN") {
        return est::request_in_pem(payload);
    }
    // Bare DER is no exception here: nothing has to pass as text.
    est::decode_body(None, payload).map(|body| body.der)
}
