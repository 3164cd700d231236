//! **Question:** what is out there?
//!
//! Devices, where they are, whom they talk to, what they run, and what a list of them tells.
