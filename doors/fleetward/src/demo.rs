//! `fleetward demo`.
