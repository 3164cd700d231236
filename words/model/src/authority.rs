//! Certificate authorities of ours, by name and by what they may sign.

use crate::InvalidName;
use std::fmt;

/// What a certificate of ours is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CertificateUse {
    /// A device's LDevID.
    Device,
    /// A back-end program.
    Service,
    /// A TLS server of this plane.
    Server,
    /// A person.
    Operator,
}

impl CertificateUse {
    pub const ALL: [Self; 4] = [Self::Device, Self::Service, Self::Server, Self::Operator];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Service => "service",
            Self::Server => "server",
            Self::Operator => "operator",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// What an issuing CA may sign: every use, some that name clients, or servers alone. A mixture of
/// servers and some clients is none: it could be bound to neither kind of name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertificateUses(u8);

impl CertificateUses {
    pub const EVERY: Self = Self(0b1111);
    pub const SERVER: Self = Self::only(CertificateUse::Server);

    #[must_use]
    pub const fn only(one: CertificateUse) -> Self {
        Self(1 << one as u8)
    }

    /// `None` if there is none, or servers are mixed with some clients.
    #[must_use]
    pub fn of(uses: &[CertificateUse]) -> Option<Self> {
        let all = uses.iter().fold(0, |all, one| all | Self::only(*one).0);
        let mixes = all & Self::SERVER.0 != 0 && all != Self::SERVER.0;
        Some(Self(all)).filter(|found| all != 0 && (!mixes || *found == Self::EVERY))
    }

    #[must_use]
    pub const fn contains(self, one: CertificateUse) -> bool {
        self.0 & (1 << one as u8) != 0
    }
}

/// `device+service`, or `every`.
impl fmt::Display for CertificateUses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::EVERY {
            return f.write_str("every");
        }
        let mut between = "";
        for one in CertificateUse::ALL {
            if self.contains(one) {
                write!(f, "{between}{}", one.name())?;
                between = "+";
            }
        }
        Ok(())
    }
}

impl fmt::Debug for CertificateUses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uses({self})")
    }
}

impl std::str::FromStr for CertificateUses {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text == "every" {
            return Ok(Self::EVERY);
        }
        let uses: Option<Vec<CertificateUse>> =
            text.split('+').map(CertificateUse::from_name).collect();
        uses.as_deref()
            .and_then(Self::of)
            // One spelling only: it stands in file names.
            .filter(|found| *found != Self::EVERY && found.to_string() == text)
            .ok_or_else(|| {
                InvalidName::new(
                    "CA's uses",
                    text,
                    "write every, server, or some of device, service and operator in this order, \
                     joined by +",
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_have_one_spelling() {
        for text in [
            "every",
            "server",
            "device",
            "device+service",
            "service+operator",
        ] {
            assert_eq!(text.parse::<CertificateUses>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "+",
            "device+",
            "service+device",
            "device+device",
            "device+server",
            "device+service+server+operator",
            "ca",
            "Device",
        ] {
            assert!(text.parse::<CertificateUses>().is_err(), "{text:?}");
        }
        assert!(CertificateUses::EVERY.contains(CertificateUse::Server));
        assert!(!CertificateUses::SERVER.contains(CertificateUse::Device));
    }
}
