//! What is done about an incident, and who is told of it.

pub mod acting;
pub mod deciding;
pub mod groups;
pub mod notify;
pub mod timeline;
