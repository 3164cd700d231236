//! Why an act was not done.

use access::Diagnostic;
use identity::{Refusal, profile};
use model::DeviceId;
use store::CommitError;

/// Why an act was not done. The API maps it to a status, in one place.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error(transparent)]
    Identity(#[from] Refusal),
    #[error(transparent)]
    Request(#[from] identity::csr::CsrRefusal),
    #[error(transparent)]
    Ownership(#[from] identity::ownership::OwnershipRefusal),
    #[error(transparent)]
    Est(#[from] identity::est::BodyRefusal),
    /// Asked for something that is not permitted or makes no sense; the text says what to do.
    #[error("{text}")]
    Refused { code: &'static str, text: String },
    /// Whoever asks may not; the text says who lets them.
    #[error("{text}")]
    Forbidden { code: &'static str, text: String },
    /// It was decided on something that has changed since: read again.
    #[error("{text}")]
    Stale { code: &'static str, text: String },
    /// Nothing is wrong with it but the moment.
    #[error("{text}")]
    Later {
        code: &'static str,
        text: String,
        seconds: u32,
        /// Whoever asks comes too often; else we have no room.
        too_often: bool,
    },
    /// It is not what it was when it was looked at.
    #[error("{text}")]
    Moved { text: String },
    /// There is no such thing.
    #[error("{text}")]
    Unknown { code: &'static str, text: String },
    #[error("the fleet is refused in {} place(s)", .0.len())]
    Fleet(Vec<Diagnostic>),
    #[error("{0}")]
    Commit(CommitError),
    /// A withdrawal is in force but not on record, so nothing may be granted.
    #[error(
        "a revocation or containment is in force that could not be recorded yet; nothing is granted \
         until it is. \
         Operator: see the log for what the disk says"
    )]
    GrantingStopped,
    /// The withdrawal was carried out; recording it is being tried again.
    #[error("it is in force but could not be recorded ({0}); it is tried again")]
    InForceUnrecorded(CommitError),
    #[error("a fault of ours: {0}; please report it")]
    Fault(String),
}

impl Trouble {
    #[must_use]
    pub fn refused(code: &'static str, text: impl Into<String>) -> Self {
        Self::Refused {
            code,
            text: text.into(),
        }
    }

    /// Nobody expects it, and it has no certificate.
    #[must_use]
    pub fn device_unknown(device: &DeviceId) -> Self {
        Self::Unknown {
            code: "device-unknown",
            text: format!("no device {device} is expected or enrolled"),
        }
    }

    pub fn fault(error: impl std::fmt::Display) -> Self {
        Self::Fault(error.to_string())
    }
}

impl From<CommitError> for Trouble {
    fn from(error: CommitError) -> Self {
        Self::Commit(error)
    }
}

impl From<profile::ProfileError> for Trouble {
    fn from(error: profile::ProfileError) -> Self {
        Self::fault(error)
    }
}

impl From<store::ReadError> for Trouble {
    fn from(error: store::ReadError) -> Self {
        Self::fault(error)
    }
}
