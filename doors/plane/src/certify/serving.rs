//! The certificate of this plane's own doors.

use super::tree::{Tree, terms};
use crate::clock;
use crate::config::Config;
use crate::entries;
use crate::listen::tls::Served;
use crate::plane::{Plane, leaf};
use identity::{Realm, certificate_id, profile};
use model::Timestamp;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use signer::{Purpose, Signer};
use std::sync::Arc;
use std::time::Duration;
use store::{Certificate, Change, Direction, Holder, Store, Write};

const LIFETIME: Duration = Duration::from_secs(90 * 86_400);

const CERTIFICATE: &str = "identity.server-certificate";
const NAMES: &str = "identity.server-names";

/// Makes and serves the next certificate if the present one is past two thirds of its life, or its
/// CA no longer the one that certifies servers.
///
/// # Errors
/// The store or the signer; the present certificate is served on.
pub fn renew(plane: &Plane) -> anyhow::Result<()> {
    let served = certificate(
        &plane.config,
        &plane.store,
        &plane.signer,
        &plane.realm,
        &plane.tree(),
        clock::now(),
    )?;
    plane.trust().served.replace(Arc::new(served));
    Ok(())
}

/// The stored one while it is good, else a new one.
///
/// # Errors
/// The store or the signer.
pub fn certificate(
    config: &Config,
    store: &Store,
    signer: &Signer,
    realm: &Realm,
    tree: &Tree,
    now: Timestamp,
) -> anyhow::Result<Served> {
    let asked: Vec<&str> = config.server_names.iter().map(String::as_str).collect();
    let names = config.server_names.join(" ");
    let authority = tree.for_server(&asked)?;
    let stored = store.meta(CERTIFICATE)?.filter(|der| {
        matches!(store.meta(NAMES), Ok(Some(stored)) if stored == names.as_bytes())
            && certificate_id(der).is_ok_and(|id| id.issuer() == authority.issuer.id())
            && is_young(der, now)
    });
    let der = match stored {
        Some(der) => der,
        None => {
            let terms = terms(signer.server_public_key(), now, LIFETIME)?;
            let unsigned = profile::server(realm, &asked, &authority.issuer, &terms)?;
            let id = unsigned.certificate();
            let (not_before, not_after) = (unsigned.not_before(), unsigned.not_after());
            let signature = signer.sign(Purpose::ServerCertificate, unsigned.to_be_signed())?;
            let der = unsigned.assemble(&signature)?;
            let act = entries::server_certified(now, id, &config.server_names);
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
                    der: der.clone(),
                }))
                .entry(leaf(realm.tenant().clone(), &act)?);
            store.commit(change)?;
            der
        }
    };
    let chain = vec![
        CertificateDer::from(der),
        CertificateDer::from(authority.certificate.clone()),
    ];
    let pkcs8 = signer.tls_key();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.as_slice()));
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let certified = CertifiedKey::from_der(chain, key.clone_key(), &provider)?;
    Ok(Served {
        names: config.server_names.clone(),
        key: Arc::new(certified),
    })
}

/// Whether less than two thirds of its life are over.
fn is_young(der: &[u8], now: Timestamp) -> bool {
    let Ok((not_before, not_after)) = identity::validity(der) else {
        return false;
    };
    let life = not_after.since(not_before);
    not_before <= now && now < not_before.plus(life * 2 / 3)
}
