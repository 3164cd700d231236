//! Identity: who is it?
//!
//! **Question:** whose certificate is this, may it be used at this door now, and may its holder
//! have another? Which person signed in ([`person`])?
//! **In:** certificates, chains, certificate requests and EST bodies as bytes; lists of expected
//! devices; facts that the plane has made durable; the time; random bytes.
//! **Out:** tickets ([`Path`], [`Presented`], [`Authenticated`]) that only this room can make, an
//! [`EnrollmentDecision`], bytes to be signed ([`profile::Unsigned`], [`crl::UnsignedCrl`],
//! [`ocsp::UnsignedResponse`]), and
//! refusals that say who must act.
//! **Refuses to know:** private keys (it never signs), sockets and TLS, HTTP, rows, the clock,
//! what the identified may do (`access`).
//!
//! Standards: RFC 5280 (certificates, CRLs), IEEE 802.1AR (IDevID, LDevID), RFC 7030 and 8951
//! (EST), RFC 9908 (CSR attributes), RFC 6960, 9654 and 9919 (OCSP), RFC 2986 (PKCS #10), RFC 5652
//! (CMS, certs-only), RFC 7093 (key identifiers), SPIFFE's
//! form of URI. Of people: Web Authentication level 3; OpenID Connect Core, Discovery and
//! Back-Channel Logout 1.0.
//!
//! The order of calls is the order of trust: [`Anchors::verify_path`] while the handshake runs,
//! [`Anchors::presented`] once its signature has held, [`Registry::authenticate`] for revocation
//! and lists, [`Registry::enroll`] for a new certificate.

mod certificate;
pub mod crl;
pub mod csr;
pub mod csrattrs;
pub mod eat;
pub mod est;
pub mod expected;
mod first_identity;
pub mod import;
pub mod issuance;
mod names;
pub mod ocsp;
pub mod ownership;
mod path;
pub mod pending;
pub mod person;
pub mod profile;
mod refusal;
mod registry;
mod renewal;
mod server_chain;
mod status;
mod weak_key;

pub use certificate::{certificate_id, public_key, public_key_digest, validity};
pub use csr::{CertificateRequest, KeyKind};
pub use first_identity::claim_certificate;
pub use first_identity::claim_token;
pub use first_identity::imported::{InvalidNaming, Naming, NamingFault};
pub use first_identity::tpm;
pub use names::{InvalidTrustDomain, Realm};
pub use path::{
    AnchorRefusal, Anchors, CERTIFICATE_BYTES_MAX, Door, INTERMEDIATES_MAX, IdentityKind,
    ImportedFleet, IssuingCa, OwnCas, Path, Presented, Voucher,
};
pub use refusal::{Actor, PathRefusal, Refusal};
pub use registry::{
    AttestationStatus, Authenticated, CLIENT_ID, Device, EnrollmentDecision, EnrollmentKind, Fact,
    FactConflict, FirstIdentity, ImportProgress, ImportTerms, KeyHolder, Operation, Reach,
    Registry, Revocation, Supersession,
};
pub use renewal::renew_after;
pub use server_chain::{ChainCertificate, ServerChain, ServerChainRefusal, covers};
pub use status::{InvalidStatusPoint, OCSP_PATH, StatusPoint, crl_path};
pub use weak_key::{BadKeys, InvalidList, KeyFlaw, flaw_of_key};
