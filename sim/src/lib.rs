//! A simulated fleet, and the load that a broker must bear.
//!
//! **Question:** does the whole keep its promises to the devices, the services and the strangers
//! that talk to it?
//! **In:** addresses of the doors to speak to, trust anchors, how many devices, one seed.
//! **Out:** typed outcomes (what was accepted, how each refusal looked from outside) and exact
//! counts (sent, acknowledged, delivered, lost, duplicated, out of order).
//! **Standards:** PKCS #10 (RFC 2986), EST (RFC 7030, RFC 8951), X.509 (RFC 5280), IEEE 802.1AR,
//! MQTT 3.1.1 and 5.0, TLS 1.2 and 1.3 with client certificates.
//! **Refuses to know:** anything inside the plane. It speaks only through the doors, and makes
//! and reads certificates, requests and HTTP with its own code: a mistake that both ends shared
//! would stay unseen. The one thing shared is the packet codec `mqtt`, which is why a broker
//! that is not ours serves as the other end in the tests.
//!
//! One part goes another way: [`month`] hands observations to the rooms that judge them, without
//! a door, because it must live through a month in minutes.
//!
//! Not a room: it uses sockets, threads and clocks. Whatever *decides* something (who acts when,
//! which device is picked) comes from the seed; keys are random by nature.

mod authority;
pub mod credential;
mod der;
pub mod device;
pub mod enroll;
pub mod est;
pub mod factory;
pub mod fleet;
pub mod forward;
pub mod hearing;
mod http;
pub mod intruder;
pub mod issue;
pub mod ledger;
pub mod load;
pub mod month;
pub mod outside;
pub mod plane;
pub mod random;
pub mod refusal;
pub mod service;
pub mod session;
pub mod tls;

pub use credential::Credential;
pub use device::Device;
pub use factory::{Factory, Flaw};
pub use fleet::Fleet;
pub use refusal::{Refusal, SetupError};
pub use service::Service;
pub use session::Session;

/// The time of this machine.
#[must_use]
pub fn now() -> model::Timestamp {
    let since_1970 = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    model::Timestamp::from_millis(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
}
