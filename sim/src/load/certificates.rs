//! `sim make-certs`: what a broker that is not ours needs for mutual TLS, and its clients too.

use crate::authority::{Authority, Purpose, Validity, name};
use crate::credential::{Credential, Key, pem, write_certificates, write_file};
use crate::refusal::SetupError;
use model::Timestamp;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// What to make.
#[derive(Debug, Clone)]
pub struct CertificateSet<'a> {
    /// Made if it is missing.
    pub folder: &'a Path,
    pub devices: usize,
    /// Devices are `<prefix>-00000`, `<prefix>-00001`, ..; their name is the CN.
    pub prefix: &'a str,
    /// From an hour ago until so many days from now.
    pub days: u32,
}

/// Where everything is in a folder made by [`make`].
#[derive(Debug, Clone)]
pub struct CertificatePaths {
    pub ca: PathBuf,
    pub server: (PathBuf, PathBuf),
    pub consumer: (PathBuf, PathBuf),
    /// `<name>.pem` and `<name>.key` per device.
    pub devices: PathBuf,
}

impl CertificatePaths {
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        let pair = |name: &str| {
            (
                folder.join(format!("{name}.pem")),
                folder.join(format!("{name}.key")),
            )
        };
        Self {
            ca: folder.join("ca.pem"),
            server: pair("server"),
            consumer: pair("consumer"),
            devices: folder.join("devices"),
        }
    }
}

/// Makes a CA (`ca.pem`, `ca.key`), a server certificate for localhost, 127.0.0.1 and ::1
/// (`server.pem`, `server.key`), a consumer's (`consumer.*`, CN `consumer`), and in `devices/`
/// one pair per device. All P-256, keys with mode 0600.
///
/// # Errors
/// If a file cannot be written.
pub fn make(set: &CertificateSet<'_>, now: Timestamp) -> Result<CertificatePaths, SetupError> {
    let paths = CertificatePaths::of(set.folder);
    fs::create_dir_all(&paths.devices).map_err(|source| SetupError::File {
        what: "make the folder",
        path: paths.devices.display().to_string(),
        source,
    })?;
    let ca = Authority::new("Simulation CA", now)?;
    write_certificates(&paths.ca, &[ca.certificate().to_vec()])?;
    write_file(
        &set.folder.join("ca.key"),
        pem("PRIVATE KEY", ca.key().pkcs8()).as_bytes(),
        0o600,
    )?;
    let issue = |folder: &Path, file: &str, purpose: &Purpose<'_>| {
        let key = Key::generate()?;
        let validity = Validity::of_days(set.days, now);
        let certificate = ca.issue(&name(file, None), &key, validity, purpose)?;
        Credential::new(vec![certificate], key)?.write(folder, file)
    };
    let server = Purpose::TlsServer {
        names: &["localhost"],
        addresses: &[
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ],
    };
    issue(set.folder, "server", &server)?;
    issue(set.folder, "consumer", &Purpose::TlsClient)?;
    for index in 0..set.devices {
        let file = format!("{}-{index:05}", set.prefix);
        issue(&paths.devices, &file, &Purpose::TlsClient)?;
    }
    Ok(paths)
}
