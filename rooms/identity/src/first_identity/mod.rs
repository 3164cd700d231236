//! The ways to prove a first identity, one file each. What all have in common: they end in a
//! serial number of a voucher (a manufacturer, or an existing fleet that was imported) that must
//! be on the list of expected devices.

pub mod claim_certificate;
pub mod claim_token;
pub(crate) mod idevid;
pub mod imported;
pub mod tpm;
