//! `[[listen.certificates]]` and `[listen.acme]`: what is shown beside our own certificate.

use serde::Deserialize;
use std::net::{IpAddr, SocketAddr};
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
    Alpn,
}

impl DoorName {
    pub const ALL: [Self; 4] = [Self::People, Self::Devices, Self::Mqtt, Self::Alpn];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::People => "people",
            Self::Devices => "devices",
            Self::Mqtt => "mqtt",
            Self::Alpn => "alpn",
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
    /// Doors it is shown at: `people`, `devices`, `mqtt`, `alpn`. Empty: all.
    pub doors: Vec<DoorName>,
    /// Also show it at these doors to clients that ask for no name.
    pub default: bool,
    /// Certificates that may be sent behind the leaf, 0 to 3; 1 if not said.
    pub intermediates_max: Option<usize>,
}

impl ImportedCertificate {
    #[must_use]
    pub fn doors(&self) -> Vec<DoorName> {
        or_all(&self.doors)
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

/// `[listen.acme]`: a certificate that an ACME CA (RFC 8555) gives and renews.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AcmeSettings {
    /// The CA's directory, `https://…`. Empty: none is asked.
    pub directory: String,
    /// You have read the CA's terms and agree; no account is made otherwise.
    pub terms_agreed: bool,
    /// Mail addresses the CA may write to.
    pub contact: Vec<String>,
    /// DNS names to be certified, 1 to 32; the CA must reach this plane by each.
    pub names: Vec<String>,
    /// Doors it is shown at: `people`, `devices`, `mqtt`. Empty: all.
    pub doors: Vec<DoorName>,
    /// Also show it at these doors to clients that ask for no name.
    pub default: bool,
    /// How the CA is shown that the names are ours: `tls-alpn-01` (RFC 8737) or `http-01`.
    pub challenge: ChallengeKind,
    /// Where `tls-alpn-01` is answered: `people` or `devices`. The CA connects to port 443 of each
    /// name, which must lead to this door.
    pub challenge_door: DoorName,
    /// Where `http-01` is answered, and nothing else. The CA connects to port 80 of each name.
    pub challenge_http: SocketAddr,
    /// Root certificates (PEM) by which the CA's own HTTPS is checked. Empty: this system's.
    pub roots_file: PathBuf,
    /// The account at the CA that ours is bound to, where it asks for that.
    pub eab_key_id: String,
    /// Its key in base64url; a file of mode 0600.
    pub eab_key_file: PathBuf,
    /// Certificates that may be sent behind the leaf, 0 to 3; 1 if not said.
    pub intermediates_max: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum ChallengeKind {
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    #[serde(rename = "http-01")]
    Http01,
}

impl Default for AcmeSettings {
    fn default() -> Self {
        Self {
            directory: String::new(),
            terms_agreed: false,
            contact: Vec::new(),
            names: Vec::new(),
            doors: Vec::new(),
            default: false,
            challenge: ChallengeKind::TlsAlpn01,
            challenge_door: DoorName::People,
            challenge_http: SocketAddr::from(([0, 0, 0, 0], 80)),
            roots_file: PathBuf::new(),
            eab_key_id: String::new(),
            eab_key_file: PathBuf::new(),
            intermediates_max: None,
        }
    }
}

impl AcmeSettings {
    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.directory.is_empty()
    }

    #[must_use]
    pub fn doors(&self) -> Vec<DoorName> {
        or_all(&self.doors)
    }

    /// # Errors
    /// Which key, and what to write.
    pub fn check(&self, is_dns_name: impl Fn(&str) -> bool) -> Result<(), (&'static str, String)> {
        if !self.is_set() {
            return Ok(());
        }
        let refuse = |key, rule: &str| Err((key, rule.to_owned()));
        if !self.directory.starts_with("https://") || self.directory.contains('@') {
            return refuse("listen.acme.directory", "write https://, and no password");
        }
        if !self.terms_agreed {
            let rule = "read the CA's terms of service, then set it to true";
            return refuse("listen.acme.terms_agreed", rule);
        }
        if !(1..=32).contains(&self.names.len()) {
            return refuse("listen.acme.names", "name 1 to 32");
        }
        let is_name = |name: &String| is_dns_name(name) && name.parse::<IpAddr>().is_err();
        if let Some(name) = self.names.iter().find(|name| !is_name(name)) {
            let rule = format!("{name:?} is no DNS name; a wildcard cannot be proven here");
            return refuse("listen.acme.names", &rule);
        }
        if self.challenge_door == DoorName::Mqtt {
            let rule =
                "write people, devices or alpn: the MQTT door lets nobody in without a certificate";
            return refuse("listen.acme.challenge_door", rule);
        }
        if self.eab_key_id.is_empty() != self.eab_key_file.as_os_str().is_empty() {
            return refuse("listen.acme.eab_key_file", "goes with eab_key_id");
        }
        if self.intermediates_max.is_some_and(|max| max > 3) {
            return refuse("listen.acme.intermediates_max", "write 0 to 3");
        }
        Ok(())
    }
}

fn or_all(doors: &[DoorName]) -> Vec<DoorName> {
    if doors.is_empty() {
        DoorName::ALL.to_vec()
    } else {
        doors.to_vec()
    }
}
