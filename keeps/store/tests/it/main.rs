//! The store from outside: what is acknowledged is there, what is refused leaves no trace.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the makers of a test may fail as loudly as the test itself"
)]

mod bench;
mod certificates;
mod change;
mod claim;
mod commands;
mod crash;
mod disk;
mod enrollment;
mod facts;
mod first_identity;
mod fixture;
mod folder;
mod journal;
mod log;
mod migration;
mod people;
mod published;
mod response;
mod rows;
