//! How far a device is shown to be what it says.

/// Posture as a level: what is known of the key that speaks, and of the state that it speaks from.
/// A greater one is more. It is this plane's verdict, never what a device merely reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Assurance {
    /// Its latest evidence contradicts the reference values (RFC 9334): it runs what it should not.
    Contraindicated,
    /// It proved its identity; where its key lies nobody knows.
    #[default]
    Identified,
    /// A chip was shown to have made its key and to hold it.
    HardwareHeld,
    /// And its evidence agreed with the reference values, not long ago.
    Attested,
}

impl Assurance {
    pub const ALL: [Self; 4] = [
        Self::Contraindicated,
        Self::Identified,
        Self::HardwareHeld,
        Self::Attested,
    ];

    /// The word in policies, rows and answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Contraindicated => "contraindicated",
            Self::Identified => "identified",
            Self::HardwareHeld => "hardware-held",
            Self::Attested => "attested",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}
