//! The responder as the plane meets it: alerts, people, outcomes and time in; effects out.

mod attacks;
mod incidents;
mod invariants;
mod people;
mod playbooks;
mod restart;
mod world;
