//! The store from outside: what is acknowledged is there, what is refused leaves no trace.

mod bench;
mod change;
mod crash;
mod disk;
mod fixture;
mod folder;
mod journal;
mod log;
mod published;
mod rows;
