//! The room as its callers meet it: observations in, deviations and alerts out.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "all of this is tests, their helpers too: what is wrong should fail loudly"
)]

mod alerts;
mod baselines;
mod deviations;
mod device_defender;
mod replay;
mod reports;
mod world;
