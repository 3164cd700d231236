//! `fleetward-agent`: the device's side.

fn main() {}
