//! The nouns that rooms exchange, each with its validity.
//!
//! **Question:** what do we call it, and when is it well formed?
//! **In:** text and bytes from outside. **Out:** values that cannot be half valid.
//! **Refuses to know:** any decision, any file format, any wire format, any clock.
//!
//! A noun enters here when two rooms exchange it, and not before (rule 3 of the house).

mod assurance;
mod authority;
mod certificate;
mod command;
mod containment;
mod deviation;
mod names;
mod observed;
mod revocation;
mod time;
mod verdict;

pub use assurance::Assurance;
pub use authority::{CertificateUse, CertificateUses};
pub use certificate::{CertificateId, Digest};
pub use command::{CommandId, Delivery, DeliveryRefusal, DeliveryWait};
pub use containment::Containment;
pub use deviation::{DeviationKind, IncidentId, Severity};
pub use names::{
    ApiTokenId, AttributeId, AttributeValue, AuthorityId, ClaimCertificateId, DeviceId,
    GroupContainmentId, GroupId, InvalidName, ManufacturerId, OperatorId, OwnerId, PasskeyId,
    PersonId, PolicyId, Principal, ProductId, ProposalId, SerialNumber, ServiceId, TenantId,
};
pub use observed::{Attribution, Protocol, Source, Subject};
pub use revocation::{Revocable, RevocationReason};
pub use time::Timestamp;
pub use verdict::{DenyReason, Verdict};
