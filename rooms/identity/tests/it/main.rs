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
mod chip;
mod claim;
mod csrattrs;
mod doors;
mod eat;
mod enrollment;
mod hostile;
mod id_token;
mod imported;
mod limbo;
mod odd;
mod openssl;
mod passkey;
mod pending;
mod pkits;
mod provider;
mod requests;
mod returning;
mod server_chain;
mod sign_out;
mod status;
mod support;
mod tpm;
mod tree;
mod vectors;
