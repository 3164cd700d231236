//! One line for each refused connection: what happened, who must act and how.

use super::tls::Seen;
use crate::clock;
use crate::shared::Locked;
use identity::Refusal;
use model::Timestamp;
use rustls::{Error, PeerIncompatible};

/// Log lines about refused peers a second; the rest is counted and summed up in one line.
const REFUSAL_LINES_A_SECOND: u32 = 50;

/// What ended a handshake.
pub enum Cause<'a> {
    Tls(&'a Error),
    Socket(&'a std::io::Error),
    /// More ciphertext than any handshake needs.
    Overlong,
    /// It ended well by rustls but proved nobody; never seen, and never let through.
    NotProven,
}

/// The line of an identity's refusal.
pub fn line(refusal: &Refusal) -> String {
    format!(
        "refused {}: {refusal} [{} must act]",
        refusal.code(),
        refusal.who_must_act().name()
    )
}

/// The line of a handshake that failed.
pub fn handshake(seen: &Seen, cause: &Cause<'_>) -> String {
    if let Some(refusal) = &seen.refusal {
        return line(refusal);
    }
    if seen.foreign_server_name {
        let name = seen
            .server_name
            .as_deref()
            .unwrap_or_default()
            .escape_debug();
        return format!(
            "refused unknown-server-name: it asked for \"{name}\", which is not in server_names; \
             device: use a name of this plane; operator: add the name if it is right \
             [device must act]"
        );
    }
    let (code, text, actor) = match cause {
        Cause::Socket(e) => match e.kind() {
            std::io::ErrorKind::TimedOut => (
                "handshake-timeout",
                "the handshake was not done in time; device: check its network and clock speed"
                    .to_owned(),
                "device",
            ),
            _ => (
                "handshake-left",
                format!("the peer left during the handshake ({e}); device: check what it logged"),
                "device",
            ),
        },
        Cause::Overlong => (
            "handshake-overlong",
            "it sent more than any handshake needs; nobody we serve does that".to_owned(),
            "device",
        ),
        Cause::NotProven => (
            "handshake-unproven",
            "the handshake ended without a proven identity; please report this".to_owned(),
            "fleetward",
        ),
        Cause::Tls(error) => tls_error(error),
    };
    format!("refused {code}: {text} [{actor} must act]")
}

/// The same for a door whose TLS is driven by tokio-rustls.
pub fn stream(seen: &Seen, error: &std::io::Error) -> String {
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>())
    {
        Some(tls) => handshake(seen, &Cause::Tls(tls)),
        None => handshake(seen, &Cause::Socket(error)),
    }
}

fn tls_error(error: &Error) -> (&'static str, String, &'static str) {
    match error {
        Error::NoCertificatesPresented => (
            "no-certificate",
            "it presented no certificate; device: enroll at the EST door first".into(),
            "device",
        ),
        Error::PeerIncompatible(
            PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic,
        ) => (
            "tls-version",
            "it offers no TLS version that this door speaks; device: use TLS 1.3; operator: or \
             set tls_1_2 = true for this door"
                .into(),
            "device",
        ),
        Error::PeerIncompatible(what) => (
            "tls-incompatible",
            format!(
                "nothing in common with what this door speaks ({what:?}); device: update its \
                     TLS settings"
            ),
            "device",
        ),
        Error::NoApplicationProtocol => (
            "tls-alpn",
            "it asked for an application protocol (ALPN) that is not spoken here; device: use \
             mqtt or none"
                .into(),
            "device",
        ),
        Error::InvalidCertificate(rustls::CertificateError::BadSignature) => (
            "no-possession",
            "the handshake's signature does not fit the certificate: whoever this is does not \
             hold the key"
                .into(),
            "device",
        ),
        Error::InvalidMessage(_) => (
            "not-tls",
            "what it sent is not TLS; device: connect with TLS".into(),
            "device",
        ),
        Error::AlertReceived(alert) => (
            "peer-alert",
            format!(
                "the peer ended the handshake ({alert:?}); device: check which CA it trusts \
                     and which name it expects"
            ),
            "device",
        ),
        other => (
            "handshake-failed",
            format!("{other}; device: see its log"),
            "device",
        ),
    }
}

/// Lets a bounded number of lines a second through and says how many it kept back.
#[derive(Debug, Default)]
pub struct LineBudget {
    second: u64,
    used: u32,
    pub kept_back: u64,
}

impl LineBudget {
    pub fn take(&mut self) -> bool {
        if self.used < REFUSAL_LINES_A_SECOND {
            self.used += 1;
            return true;
        }
        self.kept_back += 1;
        false
    }

    /// Sums up what was kept back, once a second at most.
    pub fn tell(&mut self, whose: impl std::fmt::Display, now: Timestamp) {
        if self.second == now.as_seconds() {
            return;
        }
        if self.kept_back > 0 {
            tracing::warn!(
                "{whose}: {} more lines like these kept back",
                self.kept_back
            );
        }
        *self = Self {
            second: now.as_seconds(),
            used: 0,
            kept_back: 0,
        };
    }
}

/// The same for a door that many tasks serve.
pub struct Lines {
    door: &'static str,
    budget: Locked<LineBudget>,
}

impl Lines {
    pub fn new(door: &'static str) -> Self {
        Self {
            door,
            budget: Locked::default(),
        }
    }

    /// Whether one more line may be written now.
    pub fn take(&self) -> bool {
        let mut budget = self.budget.lock();
        budget.tell(self.door, clock::now());
        budget.take()
    }
}
