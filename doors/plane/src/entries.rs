//! What the log says of each act. One function an act, so that the log's words stand in one place.
//!
//! No personal data and no secret: a leaf can never be changed, and whoever verifies reads all.

mod claimed;
mod commanded;
mod contained;
mod owned;
mod people;

pub use claimed::*;
pub use commanded::*;
pub use contained::*;
pub use owned::*;
pub use people::*;

use crate::plane::digest;
use crate::served::record::Told;
use crate::withdrawing::{Releasing, Standing};
use model::{
    ApiTokenId, AuthorityId, CertificateId, CertificateUses, Containment, DeviceId, Digest,
    IncidentId, PasskeyId, PersonId, Principal, Revocable, RevocationReason, Timestamp,
};
use std::collections::BTreeMap;
use std::fmt;

/// Who asked for an act at a door for people or services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// A user of this machine at the local socket.
    Local {
        uid: u32,
    },
    /// Somebody who signed in.
    Person(PersonId),
    /// A program that showed a token of the API.
    Token(ApiTokenId),
    Service(model::ServiceId),
    /// A planned response, by its name.
    Playbook(String),
    /// This program, on its own.
    Plane,
}

impl Actor {
    /// Whom the responder names: a playbook as `playbook/<name>`, else a person as the log does.
    #[must_use]
    pub fn named(by: &str) -> Self {
        match by.split_once('/') {
            Some(("playbook", name)) => Self::Playbook(name.to_owned()),
            Some(("person", id)) => id.parse().map_or(Self::Plane, Self::Person),
            Some(("token", id)) => id.parse().map_or(Self::Plane, Self::Token),
            Some(("service", id)) => id.parse().map_or(Self::Plane, Self::Service),
            Some(("local", user)) => (user.strip_prefix("uid-"))
                .and_then(|uid| uid.parse().ok())
                .map_or(Self::Plane, |uid| Self::Local { uid }),
            _ => Self::Plane,
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { uid } => write!(f, "local/uid-{uid}"),
            Self::Person(id) => write!(f, "person/{id}"),
            Self::Token(id) => write!(f, "token/{id}"),
            Self::Service(id) => write!(f, "service/{id}"),
            Self::Playbook(name) => write!(f, "playbook/{name}"),
            Self::Plane => f.write_str("plane"),
        }
    }
}

/// An act, before it is written as a leaf.
#[derive(Debug)]
pub struct Act {
    pub time: Timestamp,
    pub actor: String,
    pub action: &'static str,
    pub object: String,
    pub details: BTreeMap<String, String>,
}

impl Act {
    fn new(
        time: Timestamp,
        actor: impl fmt::Display,
        action: &'static str,
        object: impl fmt::Display,
    ) -> Self {
        Self {
            time,
            actor: actor.to_string(),
            action,
            object: object.to_string(),
            details: BTreeMap::new(),
        }
    }

    fn with_incident(self, incident: Option<IncidentId>) -> Self {
        match incident {
            Some(incident) => self.with(INCIDENT, incident),
            None => self,
        }
    }

    fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.details.insert(key.to_owned(), value.to_string());
        self
    }
}

#[must_use]
pub fn initialised(at: Timestamp, root: Digest, log_key: &str) -> Act {
    Act::new(at, Actor::Plane, "identity.ca-created", "plane")
        .with("root_certificate_sha256", root)
        .with("log_key", log_key)
}

#[must_use]
pub fn server_certified(at: Timestamp, certificate: CertificateId, names: &[String]) -> Act {
    Act::new(
        at,
        Actor::Plane,
        "identity.server-certificate-issued",
        "plane",
    )
    .with("certificate", certificate)
    .with("names", names.join(" "))
}

/// Lists of keys whose private half is known were read again.
#[must_use]
pub fn bad_keys_read(at: Timestamp, keys: usize) -> Act {
    Act::new(at, Actor::Plane, "identity.bad-keys-read", "plane").with("keys", keys)
}

/// A chain of another CA that our doors show from now on.
#[must_use]
pub fn certificate_shown(at: Timestamp, actor: &Actor, shown: &Told) -> Act {
    told_of_shown(at, actor, "identity.server-certificate-shown", shown)
}

#[must_use]
pub fn certificate_no_longer_shown(at: Timestamp, actor: &Actor, shown: &Told) -> Act {
    told_of_shown(
        at,
        actor,
        "identity.server-certificate-no-longer-shown",
        shown,
    )
}

fn told_of_shown(at: Timestamp, actor: &Actor, action: &'static str, shown: &Told) -> Act {
    Act::new(at, actor, action, "plane")
        .with("leaf_sha256", &shown.leaf_sha256)
        .with("source", &shown.source)
        .with("names", shown.names.join(" "))
        .with("doors", shown.doors.join(" "))
        .with("default", shown.default)
        .with("not_after", &shown.not_after)
}

/// An issuing CA has a certificate and serves from now on; one before it of that name retires.
#[must_use]
pub fn authority_certified(
    at: Timestamp,
    actor: &Actor,
    name: &AuthorityId,
    uses: CertificateUses,
    certificate: Digest,
) -> Act {
    let object = format_args!("authority/{name}");
    Act::new(at, actor, "identity.authority-certified", object)
        .with("uses", uses)
        .with("certificate_sha256", certificate)
}

/// It was made elsewhere; its key is here from now on.
#[must_use]
pub fn authority_imported(
    at: Timestamp,
    actor: &Actor,
    name: &AuthorityId,
    uses: CertificateUses,
    certificate: Digest,
) -> Act {
    let object = format_args!("authority/{name}");
    Act::new(at, actor, "identity.authority-imported", object)
        .with("uses", uses)
        .with("certificate_sha256", certificate)
}

/// A CA asks a root that is kept elsewhere for its certificate.
#[must_use]
pub fn authority_requested(
    at: Timestamp,
    actor: &Actor,
    name: &AuthorityId,
    uses: CertificateUses,
    request: Digest,
) -> Act {
    let object = format_args!("authority/{name}");
    Act::new(at, actor, "identity.authority-requested", object)
        .with("uses", uses)
        .with("request_sha256", request)
}

/// The root's key left this machine, in a bundle.
#[must_use]
pub fn root_exported(at: Timestamp, actor: &Actor, bundle: Digest) -> Act {
    Act::new(at, actor, "identity.root-exported", "plane").with("bundle_sha256", bundle)
}

#[must_use]
pub fn root_key_destroyed(at: Timestamp, actor: &Actor, root: Digest) -> Act {
    Act::new(at, actor, "identity.root-key-destroyed", "plane").with(ROOT_SHA256, root)
}

#[must_use]
pub fn root_announced(at: Timestamp, actor: &Actor, root: Digest) -> Act {
    Act::new(at, actor, "identity.root-announced", "plane").with(ROOT_SHA256, root)
}

#[must_use]
pub fn root_rolled_over(
    at: Timestamp,
    actor: &Actor,
    before: Digest,
    root: Digest,
    unlearned: usize,
) -> Act {
    Act::new(at, actor, "identity.root-rolled-over", "plane")
        .with("before_sha256", before)
        .with(ROOT_SHA256, root)
        .with("devices_unlearned", unlearned)
}

/// From here on its links are shown to nobody, and devices that list it forget it.
#[must_use]
pub fn root_retired(at: Timestamp, actor: &Actor, root: Digest, unlearned: usize) -> Act {
    Act::new(at, actor, "identity.root-retired", "plane")
        .with(ROOT_SHA256, root)
        .with("devices_unlearned", unlearned)
}

/// What others are told of a root's issuing CAs.
#[must_use]
pub fn root_list_installed(
    at: Timestamp,
    actor: &Actor,
    root: Digest,
    revoked: usize,
    list: Digest,
) -> Act {
    Act::new(at, actor, "identity.root-list-installed", "plane")
        .with(ROOT_SHA256, root)
        .with("revoked", revoked)
        .with("list_sha256", list)
}

const ROOT_SHA256: &str = "root_certificate_sha256";

/// How the signer's count of one purpose differs from the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Signatures that were made and are on no record.
    pub unrecorded: u64,
    /// Signatures that may have been made: a power cut took the exact number.
    pub in_doubt: u64,
    /// Records beyond all that was counted: the count is an older copy.
    pub uncounted: u64,
}

impl Gap {
    #[must_use]
    pub fn is_none(&self) -> bool {
        (self.unrecorded, self.in_doubt, self.uncounted) == (0, 0, 0)
    }
}

#[must_use]
pub fn signatures_differ(at: Timestamp, name: &AuthorityId, purpose: &str, gap: &Gap) -> Act {
    let object = format_args!("authority/{name}");
    Act::new(at, Actor::Plane, "identity.signatures-differ", object)
        .with("purpose", purpose)
        .with("unrecorded", gap.unrecorded)
        .with("in_doubt", gap.in_doubt)
        .with("uncounted", gap.uncounted)
}

/// The last certificate of a CA that retired has ended, and the CA with it.
#[must_use]
pub fn authority_ended(at: Timestamp, name: &AuthorityId, certificate: Digest) -> Act {
    let object = format_args!("authority/{name}");
    Act::new(at, Actor::Plane, "identity.authority-ended", object)
        .with("certificate_sha256", certificate)
}

#[must_use]
pub fn manufacturer_added(
    at: Timestamp,
    actor: &Actor,
    id: &model::ManufacturerId,
    ca: Digest,
) -> Act {
    Act::new(
        at,
        actor,
        "identity.manufacturer-added",
        format_args!("manufacturer/{id}"),
    )
    .with("ca_sha256", ca)
}

/// A list of what is known of devices besides their identity; it grants nothing.
#[must_use]
pub fn records_imported(at: Timestamp, actor: &Actor, count: usize, list: Digest) -> Act {
    Act::new(at, actor, "inventory.records-imported", "inventory")
        .with("devices", count)
        .with("list_sha256", list)
}

#[must_use]
pub fn devices_expected(
    at: Timestamp,
    actor: &Actor,
    manufacturer: &model::ManufacturerId,
    count: usize,
    list: Digest,
) -> Act {
    Act::new(
        at,
        actor,
        "identity.devices-expected",
        format_args!("manufacturer/{manufacturer}"),
    )
    .with("devices", count)
    .with("list_sha256", list)
}

/// `by`: the certificate that it showed, unless it showed a claim token.
#[must_use]
pub fn enrolled(
    at: Timestamp,
    decision: &identity::EnrollmentDecision,
    by: Option<CertificateId>,
    certificate: CertificateId,
    key_made_here: bool,
) -> Act {
    let principal = Principal::Device(decision.device.clone());
    let mut act = Act::new(at, &principal, "identity.device-enrolled", &principal)
        .with("by", decision.by.name())
        .with("certificate", certificate)
        .with("kind", decision.kind.name());
    if let Some(by) = by {
        act = act.with("by_certificate", by);
    }
    if key_made_here {
        // Worth knowing for ever: this key was not born in the device.
        act = act.with("key", "made-by-plane");
    }
    act
}

#[must_use]
pub fn fleet_imported(at: Timestamp, actor: &Actor, row: &store::ImportedFleet) -> Act {
    let cas: Vec<String> = row.cas.iter().map(|ca| digest(ca).to_string()).collect();
    let object = format_args!("fleet/{}", row.fleet);
    Act::new(at, actor, "identity.fleet-imported", object)
        .with("naming", &row.naming)
        .with("until", row.until)
        .with("accept_expired", row.accept_expired)
        .with("ca_sha256", cas.join(" "))
}

/// One part of a list.
#[must_use]
pub fn devices_imported(
    at: Timestamp,
    actor: &Actor,
    fleet: &model::ManufacturerId,
    part: &[identity::expected::ExpectedDevice],
    list: Digest,
) -> Act {
    let pinned = part.iter().filter(|row| row.fingerprint.is_some()).count();
    let object = format_args!("fleet/{fleet}");
    Act::new(at, actor, "identity.devices-imported", object)
        .with("devices", part.len())
        .with("pinned", pinned)
        .with("list_sha256", list)
}

#[must_use]
pub fn fleet_retired(
    at: Timestamp,
    actor: &Actor,
    fleet: &model::ManufacturerId,
    left_behind: usize,
    sessions_closed: u32,
) -> Act {
    let object = format_args!("fleet/{fleet}");
    Act::new(at, actor, FLEET_RETIRED, object)
        .with("left_behind", left_behind)
        .with("sessions_closed", sessions_closed)
}

#[must_use]
pub fn claim_tokens_made(
    at: Timestamp,
    actor: &Actor,
    manufacturer: &model::ManufacturerId,
    count: usize,
    expires_at: Timestamp,
) -> Act {
    let object = format_args!("manufacturer/{manufacturer}");
    Act::new(at, actor, "identity.claim-tokens-made", object)
        .with("tokens", count)
        .with("expires_at", expires_at)
}

#[must_use]
pub fn claim_tokens_withdrawn(
    at: Timestamp,
    actor: &Actor,
    manufacturer: &model::ManufacturerId,
    serial: Option<&model::SerialNumber>,
) -> Act {
    let object = format_args!("manufacturer/{manufacturer}");
    let act = Act::new(at, actor, "identity.claim-tokens-withdrawn", object);
    match serial {
        Some(serial) => act.with("serial", serial),
        None => act,
    }
}

/// A person decided of a device that waited; approved, it also says as what.
#[must_use]
pub fn enrollment_decided(
    actor: &Actor,
    row: &store::PendingEnrollment,
    decision: &store::Decision,
    device: Option<(&DeviceId, &model::ProductId)>,
    why: &str,
) -> Act {
    let action = if decision.approved {
        "identity.enrollment-approved"
    } else {
        "identity.enrollment-refused"
    };
    let object = format_args!("idevid/{}/{}", row.manufacturer, row.serial);
    let act = Act::new(decision.at, actor, action, object)
        .with("enrollment", row.id)
        .with("key_sha256", row.key);
    let act = match (row.certificate, row.endorsement) {
        (Some(certificate), _) => act.with("by_certificate", certificate),
        (None, Some(endorsement)) => act.with("by_endorsement_key", endorsement),
        (None, None) => act,
    };
    let act = match why {
        "" => act,
        why => act.with("reason", why),
    };
    match device {
        Some((device, product)) => act.with("device", device).with("product", product),
        None => act,
    }
}

/// By a chip: the certificate's key never leaves it.
#[must_use]
pub fn enrolled_by_tpm(
    at: Timestamp,
    principal: &Principal,
    endorsement: Digest,
    certificate: CertificateId,
    kind: &str,
) -> Act {
    Act::new(at, principal, "identity.device-enrolled", principal)
        .with("by", identity::FirstIdentity::Tpm.name())
        .with("by_endorsement_key", endorsement)
        .with("certificate", certificate)
        .with("kind", kind)
        .with("assurance", model::Assurance::HardwareHeld.name())
}

/// Evidence was held against reference values.
#[must_use]
pub fn appraised(at: Timestamp, device: &DeviceId, result: &store::AttestationResult) -> Act {
    let object = format_args!("device/{device}");
    Act::new(at, object, EVIDENCE_APPRAISED, object)
        .with(STATUS, result.status.name())
        .with("why", &result.why)
        .with("ends_at", result.ends_at)
}

#[must_use]
pub fn tpms_listed(
    at: Timestamp,
    actor: &Actor,
    manufacturer: &model::ManufacturerId,
    count: usize,
    list: Digest,
) -> Act {
    let object = format_args!("manufacturer/{manufacturer}");
    Act::new(at, actor, "identity.tpms-listed", object)
        .with("endorsement_keys", count)
        .with("list_sha256", list)
}

#[must_use]
pub fn tpm_vendor_added(
    at: Timestamp,
    actor: &Actor,
    manufacturer: &model::ManufacturerId,
    ca: Digest,
) -> Act {
    let object = format_args!("manufacturer/{manufacturer}");
    Act::new(at, actor, "identity.tpm-vendor-added", object).with("ca_sha256", ca)
}

#[must_use]
pub fn issued_to_service(
    at: Timestamp,
    actor: &Actor,
    principal: &Principal,
    certificate: CertificateId,
) -> Act {
    Act::new(at, actor, "identity.service-certificate-issued", principal)
        .with("certificate", certificate)
}

/// `sessions_closed` is of this one alone; of a list they are told together.
#[must_use]
pub fn revoked(
    at: Timestamp,
    actor: &Actor,
    what: &Revocable,
    reason: RevocationReason,
    sessions_closed: Option<u32>,
) -> Act {
    let action = match what {
        Revocable::Principal(Principal::Device(_)) => "identity.device-revoked",
        Revocable::Principal(Principal::Service(_)) => "identity.service-revoked",
        Revocable::Certificate(_) => "identity.certificate-revoked",
        Revocable::Product(_) => "identity.product-revoked",
        Revocable::Issuer(_) => "identity.issuer-revoked",
    };
    let act = Act::new(at, actor, action, what).with("reason", reason.name());
    match sessions_closed {
        Some(count) => act.with("sessions_closed", count),
        None => act,
    }
}

/// Sums up a list; each of its lines has an entry of its own before this one.
#[must_use]
pub fn list_revoked(
    at: Timestamp,
    actor: &Actor,
    list: Digest,
    count: usize,
    reason: RevocationReason,
    sessions_closed: u32,
) -> Act {
    let object = format_args!("list/{list}");
    Act::new(at, actor, "identity.list-revoked", object)
        .with("revoked", count)
        .with("reason", reason.name())
        .with("sessions_closed", sessions_closed)
}

/// By a certificate whose key lies in a chip.
#[must_use]
pub fn superseded(at: Timestamp, what: &Revocable) -> Act {
    revoked(at, &Actor::Plane, what, RevocationReason::Superseded, None)
}

#[must_use]
pub fn released(at: Timestamp, actor: &Actor, what: &Releasing) -> Act {
    Act::new(at, actor, "identity.hold-released", &what.what).with("reason", &what.reason)
}

/// Our OCSP responder may answer for a CA, for some days.
#[must_use]
pub fn responder_certified(at: Timestamp, certificate: CertificateId, ca: &AuthorityId) -> Act {
    let action = "identity.ocsp-responder-certified";
    Act::new(at, Actor::Plane, action, "plane")
        .with("certificate", certificate)
        .with("ca", ca)
}

#[must_use]
pub fn applied(at: Timestamp, actor: &Actor, version: u64, digest: Digest) -> Act {
    Act::new(
        at,
        actor,
        "access.fleet-applied",
        format_args!("fleet/{version}"),
    )
    .with("sources_sha256", digest)
}

#[must_use]
pub fn sealed(at: Timestamp, reason: &str) -> Act {
    Act::new(at, Actor::Plane, "audit.sealed", "plane").with("reason", reason)
}

#[must_use]
pub fn unsealed(at: Timestamp, actor: &Actor, reason: &str) -> Act {
    Act::new(at, actor, "audit.unsealed", "plane").with("reason", reason)
}

#[must_use]
pub fn baseline_accepted(at: Timestamp, actor: &Actor, product: &model::ProductId) -> Act {
    let object = format_args!("product/{product}");
    Act::new(at, actor, "detection.baseline-accepted", object)
}

#[must_use]
pub fn incident_opened(incident: &response::Incident) -> Act {
    let object = format_args!("incident/{}", incident.id);
    Act::new(
        incident.opened_at,
        "detection",
        "response.incident-opened",
        object,
    )
    .with("about", &incident.about)
    .with("severity", incident.severity.name())
    .with("title", incident.title())
}

#[must_use]
pub fn incident_closed(at: Timestamp, incident: &response::Incident) -> Act {
    let object = format_args!("incident/{}", incident.id);
    Act::new(at, Actor::Plane, "response.incident-closed", object).with("about", &incident.about)
}

/// The texts of evidence may name addresses of people's homes: the log keeps their digest, so that
/// the timeline proves them.
#[must_use]
pub fn step(incident: IncidentId, step: &response::Step) -> Act {
    let object = format_args!("incident/{incident}");
    let mut act = Act::new(step.at, &step.actor, "response.incident-step", object);
    if step.expected.is_none() && step.seen.is_none() {
        return act.with("what", &step.what);
    }
    let evidence = serde_json::json!([step.what, step.expected, step.seen, step.observed_by]);
    act = act.with("evidence_sha256", digest(evidence.to_string().as_bytes()));
    if let Some(source) = step.source {
        act = act.with("source", source.name());
    }
    if let Some(attribution) = step.attribution {
        act = act.with("attribution", attribution.name());
    }
    act
}

const EVIDENCE_APPRAISED: &str = "identity.evidence-appraised";
const STATUS: &str = "status";
const DEVICE_CONTAINED: &str = "response.device-contained";
const CONTAINMENT: &str = "containment";
const INCIDENT: &str = "incident";
const FLEET_RETIRED: &str = "identity.fleet-retired";
/// The actions of [`revoked`]; the object says what.
const REVOKED: [&str; 5] = [
    "identity.device-revoked",
    "identity.service-revoked",
    "identity.certificate-revoked",
    "identity.product-revoked",
    "identity.issuer-revoked",
];

/// A withdrawal that an entry tells of: how a restored backup learns what it missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Withdrawn {
    Revoked(Revocable, RevocationReason),
    /// One device, or those that one entry of an act of many names.
    Contained(Vec<DeviceId>, Standing),
    /// An act that cut many off.
    GroupContained(store::GroupContainment),
    FleetRetired(model::ManufacturerId),
    ClaimCertificateRetired(model::ClaimCertificateId),
    TpmUnlisted(Digest),
    /// Its evidence contradicted the reference values; better evidence is asked of it anew.
    Contraindicated(store::AttestationResult),
    /// From then on a person had these roles, and signed in no more if it was disabled.
    PersonNarrowed {
        person: PersonId,
        roles: String,
        disabled_at: Option<Timestamp>,
    },
    TokenRevoked(ApiTokenId),
    PasskeyRemoved(PasskeyId),
}

/// The withdrawal that an entry tells of, if it does. What gives back is told by no entry: in
/// doubt a device stays cut off, and a person restores it again.
#[must_use]
pub fn withdrawal_told_by(entry: &audit::Entry) -> Option<Withdrawn> {
    let what = match entry.action.as_str() {
        action if people::WITHDRAWALS.contains(&action) => {
            return people::withdrawal_told_by(entry);
        }
        claimed::TPM_UNLISTED => {
            let (_, key) = entry.object.split_once('/')?;
            return Some(Withdrawn::TpmUnlisted(Digest::from_hex(key)?));
        }
        claimed::RETIRED => {
            let (_, name) = entry.object.split_once('/')?;
            return Some(Withdrawn::ClaimCertificateRetired(name.parse().ok()?));
        }
        FLEET_RETIRED => {
            let (_, name) = entry.object.split_once('/')?;
            return Some(Withdrawn::FleetRetired(name.parse().ok()?));
        }
        action if REVOKED.contains(&action) => entry.object.parse().ok()?,
        EVIDENCE_APPRAISED => {
            let (_, name) = entry.object.split_once('/')?;
            let status = store::AttestationStatus::Contraindicated;
            if entry
                .details
                .get(STATUS)
                .is_none_or(|told| told != status.name())
            {
                return None;
            }
            return Some(Withdrawn::Contraindicated(store::AttestationResult {
                device: name.parse().ok()?,
                status,
                why: entry.details.get("why").cloned().unwrap_or_default(),
                appraised_at: entry.time,
                ends_at: entry.time,
                by_key: None,
            }));
        }
        DEVICE_CONTAINED => {
            let (_, name) = entry.object.split_once('/')?;
            let detail = |key: &str| entry.details.get(key).map(String::as_str);
            let standing = Standing {
                // What this version cannot read is cut off all the same.
                containment: detail(CONTAINMENT)
                    .and_then(Containment::from_name)
                    .unwrap_or(Containment::Isolated),
                since: entry.time,
                incident: detail(INCIDENT).and_then(IncidentId::from_text),
                by: entry.actor.clone(),
                group: None,
            };
            return Some(Withdrawn::Contained(vec![name.parse().ok()?], standing));
        }
        action if contained::WITHDRAWALS.contains(&action) => {
            return contained::withdrawal_told_by(entry);
        }
        _ => return None,
    };
    let reason = entry
        .details
        .get("reason")
        .and_then(|name| RevocationReason::from_name(name))
        .unwrap_or(RevocationReason::Unspecified);
    Some(Withdrawn::Revoked(what, reason))
}

/// The incident that an entry is about, if it is: its number is given already.
#[must_use]
pub fn incident_told_by(entry: &audit::Entry) -> Option<IncidentId> {
    IncidentId::from_text(entry.object.strip_prefix("incident/")?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::withdrawing::{Containing, Restoring};

    #[test]
    fn evidence_that_contradicts_is_read_back_and_what_affirms_is_not() {
        let result = |status| store::AttestationResult {
            device: "cam-1".parse().unwrap(),
            status,
            why: "its registers 7 digest to something else".to_owned(),
            appraised_at: Timestamp::from_seconds(1),
            ends_at: Timestamp::from_seconds(1),
            by_key: None,
        };
        let told = |status| {
            let result = result(status);
            withdrawal_told_by(&written(appraised(
                Timestamp::from_seconds(1),
                &result.device,
                &result,
            )))
        };
        let bad = store::AttestationStatus::Contraindicated;
        assert_eq!(told(bad), Some(Withdrawn::Contraindicated(result(bad))));
        assert_eq!(told(store::AttestationStatus::Affirming), None);
    }

    #[test]
    fn what_no_longer_lets_anybody_in_is_read_back() {
        let at = Timestamp::from_seconds(1);
        let claim: model::ClaimCertificateId = "batch-17".parse().unwrap();
        let retired = claim_certificate_retired(at, &Actor::Plane, &claim, 2);
        let told = withdrawal_told_by(&written(retired));
        assert_eq!(told, Some(Withdrawn::ClaimCertificateRetired(claim)));
        let key = Digest([0xab; 32]);
        let unlisted = tpm_unlisted(at, &Actor::Plane, key, &"cam-1".parse().unwrap());
        let told = withdrawal_told_by(&written(unlisted));
        assert_eq!(told, Some(Withdrawn::TpmUnlisted(key)));
    }

    #[test]
    fn a_revocation_is_read_back_from_its_entry() {
        let id = CertificateId::new(Digest([0xab; 32]), &[0x01, 0xff]).unwrap();
        let all: [Revocable; 5] = [
            "device/cam-1".parse().unwrap(),
            "service/ingest".parse().unwrap(),
            "product/camera".parse().unwrap(),
            Revocable::Issuer(Digest([0xab; 32])),
            Revocable::Certificate(id),
        ];
        for what in all {
            for reason in RevocationReason::ALL {
                let at = Timestamp::from_seconds(1);
                let act = revoked(at, &Actor::Plane, &what, reason, Some(2));
                assert!(REVOKED.contains(&act.action));
                let told = withdrawal_told_by(&written(act));
                assert_eq!(told, Some(Withdrawn::Revoked(what.clone(), reason)));
            }
            // In doubt it stays on hold: a person releases it again.
            let releasing = Releasing {
                what,
                reason: "found again".into(),
            };
            let act = released(Timestamp::from_seconds(2), &Actor::Plane, &releasing);
            assert_eq!(withdrawal_told_by(&written(act)), None);
        }
    }

    pub(crate) fn written(act: Act) -> audit::Entry {
        let entry = audit::Entry {
            time: act.time,
            tenant: "acme".parse().unwrap(),
            actor: act.actor,
            action: act.action.to_owned(),
            object: act.object,
            details: act.details,
            request: None,
        };
        audit::Entry::from_leaf(&entry.to_leaf().unwrap()).unwrap()
    }

    #[test]
    fn a_containment_is_read_back_from_its_entry_and_a_restore_gives_nothing_back() {
        let device: DeviceId = "cam-1".parse().unwrap();
        for containment in Containment::ALL {
            for incident in [None, Some(IncidentId(7))] {
                let what = Containing {
                    device: device.clone(),
                    containment,
                    incident,
                    reason: "a person saw it".into(),
                };
                let standing = what.standing(Timestamp::from_seconds(9), &Actor::Plane);
                let read = written(contained(&Actor::Plane, &what, &standing, 1));
                let told = Withdrawn::Contained(vec![device.clone()], standing.clone());
                assert_eq!(withdrawal_told_by(&read), Some(told));

                let back = Restoring {
                    device: device.clone(),
                    incident,
                    reason: "cleaned".into(),
                };
                let read = written(restored(
                    Timestamp::from_seconds(10),
                    &Actor::Plane,
                    &back,
                    &standing,
                ));
                assert_eq!(withdrawal_told_by(&read), None);
            }
        }
    }
}
