//! Certificates as they are made: the room gives the bytes, the signer signs, the room assembles.

use crate::plane::{Plane, digest, random};
use crate::trouble::Trouble;
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use identity::est::{self, BodyForm};
use identity::{CertificateRequest, EnrollmentDecision, Fact, profile};
use model::{CertificateId, CertificateUse, Digest, Principal, ServiceId, Timestamp};
use signer::Purpose;
use store::{Holder, Receipt, Write};
use zeroize::Zeroizing;

/// A certificate that is signed and not on record: nobody may have it yet.
pub struct Made {
    der: Vec<u8>,
    pub certificate: CertificateId,
    key: Digest,
    key_kind: Option<identity::KeyKind>,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// A certificate that was issued and is on record.
pub struct Issued {
    pub der: Vec<u8>,
    pub certificate: CertificateId,
    pub not_after: Timestamp,
    pub receipt: Receipt,
}

impl Made {
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Its row.
    pub fn row(&self, holder: &Principal) -> Write {
        Write::PutCertificate(store::Certificate {
            id: self.certificate,
            holder: match holder {
                Principal::Device(device) => Holder::Device(device.clone()),
                Principal::Service(service) => Holder::Service(service.clone()),
            },
            not_before: self.not_before,
            not_after: self.not_after,
            key: Some(self.key),
            key_kind: self.key_kind.map(|kind| kind.to_string()),
            der: self.der.clone(),
        })
    }

    /// What memory learns of it.
    pub fn fact(&self, principal: Principal) -> Fact {
        Fact::CertificateIssued {
            principal,
            certificate: self.certificate,
            key: self.key,
            not_after: self.not_after,
        }
    }

    /// It is on record, so it may be handed out.
    pub fn recorded(self, receipt: Receipt) -> Issued {
        Issued {
            der: self.der,
            certificate: self.certificate,
            not_after: self.not_after,
            receipt,
        }
    }
}

/// The LDevID of a device for this key (SubjectPublicKeyInfo in DER).
///
/// # Errors
/// Trouble of ours.
pub fn ldevid(
    plane: &Plane,
    decision: &EnrollmentDecision,
    public_key: &[u8],
    now: Timestamp,
) -> Result<Made, Trouble> {
    let fleet = plane.admission.fleet.get();
    let terms = profile::Terms {
        public_key,
        serial_random: random()?,
        now,
        lifetime: fleet.ldevid_lifetime(&decision.product),
    };
    let tree = plane.tree();
    let authority = tree.for_device(fleet.authority_of(&decision.product))?;
    let principal = Principal::Device(decision.device.clone());
    plane.pace.take(&principal, authority.issuer.id(), now)?;
    let unsigned = profile::ldevid(
        plane.realm(),
        &decision.device,
        plane.status.point(),
        &authority.issuer,
        &terms,
    )?;
    made(plane, Purpose::DeviceCertificate, unsigned, public_key)
}

/// A certificate that was issued earlier, for an answer that was lost on its way; DER.
///
/// # Errors
/// It is not on record any more, or was revoked.
pub fn issued_before(plane: &Plane, certificate: CertificateId) -> Result<Vec<u8>, Trouble> {
    let row = plane.store.certificate(&certificate)?;
    match row {
        Some(row) if row.revoked.is_none() => Ok(row.certificate.der),
        _ => Err(identity::Refusal::TokenUsed.into()),
    }
}

/// The certificate of a service.
///
/// # Errors
/// Trouble of ours.
pub fn service(
    plane: &Plane,
    service: &ServiceId,
    request: &CertificateRequest,
    now: Timestamp,
) -> Result<Made, Trouble> {
    let terms = profile::Terms {
        public_key: request.public_key(),
        serial_random: random()?,
        now,
        lifetime: plane.config.service_lifetime(),
    };
    let tree = plane.tree();
    let issuer = &tree.for_use(CertificateUse::Service)?.issuer;
    let principal = Principal::Service(service.clone());
    plane.pace.take(&principal, issuer.id(), now)?;
    let unsigned = profile::service(plane.realm(), service, plane.status.point(), issuer, &terms)?;
    made(
        plane,
        Purpose::ServiceCertificate,
        unsigned,
        request.public_key(),
    )
}

fn made(
    plane: &Plane,
    purpose: Purpose,
    unsigned: profile::Unsigned,
    public_key: &[u8],
) -> Result<Made, Trouble> {
    let certificate = unsigned.certificate();
    let (not_before, not_after) = (unsigned.not_before(), unsigned.not_after());
    let signature = plane.sign(purpose, unsigned.to_be_signed())?;
    Ok(Made {
        der: unsigned.assemble(&signature)?,
        certificate,
        key: digest(public_key),
        key_kind: identity::KeyKind::of(public_key).ok(),
        not_before,
        not_after,
    })
}

/// The row of a device that enrolls.
pub fn device_row(decision: &EnrollmentDecision, now: Timestamp) -> Write {
    Write::PutDevice(store::Device {
        id: decision.device.clone(),
        product: decision.product.clone(),
        groups: decision.groups.clone(),
        manufacturer: decision.manufacturer.clone(),
        serial: decision.serial.clone(),
        enrolled_at: now,
    })
}

/// Reads an EST body: the request, with possession of its key proven.
///
/// # Errors
/// What is wrong with it, for the client.
pub fn read_request(
    content_type: Option<&str>,
    body: &[u8],
) -> Result<(CertificateRequest, BodyForm), Trouble> {
    let body = est::decode_body(content_type, body)?;
    Ok((CertificateRequest::parse(&body.der)?, body.form))
}

/// A key that was made here for a device.
pub struct GeneratedKey {
    /// SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
    pub pkcs8: Zeroizing<Vec<u8>>,
}

/// # Errors
/// The system gives no random bytes.
pub fn generate_key() -> Result<GeneratedKey, Trouble> {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(Trouble::fault)?;
    let public_key = AsDer::<PublicKeyX509Der<'_>>::as_der(key.public_key())
        .map_err(Trouble::fault)?
        .as_ref()
        .to_vec();
    let pkcs8 = key.to_pkcs8v1().map_err(Trouble::fault)?;
    Ok(GeneratedKey {
        public_key,
        pkcs8: Zeroizing::new(pkcs8.as_ref().to_vec()),
    })
}
