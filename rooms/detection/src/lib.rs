//! **Question:** is it behaving?
//!
//! What doors, the network and devices observed is held against what the fleet declares and what
//! a group of devices usually does. What differs becomes a deviation that a person can read;
//! deviations of one thing become one alert, and the same on many peers one event of the fleet.
//!
//! **In:** observations with their source and attribution, in order; what the fleet declares; the
//! time. **Out:** deviations (expected, seen, since, by whom), alerts, baselines for a person to
//! accept, one deadline.
//! **Standards:** none rules here; the statistics are CUSUM (Page 1954, Siegmund 1985), robust
//! seasonal means, negative-binomial tails and Good-Turing surprise, chosen because each can be
//! explained in a sentence.
//! **Refuses to know:** where observations come from, who is told, what is done about it, any
//! clock, any table on disk.
//!
//! Three rules hold throughout. What a device says of itself may raise and never clears, and never
//! makes anything normal. Nothing is normal for good before a person accepted it, save for what
//! the fleet declares. And every collection has a cap that one device cannot use up for another.

mod alert;
mod baseline;
mod declared;
mod detector;
mod deviation;
mod device;
pub mod device_defender;
mod habit;
mod judge;
mod observation;
mod pack;
mod parts;
mod places;
pub mod report;
mod settings;
mod statistics;
mod text;
mod visitors;

pub use alert::{Alert, AlertChange, AlertId, AlertState, Alerts, Evidence};
pub use baseline::{Baseline, BaselineEntry, BaselineState};
pub use declared::{Declared, DeclaredDestination, DeclaredFirmware};
pub use detector::{Detector, SnapshotError};
pub use deviation::Deviation;
pub use device_defender::{DefenderRefusal, DefenderReport, DefenderReports};
pub use observation::{Feature, Observation};
pub use report::{Report, ReportError};
pub use settings::{AlertSettings, Settings};
pub use text::shown;
