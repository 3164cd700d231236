//! Our own certificate: made by our issuing CA for `server_names`, new at two thirds of its life.

use super::imported::shown;
use super::{DoorName, Entry, Shown, Source};
use crate::config::Config;
use crate::entries;
use crate::plane::{Plane, leaf, random};
use identity::{OwnCas, Realm, profile};
use model::Timestamp;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use signer::{KeyName, Purpose, Signer};
use std::sync::Arc;
use std::time::Duration;
use store::{Change, Direction, Store, Write};

const LIFETIME: Duration = Duration::from_secs(90 * 86_400);
const CERTIFICATE: &str = "identity.server-certificate";
const NAMES: &str = "identity.server-names";

/// What it takes to make one.
#[derive(Clone, Copy)]
pub struct Maker<'p> {
    pub config: &'p Config,
    pub store: &'p Store,
    pub signer: &'p Signer,
    pub realm: &'p Realm,
    pub own_cas: &'p OwnCas,
    pub issuer: &'p profile::Issuer,
}

impl<'p> Maker<'p> {
    #[must_use]
    pub fn of(plane: &'p Plane) -> Self {
        Self {
            config: &plane.config,
            store: &plane.store,
            signer: &plane.signer,
            realm: &plane.realm,
            own_cas: &plane.own_cas,
            issuer: &plane.issuer,
        }
    }

    /// The stored one while it is young and for these names, else a new one.
    ///
    /// # Errors
    /// The store or the signer.
    pub fn entry(self, now: Timestamp) -> anyhow::Result<Entry> {
        let names = self.config.server_names.join(" ");
        let stored = self.store.meta(CERTIFICATE)?.filter(
            |_| matches!(self.store.meta(NAMES), Ok(Some(stored)) if stored == names.as_bytes()),
        );
        let kept = stored.filter(|der| is_young(der, now));
        let shown = match kept.and_then(|der| self.shown(der, now).ok()) {
            Some(shown) => shown,
            None => self.shown(self.make(names, now)?, now)?,
        };
        Ok(Entry {
            source: Source::Own,
            doors: DoorName::ALL.to_vec(),
            is_default: false,
            shown: Some(Arc::new(shown)),
            trouble: None,
        })
    }

    /// Behind the leaf whichever issuing CA of ours signed it; none did if that one is gone.
    fn shown(self, leaf: Vec<u8>, now: Timestamp) -> anyhow::Result<Shown> {
        let leaf = CertificateDer::from(leaf);
        let pkcs8 = self.signer.tls_key();
        let mut last = anyhow::anyhow!("there is no issuing CA");
        for issuer in &self.own_cas.issuing {
            let chain = vec![leaf.clone(), CertificateDer::from(issuer.clone())];
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.as_slice())).clone_key();
            match shown(chain, key, 1, &[], now) {
                Ok(shown) => return Ok(shown),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn make(self, names: String, now: Timestamp) -> anyhow::Result<Vec<u8>> {
        let terms = profile::Terms {
            public_key: self.signer.public_key(KeyName::Server),
            serial_random: random().map_err(|trouble| anyhow::anyhow!("{trouble}"))?,
            now,
            lifetime: LIFETIME,
        };
        let asked: Vec<&str> = self
            .config
            .server_names
            .iter()
            .map(String::as_str)
            .collect();
        let unsigned = profile::server(self.realm, &asked, self.issuer, &terms)?;
        let certificate = unsigned.certificate();
        let signature = self
            .signer
            .sign(Purpose::ServerCertificate, unsigned.to_be_signed())?;
        let der = unsigned.assemble(&signature)?;
        let act = entries::server_certified(now, certificate, &self.config.server_names);
        let entry = leaf(self.realm.tenant().clone(), &act)
            .map_err(|trouble| anyhow::anyhow!("{trouble}"))?;
        // Neutral: a sealed plane must show something to whoever comes to unseal it.
        let change = Change::new(Direction::Neutral)
            .write(Write::PutMeta {
                key: CERTIFICATE.into(),
                value: der.clone(),
            })
            .write(Write::PutMeta {
                key: NAMES.into(),
                value: names.into_bytes(),
            })
            .entry(entry);
        self.store.commit(change)?;
        Ok(der)
    }
}

/// Whether less than two thirds of its life are over.
fn is_young(der: &[u8], now: Timestamp) -> bool {
    let Ok((not_before, not_after)) = identity::validity(der) else {
        return false;
    };
    let life = not_after.since(not_before);
    not_before <= now && now < not_before.plus(life * 2 / 3)
}
