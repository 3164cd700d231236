//! The one program as the world meets it: started as a process, spoken to through its doors only.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the makers of a test may fail as loudly as the test itself"
)]

mod acme;
mod agent;
mod agreement;
mod attacks;
mod authorities;
mod by_alpn;
mod claim_certificate;
mod commands;
mod contained_load;
mod contracts;
mod counting;
mod crash;
mod crash_sessions;
mod eat;
mod emitted;
mod est;
mod existing_fleet;
mod fixture;
mod forward;
mod gathering;
mod group_containment;
mod hostile_text;
mod http;
mod identity_lists;
mod interface;
mod interoperability;
mod inventory;
mod log;
mod migration;
mod mqtt_clients;
mod network;
mod notify;
mod ownership;
mod passkeys;
mod people;
mod plane;
mod provider;
mod proxied;
mod real_clients;
mod recipes;
mod refusals;
mod response;
mod restore;
mod resumption;
mod served;
mod small_device;
mod start;
mod streams;
mod tamper;
mod tools;
mod tpm;
mod traffic;
mod twins;
mod websocket;
