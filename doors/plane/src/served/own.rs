//! Our own certificate: made by the CA of ours that certifies servers, for `server_names`; new at
//! two thirds of its life, or when another CA has taken over.

use super::imported::shown;
use super::{DoorName, Entry, Source};
use crate::certify::tree::{Issuing, Tree, terms};
use crate::config::Config;
use crate::entries;
use crate::plane::leaf;
use identity::{Realm, certificate_id, profile};
use model::Timestamp;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use signer::{Purpose, Signer};
use std::sync::Arc;
use std::time::Duration;
use store::{Certificate, Change, Direction, Holder, Store, Write};

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
    pub tree: &'p Tree,
}

impl Maker<'_> {
    /// The stored one while it is good, else a new one.
    ///
    /// # Errors
    /// The store or the signer.
    pub fn entry(self, now: Timestamp) -> anyhow::Result<Entry> {
        let asked = &self.config.server_names;
        let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
        let names = asked.join(" ");
        let authority = self.tree.for_server(&asked)?;
        let stored = self.store.meta(CERTIFICATE)?.filter(|der| {
            matches!(self.store.meta(NAMES), Ok(Some(stored)) if stored == names.as_bytes())
                && certificate_id(der).is_ok_and(|id| id.issuer() == authority.issuer.id())
                && is_young(der, now)
        });
        let der = match stored {
            Some(der) => der,
            None => self.make(authority, &asked, names, now)?,
        };
        let mut chain = vec![
            CertificateDer::from(der),
            CertificateDer::from(authority.certificate.clone()),
        ];
        let link = self.tree.link_shown();
        chain.extend(link.map(|link| CertificateDer::from(link.to_vec())));
        let pkcs8 = self.signer.tls_key();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.as_slice())).clone_key();
        let shown = shown(chain, key, 1 + usize::from(link.is_some()), &[], now)?;
        Ok(Entry {
            source: Source::Own,
            doors: DoorName::ALL.to_vec(),
            is_default: false,
            renews_at: Some(shown.two_thirds()),
            shown: Some(Arc::new(shown)),
            trouble: None,
        })
    }

    fn make(
        self,
        authority: &Issuing,
        asked: &[&str],
        names: String,
        now: Timestamp,
    ) -> anyhow::Result<Vec<u8>> {
        let terms = terms(self.signer.server_public_key(), now, LIFETIME)?;
        let unsigned = profile::server(self.realm, asked, &authority.issuer, &terms)?;
        let id = unsigned.certificate();
        let (not_before, not_after) = (unsigned.not_before(), unsigned.not_after());
        let signature = (self.signer).sign(Purpose::ServerCertificate, unsigned.to_be_signed())?;
        let der = unsigned.assemble(&signature)?;
        let act = entries::server_certified(now, id, &self.config.server_names);
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
            .write(Write::PutCertificate(Certificate {
                id,
                holder: Holder::Server,
                not_before,
                not_after,
                key: identity::public_key_digest(&der).ok(),
                key_kind: identity::KeyKind::of(self.signer.server_public_key())
                    .ok()
                    .map(|kind| kind.to_string()),
                der: der.clone(),
            }))
            .entry(leaf(self.realm.tenant().clone(), &act)?);
        self.store.commit(change)?;
        Ok(der)
    }
}

/// Whether less than two thirds of its life are over.
pub(crate) fn is_young(der: &[u8], now: Timestamp) -> bool {
    let Ok((not_before, not_after)) = identity::validity(der) else {
        return false;
    };
    let life = not_after.since(not_before);
    not_before <= now && now < not_before.plus(life * 2 / 3)
}
