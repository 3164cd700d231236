//! How an attempt ended that did not succeed, as it looks from the client's side.

use mqtt::Reason;
use std::fmt;
use std::io;

/// Why the other end did not do what was asked. Each kind is what a real client would see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No TCP connection.
    #[error("no TCP connection: {0}")]
    Unreachable(io::ErrorKind),
    /// The server sent a fatal TLS alert. In TLS 1.3 it may arrive after the client believes
    /// the handshake done, so it is learned on the first read.
    #[error("the server refused by TLS alert {0}")]
    Alert(&'static str),
    /// We refused the server (its certificate, or its TLS).
    #[error("we refused the server: {0}")]
    Untrusted(String),
    /// The server ended the connection in an orderly way, without a word.
    #[error("the server closed the connection")]
    Closed,
    /// The connection was cut: reset, or ended in the middle of TLS.
    #[error("the connection was cut")]
    Cut,
    /// Nothing came before the deadline.
    #[error("no answer before the deadline")]
    Timeout,
    /// CONNACK with a reason of failure (3.1.1 codes appear as their 5.0 counterpart).
    #[error("CONNACK refused: {}", Explained(*.reason, .text.as_deref()))]
    Connack {
        reason: Reason,
        text: Option<String>,
    },
    /// The server sent DISCONNECT (5.0 only).
    #[error("disconnected by the server: {}", Explained(*.reason, .text.as_deref()))]
    Disconnected {
        reason: Reason,
        text: Option<String>,
    },
    /// A PUBLISH was acknowledged with a reason of failure (5.0 only).
    #[error("PUBLISH refused: {}", Explained(*.reason, .text.as_deref()))]
    Puback {
        reason: Reason,
        text: Option<String>,
    },
    /// One filter of a SUBSCRIBE was refused.
    #[error("SUBSCRIBE refused: {reason}")]
    Suback { reason: Reason },
    /// An HTTP status that is not the success asked for.
    #[error("HTTP {status}: {body}")]
    Http {
        status: u16,
        /// At most 1,024 characters, control characters escaped.
        body: String,
        retry_after: Option<String>,
    },
    /// What came is not the protocol.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// The simulation itself could not go on.
    #[error("simulation: {0}")]
    Setup(String),
}

impl Refusal {
    /// A short, stable name for counting: `alert:unknown_ca`, `connack:0x87`, `http:403`, ..
    #[must_use]
    pub fn kind(&self) -> String {
        match self {
            Self::Unreachable(kind) => format!("unreachable:{kind:?}"),
            Self::Alert(name) => format!("alert:{name}"),
            Self::Untrusted(_) => "server-untrusted".to_owned(),
            Self::Closed => "closed".to_owned(),
            Self::Cut => "cut".to_owned(),
            Self::Timeout => "timeout".to_owned(),
            Self::Connack { reason, .. } => format!("connack:0x{:02x}", reason.0),
            Self::Disconnected { reason, .. } => format!("disconnect:0x{:02x}", reason.0),
            Self::Puback { reason, .. } => format!("puback:0x{:02x}", reason.0),
            Self::Suback { reason } => format!("suback:0x{:02x}", reason.0),
            Self::Http { status, .. } => format!("http:{status}"),
            Self::Protocol(_) => "protocol".to_owned(),
            Self::Setup(_) => "setup".to_owned(),
        }
    }

    /// True if the other end said no; false if it could not be asked, did not answer, or what
    /// failed was on our side. Only the first is evidence that a bar holds.
    ///
    /// A connection that is closed or cut without a word counts: it is how a server without
    /// reason codes (MQTT 3.1.1) refuses. Use [`Self::is_spoken`] where that is too weak.
    #[must_use]
    pub fn is_by_server(&self) -> bool {
        match self {
            Self::Closed | Self::Cut => true,
            _ => self.is_spoken(),
        }
    }

    /// True if the other end said no in so many words: an alert, a reason code, a status of
    /// 400 to 499.
    #[must_use]
    pub fn is_spoken(&self) -> bool {
        match self {
            Self::Alert(_)
            | Self::Connack { .. }
            | Self::Disconnected { .. }
            | Self::Puback { .. }
            | Self::Suback { .. } => true,
            Self::Http { status, .. } => (400..500).contains(status),
            _ => false,
        }
    }

    /// True if the session is over; a refused PUBLISH or SUBSCRIBE leaves it open.
    #[must_use]
    pub fn ends_session(&self) -> bool {
        !matches!(self, Self::Puback { .. } | Self::Suback { .. })
    }
}

impl From<SetupError> for Refusal {
    fn from(error: SetupError) -> Self {
        Self::Setup(error.to_string())
    }
}

/// A reason, and what the server added.
struct Explained<'a>(Reason, Option<&'a str>);

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(reason, text) = self;
        write!(f, "{reason}")?;
        text.map_or(Ok(()), |text| write!(f, ", {text:?}"))
    }
}

/// Why the simulation could not prepare something: keys, files, settings. Whoever runs it acts.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("the cryptographic library refused to {0}")]
    Crypto(&'static str),
    #[error("cannot {what} {path}: {source}; check the path and its permissions")]
    File {
        what: &'static str,
        path: String,
        source: io::Error,
    },
    #[error("{path} holds no {what} in PEM form; name a file that does")]
    Pem { what: &'static str, path: String },
    #[error("{0} is not a host name or an IP address")]
    ServerName(String),
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error("{0}")]
    Argument(String),
    #[error("the operating system refused to {what}: {source}")]
    System {
        what: &'static str,
        source: io::Error,
    },
}
