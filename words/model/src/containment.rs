//! How far a device is cut off.

/// Cut off, but not gone: its identity stays and it can be restored. Free is `None` of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Containment {
    /// Talks to this plane and to nothing else, and may renew its certificate.
    Quarantined,
    /// Talks to nothing, this plane included.
    Isolated,
}

impl Containment {
    pub const ALL: [Self; 2] = [Self::Quarantined, Self::Isolated];

    /// The name in the API, the CLI, the log and towards the device.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quarantined => "quarantined",
            Self::Isolated => "isolated",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_the_harder_one_is_greater() {
        for one in Containment::ALL {
            assert_eq!(Containment::from_name(one.name()), Some(one));
        }
        assert!(Containment::Isolated > Containment::Quarantined);
    }
}
