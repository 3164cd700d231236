//! What can be wrong with behaviour, how bad it is, and the number it is worked on by.

use std::fmt;

/// In which way something behaves otherwise than expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviationKind {
    /// It talks to whom it never should.
    UnexpectedDestination,
    /// It listens where it did not.
    NewListeningPort,
    /// It speaks, or asks for, an older protocol than before.
    ProtocolDowngrade,
    /// It asks more names, or other names, than its group.
    DnsSpike,
    /// Handshakes in its name fail.
    CertificateFailures,
    /// It runs what nobody released, or other than it should.
    FirmwareDrift,
    /// It sends more than its group.
    OutboundVolume,
    /// It tries what it may not.
    DeniedAttempts,
    /// Two programs use one identity.
    SharedIdentity,
    /// A report came a second time.
    ReplayedReport,
    /// It should report and does not.
    Silence,
    /// A service or a person uses the interfaces otherwise than before.
    ApiAbuse,
}

impl DeviationKind {
    pub const ALL: [Self; 12] = [
        Self::UnexpectedDestination,
        Self::NewListeningPort,
        Self::ProtocolDowngrade,
        Self::DnsSpike,
        Self::CertificateFailures,
        Self::FirmwareDrift,
        Self::OutboundVolume,
        Self::DeniedAttempts,
        Self::SharedIdentity,
        Self::ReplayedReport,
        Self::Silence,
        Self::ApiAbuse,
    ];

    /// The name in playbooks, the API, the CLI and the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnexpectedDestination => "unexpected-destination",
            Self::NewListeningPort => "new-listening-port",
            Self::ProtocolDowngrade => "protocol-downgrade",
            Self::DnsSpike => "dns-spike",
            Self::CertificateFailures => "certificate-failures",
            Self::FirmwareDrift => "firmware-drift",
            Self::OutboundVolume => "outbound-volume",
            Self::DeniedAttempts => "denied-attempts",
            Self::SharedIdentity => "shared-identity",
            Self::ReplayedReport => "replayed-report",
            Self::Silence => "silence",
            Self::ApiAbuse => "api-abuse",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

impl fmt::Display for DeviationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How bad, from what is worth a look to what cannot wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The name in playbooks, the API, the CLI and the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// The number of an incident, from 1, never used twice. Prints `INC-7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IncidentId(pub u64);

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "INC-{}", self.0)
    }
}

impl IncidentId {
    /// Reads `INC-7`; `None` for anything else, `INC-07` and `INC-0` included.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let id = Self(text.strip_prefix("INC-")?.parse().ok()?);
        (id.0 > 0 && id.to_string() == text).then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for kind in DeviationKind::ALL {
            assert_eq!(DeviationKind::from_name(kind.name()), Some(kind));
        }
        for severity in Severity::ALL {
            assert_eq!(Severity::from_name(severity.name()), Some(severity));
        }
    }

    #[test]
    fn an_incident_has_one_spelling() {
        assert_eq!(IncidentId::from_text("INC-7"), Some(IncidentId(7)));
        for text in ["", "INC-", "INC-0", "INC-07", "INC-+7", "inc-7", "INC-7 "] {
            assert_eq!(IncidentId::from_text(text), None, "{text:?}");
        }
    }
}
