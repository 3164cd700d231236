//! Whom something is about, who saw it, and how surely it was that one.

use crate::{DeviceId, InvalidName, Principal, ServiceId};
use core::net::IpAddr;
use std::fmt;

/// Who saw it. What a device says of itself never clears it: a hijacked device lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The device's own agent reported it.
    Device,
    /// A door of the plane saw it.
    Gateway,
    /// An observer in the network saw it.
    Network,
}

impl Source {
    pub const ALL: [Self; 3] = [Self::Device, Self::Gateway, Self::Network];

    /// The name in the API, the CLI and the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Gateway => "gateway",
            Self::Network => "network",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// Of the two transports that peers and behaviour are described in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];

    /// The name in the API, the CLI and the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How surely it was the subject, and not somebody who borrowed its name. Only what is proven
/// moves a posture or starts a playbook: nobody may make us contain a victim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attribution {
    /// By an address alone, which others can share or forge.
    Address,
    /// It gave the name; its key was not proven.
    Claimed,
    /// Its key was proven, or the port it is wired to.
    Proven,
}

impl Attribution {
    pub const ALL: [Self; 3] = [Self::Address, Self::Claimed, Self::Proven];

    /// The name in the API, the CLI and the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Claimed => "claimed",
            Self::Proven => "proven",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// Whom an observation is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    Device(DeviceId),
    Service(ServiceId),
    /// By the opaque name that the log has for them; no personal data.
    Person(String),
    /// A program that shows a token of the API, by the token's name; no secret.
    Token(String),
    /// Nobody we know stands behind it.
    Address(IpAddr),
}

impl Subject {
    #[must_use]
    pub const fn device(&self) -> Option<&DeviceId> {
        match self {
            Self::Device(id) => Some(id),
            _ => None,
        }
    }
}

impl From<Principal> for Subject {
    fn from(principal: Principal) -> Self {
        match principal {
            Principal::Device(id) => Self::Device(id),
            Principal::Service(id) => Self::Service(id),
        }
    }
}

/// `device/<id>`, `service/<id>`, `person/<id>`, `token/<id>` or `address/<ip>`.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(id) => write!(f, "device/{id}"),
            Self::Service(id) => write!(f, "service/{id}"),
            Self::Person(id) => write!(f, "person/{id}"),
            Self::Token(id) => write!(f, "token/{id}"),
            Self::Address(address) => write!(f, "address/{address}"),
        }
    }
}

impl std::str::FromStr for Subject {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        // The grammar of a name keeps what is stored printable.
        if let Some(("person", id)) = text.split_once('/') {
            return DeviceId::new(id).map(|_| Self::Person(id.to_owned()));
        }
        if let Some(("token", id)) = text.split_once('/') {
            return DeviceId::new(id).map(|_| Self::Token(id.to_owned()));
        }
        if let Some(address) = text.strip_prefix("address/").and_then(|a| a.parse().ok()) {
            return Ok(Self::Address(address));
        }
        text.parse::<Principal>().map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_reads_back_as_written() {
        for text in [
            "device/cam-1",
            "service/ingest",
            "person/a1B2",
            "token/t-0a1b2c3d4e",
            "address/2001:db8::1",
        ] {
            assert_eq!(text.parse::<Subject>().unwrap().to_string(), text);
        }
        for text in ["", "device/", "person/a b", "token/", "address/x", "host/a"] {
            assert!(text.parse::<Subject>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn names_read_back() {
        for one in Source::ALL {
            assert_eq!(Source::from_name(one.name()), Some(one));
        }
        for one in Attribution::ALL {
            assert_eq!(Attribution::from_name(one.name()), Some(one));
        }
    }
}
