//! What differs from what was expected, in words a person reads.

use model::{Attribution, DeviationKind, ProductId, Severity, Source, Subject, Timestamp};

/// One judgement. All text is printable, cut, and safe to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deviation {
    pub subject: Subject,
    pub kind: DeviationKind,
    /// What it is about (`203.0.113.66:4444/tcp`): with subject and kind, the key of an alert.
    pub entity: String,
    pub expected: String,
    pub seen: String,
    /// When it began, as far as we saw.
    pub since: Timestamp,
    pub at: Timestamp,
    pub source: Source,
    pub attribution: Attribution,
    pub severity: Severity,
    /// Who saw it: `gateway (mqtt)`, `network (bridge port)`, `device report`.
    pub observed_by: String,
    /// The expectation was declared by the fleet or accepted by a person. What only the group's
    /// habit says may alert and never contains.
    pub accepted_baseline: bool,
    /// The product whose baseline was asked, and how many devices it has.
    pub group: Option<ProductId>,
    pub group_size: u64,
}
