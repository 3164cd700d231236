//! One thing that was observed: about whom, by whom, how surely, and what.

use core::net::IpAddr;
use model::{Attribution, CertificateId, Digest, Protocol, Source, Subject, Timestamp};
use std::time::Duration;

/// What somebody observed. Text inside is hostile until [`crate::shown`] made it printable, which
/// the detector does itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// When the plane learned of it, by the plane's clock. Observations are handed over in this
    /// order; one from before the last is taken as being of now.
    pub at: Timestamp,
    pub subject: Subject,
    pub source: Source,
    pub attribution: Attribution,
    pub feature: Feature,
}

/// What was observed. Counts are of `interval`, which ended at the observation's time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Feature {
    // the network or the device
    /// It spoke to somebody. `host` is the name by which the observer saw it asked for.
    Destination {
        address: IpAddr,
        port: u16,
        protocol: Protocol,
        host: Option<String>,
        bytes_out: u64,
    },
    ListeningPort {
        port: u16,
        protocol: Protocol,
    },
    /// `names` is a sample of at most 16 of them.
    DnsQueries {
        queries: u64,
        names: Vec<String>,
        interval: Duration,
    },
    BytesOut {
        bytes: u64,
        packets: u64,
        interval: Duration,
    },

    // the gateway
    /// A handshake that stands. `version` as rustls names it (`TLSv1_3`), `group` likewise
    /// (`X25519MLKEM768`).
    TlsSession {
        version: String,
        group: Option<String>,
        door: String,
    },
    /// `reason` is the code of the refusal (`unknown-issuer`).
    HandshakeFailed {
        reason: String,
        door: String,
    },
    /// Somebody offered nothing newer than `offered` at a door that wants more.
    ProtocolTooOld {
        offered: String,
        door: String,
    },
    /// `action` is publish, subscribe, connect, est, api; `target` what it wanted; `reason` the name
    /// of the verdict's reason.
    Denied {
        action: String,
        target: String,
        reason: String,
    },
    /// Metering of the messages a principal sent.
    Messages {
        count: u64,
        bytes: u64,
        denied: u64,
        interval: Duration,
    },
    SessionOpened {
        address: IpAddr,
        certificate: CertificateId,
    },
    /// `lost`: without a goodbye.
    SessionEnded {
        lost: bool,
    },
    /// A second session in one name ended the first.
    TakenOver {
        same_certificate: bool,
        from: IpAddr,
        previous_from: Option<IpAddr>,
    },
    /// Its certificate opened a door for programs from there.
    DoorOpened {
        door: String,
        address: IpAddr,
    },
    /// The key that it proved to hold is known to others, so it proved nothing: `flaw` says how
    /// (`published`).
    KnownKey {
        flaw: String,
        door: String,
    },
    /// To how many different devices a service sent.
    CommandFanOut {
        devices: u64,
        interval: Duration,
    },

    // the device
    Firmware {
        version: String,
        digest: Option<Digest>,
    },
    /// A report as such: which boot of the device, and its number in that boot.
    Report {
        boot: String,
        sequence: u64,
        interval: Duration,
    },
    /// Handshakes of the device with others that failed, by its own count.
    TlsFailures {
        count: u64,
        interval: Duration,
    },

    // the interfaces for people and programs
    /// Somebody was given all roles for a while, by the word of another person.
    GlassBroken,
    /// Somebody tried to sign in.
    SignIn {
        accepted: bool,
    },
    /// Somebody showed a token or a session of the API.
    Token {
        accepted: bool,
    },
    /// A person's session or a token was used from there.
    UsedFrom {
        address: IpAddr,
    },
}
