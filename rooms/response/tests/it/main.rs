//! The responder as the plane meets it: alerts, people, outcomes and time in; effects out.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "all of this is tests, their helpers too: what is wrong should fail loudly"
)]

mod attacks;
mod incidents;
mod invariants;
mod people;
mod playbooks;
mod restart;
mod world;
