//! The numbers behind the judgements, each with its reason.

use std::time::Duration;

/// How the detector judges. The defaults are those of docs/detection.md.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// How long a group is watched before its habit is proposed to a person.
    pub learn_for: Duration,
    /// On how many devices a thing must have been seen from outside to be proposed as normal.
    pub peers_to_learn: u32,
    /// Below this surprise (in bits, Good-Turing) a new destination of a learned, open-minded
    /// group is no deviation.
    pub surprise_bits_min: f32,
    /// The length of one sample of a rate that is held against a learned habit. Shorter ones see
    /// every burst of ordinary life; a declared maximum is held against each minute.
    pub rate_window: Duration,
    /// CUSUM: allowance and decision limit, in standard deviations.
    pub cusum_k: f32,
    pub cusum_h: f32,
    /// The least times above expectation that an alert on a learned rate needs.
    pub rate_ratio_min: f32,
    /// Tail probability below which a count of failures is no accident.
    pub tail_p_max: f64,
    /// Silence shorter than this is never said.
    pub silence_min: Duration,
    /// The same deviation of one subject is said again after this at the earliest, unless it is
    /// worse or better attested.
    pub repeat_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            learn_for: Duration::from_secs(7 * 86_400),
            peers_to_learn: 3,
            surprise_bits_min: 6.0,
            rate_window: Duration::from_secs(900),
            cusum_k: 0.5,
            cusum_h: 15.0,
            rate_ratio_min: 3.0,
            tail_p_max: 1e-6,
            silence_min: Duration::from_secs(86_400),
            repeat_after: Duration::from_secs(3_600),
        }
    }
}

/// How alerts are kept and folded into events of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertSettings {
    /// The same on this many subjects of a group within `peers_within` is one matter. It is an
    /// event of the fleet if it is also at least `peers_permille` of the group.
    pub peers_for_event: u64,
    pub peers_permille: u64,
    pub peers_within: Duration,
    /// How long a matter that spreads, and is not yet an event, holds back the alerts of further
    /// devices that show nothing else.
    pub settle: Duration,
    /// An alert without news for this long is closed.
    pub quiet_after: Duration,
    /// Alerts kept, all together and for one subject.
    pub alerts_max: usize,
    pub alerts_per_subject_max: usize,
}

impl Default for AlertSettings {
    fn default() -> Self {
        Self {
            peers_for_event: 3,
            peers_permille: 10,
            peers_within: Duration::from_secs(86_400),
            settle: Duration::from_secs(3_600),
            quiet_after: Duration::from_secs(7 * 86_400),
            alerts_max: 50_000,
            alerts_per_subject_max: 64,
        }
    }
}
