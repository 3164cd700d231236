//! The room from outside: real keys, real certificates, OpenSSL as the second opinion.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that unwraps is a test that fails loudly"
)]

mod attacks;
mod chapter;
mod csrattrs;
mod doors;
mod enrollment;
mod hostile;
mod limbo;
mod openssl;
mod pending;
mod requests;
mod returning;
mod status;
mod support;
