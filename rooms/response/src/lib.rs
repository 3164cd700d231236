//! Alerts become incidents, playbooks decide what may be done at once, people decide the rest.
//!
//! **Question:** what do we do now?
//! **Standards:** the words of CACAO 2.0 (playbook, step, action); the format is ours, because a
//! closed list of four actions can be judged before it is trusted.
//! **In:** alerts with who saw what and how surely, what people decide, how acts ended, playbooks.
//! **Out:** effects for the plane to carry out, each with a step in an incident's timeline; the
//! incidents.
//! **Refuses to know:** how something was detected, how a device is cut off, how mail is sent.
//!
//! Begin with [`Responder`]; playbook files are read by [`playbook::read`]. What keeps the defender from hurting: only what is *proven* and seen
//! from *outside* the device, against a baseline that a person accepted, lets a playbook cut a
//! device off; each playbook, and all together, stop at a cap; a person overrules both.

mod cap;
mod case;
mod conduct;
mod effect;
mod format;
mod incident;
mod json_schema;
mod pending;
pub mod playbook;
mod responder;
mod text;

pub use cap::contain_max_of_all;
pub use effect::{AlertSeen, Decision, Effect, Held, Outcome, PersonAct, Remembered, Token};
pub use format::UnreadableIncident;
pub use incident::{About, Act, Asked, Evidence, Incident, IncidentState, Run, RunStep, Step};
pub use json_schema::json_schema;
pub use playbook::{Action, Mode, Playbook, PlaybookError, PlaybookStep};
pub use responder::{PlaybookUse, Responder, Settings, UnknownIncident};
