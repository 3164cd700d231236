//! **Question:** what do we do now?
//!
//! Alerts become incidents, playbooks decide, people decide above their cap.
