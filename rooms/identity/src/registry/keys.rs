//! A key lives in one place: who holds it, and who came by which.

use super::{Registry, table};
use crate::refusal::Refusal;
use model::{DeviceId, Digest, Principal};

/// Who holds a key that we certified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyHolder {
    Principal(Principal),
    /// A door of this plane.
    Server,
}

impl std::fmt::Display for KeyHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Principal(principal) => principal.fmt(f),
            Self::Server => f.write_str("this plane's server"),
        }
    }
}

impl Registry {
    /// Somebody else whose certificate holds this key (SHA-256 of the SubjectPublicKeyInfo): a
    /// key in two devices is a clone, or a factory that copied its image with the key in it.
    #[must_use]
    pub fn other_holder_of(&self, key: &Digest, holder: &KeyHolder) -> Option<KeyHolder> {
        let own = match holder {
            KeyHolder::Principal(principal) => self.owner_key(principal),
            KeyHolder::Server => Some(table::Owner::Server),
        };
        match self.certificates.other_owner_of(key, own)? {
            table::Owner::Server => Some(KeyHolder::Server),
            other => self.principal_at(other).map(KeyHolder::Principal),
        }
    }

    /// To be asked once it is proven that whoever wants a key certified holds it.
    ///
    /// # Errors
    /// [`Refusal::KeyOfAnother`].
    pub fn check_key(&self, key: &Digest, principal: &Principal) -> Result<(), Refusal> {
        let own = KeyHolder::Principal(principal.clone());
        match self.other_holder_of(key, &own) {
            Some(holder) => Err(Refusal::KeyOfAnother { holder }),
            None => Ok(()),
        }
    }

    /// The device that first came by a certificate with this key, if it is another one.
    pub(super) fn shown_by_another(&self, key: &Digest, device: &DeviceId) -> Option<DeviceId> {
        let row = self.shown_keys.find(key)?;
        let first = DeviceId::new(self.devices.name(row)?).ok()?;
        (first != *device).then_some(first)
    }
}
