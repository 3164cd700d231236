//! Certificates for a broker that is not ours, made by the `openssl` program: one CA, one server,
//! one consumer, many devices, an empty revocation list.

use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder of PEM files. The load generator finds them by these names, whoever made them:
/// `ca.pem`, `server.pem` and `server.key`, `consumer.pem` and `consumer.key`, and per device
/// `devices/device-00000.pem` and `.key`. The name is the common name and the client id.
#[derive(Debug, Clone)]
pub struct Credentials {
    pub folder: PathBuf,
}

impl Credentials {
    /// Makes what is not there yet: a device takes about 10 ms, and runs share the folder.
    ///
    /// # Errors
    /// If `openssl` is missing or refuses.
    pub fn create(folder: &Path, devices: usize) -> anyhow::Result<Self> {
        let credentials = Self {
            folder: folder.to_owned(),
        };
        std::fs::create_dir_all(folder.join("devices"))?;
        if !folder.join("ca.pem").exists() {
            credentials.authority()?;
            credentials.issue("", "server", "subjectAltName=DNS:localhost,IP:127.0.0.1")?;
            credentials.issue("", "consumer", "extendedKeyUsage=clientAuth")?;
        }
        for device in 0..devices {
            let name = format!("device-{device:05}");
            if !folder.join(format!("devices/{name}.pem")).exists() {
                credentials.issue("devices/", &name, "extendedKeyUsage=clientAuth")?;
            }
        }
        Ok(credentials)
    }

    fn authority(&self) -> anyhow::Result<()> {
        self.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
             -subj /CN=bench -addext basicConstraints=critical,CA:TRUE \
             -addext keyUsage=critical,keyCertSign,cRLSign -keyout ca.key -out ca.pem",
        )?;
        std::fs::write(self.folder.join("index.txt"), "")?;
        std::fs::write(
            self.folder.join("ca.cnf"),
            "[ca]\ndefault_ca=bench\n[bench]\ndatabase=index.txt\ndefault_md=sha256\n\
             default_crl_days=30\n",
        )?;
        self.openssl("ca -gencrl -config ca.cnf -cert ca.pem -keyfile ca.key -out crl.pem")
    }

    fn issue(&self, folder: &str, name: &str, extension: &str) -> anyhow::Result<()> {
        self.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
             -CA ca.pem -CAkey ca.key -subj /CN={name} -addext basicConstraints=critical,CA:FALSE \
             -addext {extension} -keyout {folder}{name}.key -out {folder}{name}.pem"
        ))
    }

    /// No argument of ours holds a space.
    fn openssl(&self, arguments: &str) -> anyhow::Result<()> {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(&self.folder)
            .output()
            .context("cannot run openssl; apt-get install openssl")?;
        if !output.status.success() {
            bail!(
                "openssl {arguments}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }
}
