//! The room from outside: grown, damaged, forked, and read by somebody who shares no code with us.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests are no test functions, so clippy.toml does not cover them"
)]

mod bundle;
mod log;
mod merkle;
mod notes;
mod python;
mod support;
