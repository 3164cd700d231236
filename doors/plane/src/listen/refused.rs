//! One line for each refused connection: what happened, who must act and how.

use super::proxied::ProxyRefusal;
use super::tls::Seen;
use crate::clock;
use crate::judge::signals::Told;
use crate::shared::Locked;
use detection::Feature;
use identity::Refusal;
use model::{Attribution, Principal, Subject, Timestamp};
use rustls::{Error, PeerIncompatible};
use std::net::IpAddr;

/// Log lines about refused peers a second; the rest is counted and summed up in one line.
const REFUSAL_LINES_A_SECOND: u32 = 50;

/// What ended a handshake.
pub enum Cause<'a> {
    Tls(&'a Error),
    Socket(&'a std::io::Error),
    /// More ciphertext than any handshake needs.
    Overlong,
    /// Its header, or none, of the PROXY protocol.
    Proxy(ProxyRefusal),
    /// As many claims are under way as this door serves at once.
    Crowded,
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

/// A refused handshake: why, whom it was said to be, and how surely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The refusal's name.
    pub reason: &'static str,
    pub line: String,
    /// Whose certificate was shown, and whether the peer proved to hold its key.
    pub whose: Option<(Principal, Attribution)>,
}

const TLS_VERSION: &str = "tls-version";

impl Failed {
    /// Of somebody who had proven possession and may not come in all the same.
    pub fn proven(principal: Option<Principal>, refusal: &Refusal) -> Self {
        Self {
            reason: refusal.code(),
            line: line(refusal),
            whose: principal.map(|principal| (principal, Attribution::Proven)),
        }
    }

    /// As the judge is told. Nobody is named whose certificate was not shown and believed, and
    /// nobody is called proven before the handshake's signature held.
    pub fn told(&self, door: &str, peer: IpAddr, at: Timestamp) -> Told {
        let (subject, attribution) = match &self.whose {
            Some((principal, attribution)) => (Subject::from(principal.clone()), *attribution),
            None => (Subject::Address(peer.to_canonical()), Attribution::Address),
        };
        let door = door.to_owned();
        let feature = if self.reason == TLS_VERSION {
            Feature::ProtocolTooOld {
                // Its hello names 1.2 at most, or it would have been answered.
                offered: "TLSv1_2".to_owned(),
                door,
            }
        } else {
            Feature::HandshakeFailed {
                reason: self.reason.to_owned(),
                door,
            }
        };
        Told::seen(subject, attribution, feature, at)
    }
}

/// Why a handshake failed.
pub fn handshake(seen: &Seen, cause: &Cause<'_>) -> Failed {
    let whose = match (&seen.barred, &seen.claimed) {
        (Some(barred), _) => Some((barred.clone(), Attribution::Proven)),
        (None, Some(claimed)) => Some((claimed.clone(), Attribution::Claimed)),
        (None, None) => None,
    };
    if let Some(refusal) = &seen.refusal {
        return Failed {
            reason: refusal.code(),
            line: line(refusal),
            whose,
        };
    }
    let (code, text, actor) = told_by(seen, cause);
    Failed {
        reason: code,
        line: format!("refused {code}: {text} [{actor} must act]"),
        whose,
    }
}

fn told_by(seen: &Seen, cause: &Cause<'_>) -> (&'static str, String, &'static str) {
    if seen.foreign_server_name {
        let name = seen
            .server_name
            .as_deref()
            .unwrap_or_default()
            .escape_debug();
        let text = format!(
            "it asked for \"{name}\", which no certificate here is for; device: use a name of this \
             plane; operator: add the name to server_names, or import a certificate for it"
        );
        return ("unknown-server-name", text, "device");
    }
    match cause {
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
        Cause::Crowded => (
            "claims-in-flight",
            "as many claims are under way as this door serves at once; device: back off and try again"
                .to_owned(),
            "device",
        ),
        Cause::NotProven => (
            "handshake-unproven",
            "the handshake ended without a proven identity; please report this".to_owned(),
            "fleetward",
        ),
        Cause::Proxy(refusal) => (refusal.code(), refusal.to_string(), "operator"),
        Cause::Tls(error) => tls_error(error),
    }
}

/// The same for a door whose TLS is driven by tokio-rustls.
pub fn stream(seen: &Seen, error: &std::io::Error) -> Failed {
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
            TLS_VERSION,
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
