//! The simulated clients against programs that nobody here wrote: Mosquitto as the broker, and
//! openssl as the CA behind a small EST server. A mistake that the plane and its simulation
//! shared would show here.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that unwraps is a test that fails loudly; clippy.toml's exemption does not \
              reach a test's own helpers"
)]

mod broker;
mod est;
mod fleet;
mod identity;
mod load;
mod month;

/// A folder that goes away with the test.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}
