//! The room from outside: grown, damaged, forked, and read by somebody who shares no code with us.

mod bundle;
mod log;
mod merkle;
mod notes;
mod python;
mod support;
