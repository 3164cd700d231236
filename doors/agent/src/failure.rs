//! Why a connection or a request did not go well, and who can put it right.

use mqtt::Reason;
use std::io;

#[derive(Debug)]
pub enum Failure {
    /// No connection, or it broke.
    Unreachable(io::Error),
    /// The name of the plane cannot be resolved.
    Unresolved(String),
    /// The other side did not answer in time.
    Timeout,
    /// The plane refused our certificate, by this alert of TLS.
    Alert(&'static str),
    /// The plane's certificate does not hold, or the handshake cannot be agreed.
    Tls(String),
    /// CONNACK with a failure.
    Connack(Reason, Option<String>),
    /// The plane ended the session.
    Disconnected(Reason, Option<String>),
    /// The EST door answered with this status and text.
    Http(u16, String),
    /// EST: it will be decided by a person; ask again after so many seconds.
    Pending(u64),
    /// What came is not what the standard says.
    Protocol(&'static str),
    /// Something here cannot be used: a file, a key.
    Local(anyhow::Error),
    /// We were asked to end.
    Stopped,
}

impl Failure {
    /// True if the handshake itself failed: what a report counts as `tls_failures`.
    pub const fn is_tls(&self) -> bool {
        matches!(self, Self::Alert(_) | Self::Tls(_))
    }

    /// True if the plane knows us by this certificate no longer, or not any more: another
    /// certificate may be let in.
    pub fn refuses_certificate(&self) -> bool {
        match self {
            Self::Alert(_) => true,
            Self::Connack(reason, _) | Self::Disconnected(reason, _) => {
                *reason == Reason::NOT_AUTHORIZED
            }
            Self::Http(status, _) => matches!(status, 401 | 403),
            _ => false,
        }
    }

    /// True if nobody answered: the plane may be elsewhere.
    pub const fn finds_nobody(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_) | Self::Unresolved(_) | Self::Timeout
        )
    }

    /// True if the plane cut this device off, by which it ends the session before it could say so.
    pub fn cuts_off(&self) -> bool {
        matches!(self, Self::Disconnected(reason, _) if *reason == Reason::ADMINISTRATIVE_ACTION)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let with = |text: &Option<String>| {
            text.as_deref()
                .map_or_else(String::new, |text| format!(" ({})", printable(text)))
        };
        match self {
            Self::Unreachable(error) => write!(f, "the plane cannot be reached: {error}"),
            Self::Unresolved(host) => {
                write!(
                    f,
                    "{host} cannot be resolved: check plane.est, plane.mqtt and the resolver"
                )
            }
            Self::Timeout => f.write_str("the plane did not answer in time"),
            Self::Alert(alert) => write!(
                f,
                "the plane refused our certificate ({alert}); its operator sees why"
            ),
            Self::Tls(text) => write!(f, "TLS failed: {}", printable(text)),
            Self::Connack(reason, text) => {
                write!(
                    f,
                    "the plane refused the session: {}{}",
                    reason.name(),
                    with(text)
                )
            }
            Self::Disconnected(reason, text) => {
                write!(
                    f,
                    "the plane ended the session: {}{}",
                    reason.name(),
                    with(text)
                )
            }
            Self::Http(status, text) => {
                write!(
                    f,
                    "the plane refused the request: {status} {}",
                    printable(text)
                )
            }
            Self::Pending(seconds) => {
                write!(
                    f,
                    "a person must approve at the plane; asking again in {seconds} s"
                )
            }
            Self::Protocol(what) => write!(f, "the plane's answer cannot be read: {what}"),
            Self::Local(error) => write!(f, "{error:#}"),
            Self::Stopped => f.write_str("asked to end"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Unreachable(error)
    }
}

/// Text from outside, fit for a terminal and a log line: at most 200 characters, control
/// characters and what reorders text escaped.
pub fn printable(text: &str) -> String {
    let mut out = String::new();
    for c in text.trim_end().chars().take(200) {
        if c == ' ' || c.is_alphanumeric() || c.is_ascii_punctuation() {
            out.push(c);
        } else {
            out.extend(c.escape_unicode());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_answer_cannot_act_on_the_terminal() {
        let text = "no\u{1b}[2J\r\n\u{202e}x é";
        assert_eq!(printable(text), "no\\u{1b}[2J\\u{d}\\u{a}\\u{202e}x é");
        assert_eq!(printable(&"a".repeat(1000)).len(), 200);
    }
}
