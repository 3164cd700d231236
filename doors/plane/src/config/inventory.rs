//! `[inventory]`: how long what was observed is kept.

use serde::Deserialize;

/// `[inventory]`: how long what was observed of devices is kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InventoryConfig {
    /// Days an address of a device is kept after it was seen last, 1 to 3650. Where a device is
    /// may be personal data: keep it no longer than you need it.
    pub addresses_days: u32,
    /// Days a peer of a device is kept after it was seen last, 1 to 3650.
    pub peers_days: u32,
    /// Hours without a sign of life after which a device is silent, 1 to 8760.
    pub silent_hours: u32,
}

impl Default for InventoryConfig {
    fn default() -> Self {
        Self {
            addresses_days: 30,
            peers_days: 90,
            silent_hours: 24,
        }
    }
}
