//! The OCSP responder: its certificate by each CA, and what it says of certificates.

use super::{
    AUTHORITY_KEY_IDENTIFIER, BASIC_CONSTRAINTS, EXTENDED_KEY_USAGE, KEY_USAGE, Keys,
    SUBJECT_KEY_IDENTIFIER, authority_of, extension, has_only, hold, key_of, life, oid,
    read_certificate,
};
use crate::keys::CertificateKey;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use der::asn1::{Any, GeneralizedTime, OctetString};
use der::{Decode, Sequence};
use std::time::Duration;
use x509_cert::der::flagset::FlagSet;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages};
use x509_cert::spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};

const OCSP_SIGNING: ObjectIdentifier = oid("1.3.6.1.5.5.7.3.9");
const OCSP_NOCHECK: ObjectIdentifier = oid("1.3.6.1.5.5.7.48.1.5");
const NONCE: ObjectIdentifier = oid("1.3.6.1.5.5.7.48.1.2");
/// Nobody can revoke it, as it says that it need not be asked after.
const RESPONDER_LIFETIME_MAX: Duration = Duration::from_secs(15 * 86_400);
const ANSWER_LIFETIME_MAX: Duration = Duration::from_secs(7 * 86_400);
const ANSWER_BYTES_MAX: usize = 8192;
const ANSWERS_MAX: usize = 8;
/// 128 bytes with their own header (RFC 9654).
const NONCE_BYTES_MAX: usize = 131;

const RESPONDER_EXTENSIONS: [(ObjectIdentifier, bool); 6] = [
    (BASIC_CONSTRAINTS, true),
    (KEY_USAGE, true),
    (EXTENDED_KEY_USAGE, false),
    (SUBJECT_KEY_IDENTIFIER, false),
    (AUTHORITY_KEY_IDENTIFIER, false),
    (OCSP_NOCHECK, false),
];

pub(super) fn check_responder<'a>(
    to_be_signed: &[u8],
    keys: &Keys<'a>,
) -> Result<&'a CertificateKey, &'static str> {
    let tbs = read_certificate(to_be_signed)?;
    let signing = keys.issuing(&authority_of(tbs.extensions())?)?;
    hold(
        tbs.subject() != tbs.issuer(),
        "a responder is not its own issuer",
    )?;
    hold(
        life(&tbs)? <= RESPONDER_LIFETIME_MAX,
        "a responder's certificate lives 15 days at most",
    )?;
    let constraints: BasicConstraints = extension(&tbs)?;
    hold(
        !constraints.ca && constraints.path_len_constraint.is_none(),
        "a responder is no CA",
    )?;
    let KeyUsage(usage) = extension(&tbs)?;
    let ExtendedKeyUsage(purposes) = extension(&tbs)?;
    hold(
        usage == FlagSet::from(KeyUsages::DigitalSignature) && purposes == [OCSP_SIGNING],
        "a responder's purpose is OCSPSigning and no other",
    )?;
    hold(
        key_of(&tbs)? == keys.ocsp.public,
        "a responder's certificate is for our responder's key",
    )?;
    hold(
        has_only(&tbs, &RESPONDER_EXTENSIONS),
        "a responder's certificate has no other extensions",
    )?;
    Ok(&signing.key)
}

/// ResponseData (RFC 6960 section 4.2.1), as far as we ever write it.
#[derive(Sequence)]
struct ResponseData {
    /// byKey.
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT")]
    responder: OctetString,
    produced_at: GeneralizedTime,
    responses: Vec<SingleResponse>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    extensions: Option<Vec<Extension>>,
}

#[derive(Sequence)]
struct SingleResponse {
    certificate: Any,
    status: Any,
    this_update: GeneralizedTime,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    next_update: GeneralizedTime,
}

pub(super) fn check_response<'a>(
    to_be_signed: &[u8],
    key: &'a CertificateKey,
) -> Result<&'a CertificateKey, &'static str> {
    hold(
        to_be_signed.len() <= ANSWER_BYTES_MAX,
        "an OCSP answer has 8 KiB at most",
    )?;
    let data = ResponseData::from_der(to_be_signed).map_err(|_| "an OCSP answer is DER")?;
    let own = SubjectPublicKeyInfoRef::from_der(&key.public)
        .map_err(|_| "the responder's key is readable")?;
    let hash = digest(
        &SHA1_FOR_LEGACY_USE_ONLY,
        own.subject_public_key.raw_bytes(),
    );
    hold(
        data.responder.as_bytes() == hash.as_ref(),
        "an OCSP answer is its responder's own",
    )?;
    hold(
        (1..=ANSWERS_MAX).contains(&data.responses.len()),
        "an OCSP answer is about 1 to 8 certificates",
    )?;
    let at = |time: &GeneralizedTime| time.to_unix_duration();
    for one in &data.responses {
        let life = at(&one.next_update).checked_sub(at(&one.this_update));
        hold(
            at(&one.this_update) <= at(&data.produced_at)
                && life.is_some_and(|life| !life.is_zero() && life <= ANSWER_LIFETIME_MAX),
            "an OCSP answer holds for a week at most",
        )?;
        let _ = (&one.certificate, &one.status);
    }
    let extensions = data.extensions.unwrap_or_default();
    let only_nonce = match extensions.as_slice() {
        [] => true,
        [one] => {
            one.extn_id == NONCE
                && !one.critical
                && one.extn_value.as_bytes().len() <= NONCE_BYTES_MAX
        }
        _ => false,
    };
    hold(only_nonce, "an OCSP answer has no extension but a nonce")?;
    Ok(key)
}
