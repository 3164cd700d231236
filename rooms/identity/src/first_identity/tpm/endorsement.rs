//! The certificate that a TPM's vendor gave its endorsement key (TCG EK Credential Profile 2.x).

use super::{EndorsementKey, TpmRefusal};
use crate::certificate;
use crate::path::{CERTIFICATE_BYTES_MAX, FOREIGN_ALGORITHMS, INTERMEDIATES_MAX};
use model::Timestamp;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// tcg-kp-EKCertificate, 2.23.133.8.1, as webpki takes it: the content of the OID.
const EK_CERTIFICATE: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x01];

/// CAs of TPM vendors whose endorsement keys are believed. Immutable.
#[derive(Default)]
pub struct EndorsementRoots(Vec<TrustAnchor<'static>>);

impl EndorsementRoots {
    /// # Errors
    /// What is wrong with the first that is no CA certificate in DER.
    pub fn new<'a>(cas: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, &'static str> {
        let read = |der: &[u8]| {
            if der.len() > CERTIFICATE_BYTES_MAX {
                return Err("it is larger than 8192 bytes");
            }
            let ca = certificate::read(der).map_err(|_| "it is not an X.509 certificate in DER")?;
            let is_ca = (certificate::basic_constraints(&ca).ok().flatten())
                .is_some_and(|constraints| constraints.ca);
            if !is_ca {
                return Err("it is not a CA's (basicConstraints CA:TRUE is missing)");
            }
            anchor_from_trusted_cert(&CertificateDer::from(der))
                .map(|anchor| anchor.to_owned())
                .map_err(|_| "it cannot serve as a trust anchor")
        };
        cas.into_iter()
            .map(read)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Does a chain lead from this certificate to a vendor's CA, and is it this key's?
    ///
    /// Vendors' certificates often outlive their CA's; a chip is as genuine as it was, so the time
    /// is taken as the beginning of the certificate's own life where it has ended.
    ///
    /// # Errors
    /// [`TpmRefusal::EndorsementCertificate`] with what is wrong.
    pub fn verify(
        &self,
        endorsement: &EndorsementKey,
        certificate_der: &[u8],
        intermediates: &[&[u8]],
        now: Timestamp,
    ) -> Result<(), TpmRefusal> {
        let refuse = |what| TpmRefusal::EndorsementCertificate { what };
        let mut all = std::iter::once(certificate_der).chain(intermediates.iter().copied());
        if intermediates.len() > INTERMEDIATES_MAX
            || all.any(|der| der.len() > CERTIFICATE_BYTES_MAX)
        {
            return Err(refuse("too many or too large certificates"));
        }
        let unreadable = |_| refuse("it cannot be read");
        let read = certificate::read(certificate_der).map_err(unreadable)?;
        if certificate::key_digest(&read).map_err(unreadable)? != endorsement.digest() {
            return Err(refuse("it is another key's"));
        }
        let (not_before, not_after) = certificate::window(read.tbs_certificate().validity());
        let at = if now > not_after { not_before } else { now };
        let leaf_der = CertificateDer::from(certificate_der);
        let leaf = EndEntityCert::try_from(&leaf_der).map_err(|_| refuse("it cannot be read"))?;
        let chain: Vec<CertificateDer<'_>> = intermediates
            .iter()
            .map(|der| CertificateDer::from(*der))
            .collect();
        leaf.verify_for_usage(
            FOREIGN_ALGORITHMS,
            &self.0,
            &chain,
            UnixTime::since_unix_epoch(Duration::from_secs(at.as_seconds())),
            KeyUsage::required_if_present(EK_CERTIFICATE),
            None,
            None,
        )
        .map(drop)
        .map_err(|error| match error {
            webpki::Error::UnknownIssuer => refuse("no registered CA of a TPM vendor issued it"),
            webpki::Error::InvalidSignatureForPublicKey => refuse("a signature does not hold"),
            _ => refuse("its chain breaks the rules of RFC 5280"),
        })
    }
}
