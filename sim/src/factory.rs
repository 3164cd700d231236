//! A simulated manufacturer: a CA in a factory, and the identities it burns into devices.
//!
//! Its certificates are written by code of their own, not by the room that judges them.

use crate::authority::{Authority, DAY, Purpose, Validity, name};
use crate::credential::{Credential, Key, pem, write_certificates, write_file};
use crate::refusal::SetupError;
use model::{SerialNumber, Timestamp};
use std::path::Path;

/// A manufacturer.
pub struct Factory {
    common_name: String,
    authority: Authority,
}

/// What is wrong with an IDevID, on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// Issued by somebody else's CA that bears the same name as ours.
    Stranger,
    /// Its time ended yesterday.
    Expired,
    /// Its time begins tomorrow.
    NotYetValid,
    /// A true certificate, shown by one who does not have its key.
    WrongKey,
}

impl Flaw {
    /// All that must be refused.
    pub const BAD: [Self; 4] = [
        Self::Stranger,
        Self::Expired,
        Self::NotYetValid,
        Self::WrongKey,
    ];
}

impl Factory {
    /// A factory with a new CA key (P-256) and a self-signed CA certificate.
    ///
    /// # Errors
    /// If the cryptographic library refuses.
    pub fn new(common_name: &str, now: Timestamp) -> Result<Self, SetupError> {
        Ok(Self {
            common_name: common_name.to_owned(),
            authority: Authority::new(common_name, now)?,
        })
    }

    /// The CA certificate, DER: what a plane registers.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        self.authority.certificate()
    }

    /// The same as PEM text.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", self.certificate())
    }

    /// Makes a device's factory identity: a key and its IDevID, without end (IEEE 802.1AR
    /// section 8.7), subject `CN=<name>, serialNumber=<serial>`.
    ///
    /// # Errors
    /// If the cryptographic library refuses.
    pub fn idevid(
        &self,
        serial: &SerialNumber,
        flaw: Flaw,
        now: Timestamp,
    ) -> Result<Credential, SetupError> {
        let key = Key::generate()?;
        let subject = name(
            &format!("{} device", self.common_name),
            Some(serial.as_str()),
        );
        let endless = Validity::endless(now);
        let validity = match flaw {
            Flaw::Expired => Validity {
                not_before: now.minus(DAY.saturating_mul(30)),
                not_after: now.minus(DAY),
            },
            Flaw::NotYetValid => Validity {
                not_before: now.plus(DAY),
                ..endless
            },
            Flaw::None | Flaw::Stranger | Flaw::WrongKey => endless,
        };
        let stranger;
        let authority = if flaw == Flaw::Stranger {
            stranger = Authority::new(&self.common_name, now)?;
            &stranger
        } else {
            &self.authority
        };
        let certificate = authority.issue(&subject, &key, validity, &Purpose::Idevid)?;
        let held = if flaw == Flaw::WrongKey {
            Key::generate()?
        } else {
            key
        };
        Credential::new(vec![certificate], held)
    }

    /// Writes `<name>.pem` and `<name>.key` (mode 0600) of the CA into `folder`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, folder: &Path, name: &str) -> Result<(), SetupError> {
        write_certificates(
            &folder.join(format!("{name}.pem")),
            &[self.certificate().to_vec()],
        )?;
        write_file(
            &folder.join(format!("{name}.key")),
            pem("PRIVATE KEY", self.authority.key().pkcs8()).as_bytes(),
            0o600,
        )
    }
}
