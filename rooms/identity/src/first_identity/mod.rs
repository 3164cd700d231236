//! The ways to prove a first identity, one file each. What all have in common: they end in a
//! manufacturer's serial number that must be on the list of expected devices.

pub(crate) mod idevid;
pub mod tpm;
