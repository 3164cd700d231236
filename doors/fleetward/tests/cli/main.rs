//! The command line from outside: the built binary, its output, its exit status.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests are no test functions, so clippy.toml does not cover them"
)]

mod network;
mod offline;
mod serving;
mod support;
mod usage;
mod watching;
