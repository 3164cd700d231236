//! `[[listen.certificates]]`: what is shown beside our own certificate.

use serde::Deserialize;
use std::path::PathBuf;

/// More than anybody shows at one address.
pub const IMPORTED_MAX: usize = 32;

/// A door by its name in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DoorName {
    People,
    Devices,
    Mqtt,
}

impl DoorName {
    pub const ALL: [Self; 3] = [Self::People, Self::Devices, Self::Mqtt];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::People => "people",
            Self::Devices => "devices",
            Self::Mqtt => "mqtt",
        }
    }
}

/// One of `[[listen.certificates]]`: a chain of another CA. Clients that ask for one of its names
/// are shown it; everybody else sees our own. Two with the same names may stand side by side if
/// their keys are of different algorithms: each client is shown what it can verify.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImportedCertificate {
    /// PEM: the leaf, behind it its issuer.
    pub chain_file: PathBuf,
    /// The leaf's private key, PEM, not encrypted; a file of mode 0600.
    pub key_file: PathBuf,
    /// Names it is shown for. Empty: all that the leaf holds.
    pub names: Vec<String>,
    /// Doors it is shown at: `people`, `devices`, `mqtt`. Empty: all.
    pub doors: Vec<DoorName>,
    /// Also show it at these doors to clients that ask for no name.
    pub default: bool,
    /// Certificates that may be sent behind the leaf, 0 to 3; 1 if not said.
    pub intermediates_max: Option<usize>,
}

impl ImportedCertificate {
    #[must_use]
    pub fn doors(&self) -> Vec<DoorName> {
        if self.doors.is_empty() {
            DoorName::ALL.to_vec()
        } else {
            self.doors.clone()
        }
    }

    /// What can be told without looking at the files.
    ///
    /// # Errors
    /// Which key, and what to write.
    pub fn check(&self) -> Result<(), String> {
        let unnamed = |file: &PathBuf| file.as_os_str().is_empty();
        if unnamed(&self.chain_file) || unnamed(&self.key_file) {
            return Err("name a chain_file and a key_file".into());
        }
        if self.intermediates_max.is_some_and(|max| max > 3) {
            return Err("intermediates_max is not in 0 to 3".into());
        }
        if self.names.len() > 100 {
            return Err("names: 100 at most".into());
        }
        Ok(())
    }
}
