//! What a product's devices usually do.

use model::{ProductId, Timestamp};

/// How far a baseline has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BaselineState {
    /// All that can be is declared by the fleet; nothing is learned.
    Seeded,
    /// Being watched; what is learned does not judge yet.
    Learning,
    /// Learned and judging; waits for a person before anything may be contained on it.
    Proposed,
    /// A person accepted it.
    Accepted,
}

impl BaselineState {
    pub const ALL: [Self; 4] = [Self::Seeded, Self::Learning, Self::Proposed, Self::Accepted];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seeded => "seeded",
            Self::Learning => "learning",
            Self::Proposed => "proposed",
            Self::Accepted => "accepted",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// A product's baseline, as a person reads it before accepting.
#[derive(Debug, Clone, PartialEq)]
pub struct Baseline {
    pub product: ProductId,
    pub state: BaselineState,
    /// Devices that the group has now.
    pub devices: u64,
    pub entries: Vec<BaselineEntry>,
    pub learning_since: Option<Timestamp>,
    pub proposed_at: Option<Timestamp>,
    pub accepted_at: Option<Timestamp>,
}

/// One thing that is normal, or that would be if the baseline were accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct BaselineEntry {
    /// `destination`, `listening-port`, `dns-per-minute`, `bytes-out-per-minute`, `tls-version`,
    /// `firmware`.
    pub feature: &'static str,
    pub value: String,
    /// On how many devices it was seen from outside.
    pub devices: u64,
    /// How many devices only said so themselves.
    pub reported: u64,
    pub declared: bool,
    /// Is it normal now?
    pub accepted: bool,
    pub first_seen: Option<Timestamp>,
    pub last_seen: Option<Timestamp>,
}
