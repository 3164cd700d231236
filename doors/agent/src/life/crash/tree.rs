//! The plane's roots as a device meets them: the next one is made known, serves, and the one before
//! it retires.

use crate::certifying::{Certifier, random_bytes};
use identity::Realm;
use identity::profile::{self, Terms};
use model::Timestamp;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;
use std::time::Duration;

const YEAR: Duration = Duration::from_secs(365 * 86_400);
const NAME: &str = "plane.example";

pub struct Tree {
    realm: Realm,
    /// The one that serves.
    current: Root,
    next: Option<Root>,
    retiring: Option<Root>,
    /// Our server's certificate and what is shown with it, but the link.
    shown: Vec<Vec<u8>>,
    /// Rollovers that went to their end.
    pub rolled: u32,
}

struct Root {
    by: Certifier,
    /// It by the one before, and that one by it.
    links: Vec<Vec<u8>>,
}

impl Tree {
    pub fn new(realm: Realm, now: Timestamp) -> Self {
        let current = Root {
            by: root(&realm, now),
            links: Vec::new(),
        };
        let shown = served(&realm, &current.by, now);
        Self {
            realm,
            current,
            next: None,
            retiring: None,
            shown,
            rolled: 0,
        }
    }

    pub fn current(&self) -> &Certifier {
        &self.current.by
    }

    /// One step of a rollover. A root retires only when the device has told that it knows the one
    /// that serves: what `learned` says of a root.
    pub fn go_on(&mut self, learned: impl Fn(&[u8]) -> bool, now: Timestamp) {
        if self.retiring.is_some() {
            if learned(&self.current.by.der) {
                self.retiring = None;
                self.rolled += 1;
            }
        } else if let Some(next) = self.next.take() {
            self.shown = served(&self.realm, &next.by, now);
            self.retiring = Some(std::mem::replace(&mut self.current, next));
        } else {
            let by = root(&self.realm, now);
            let links = vec![link(&by, &self.current.by), link(&self.current.by, &by)];
            self.next = Some(Root { by, links });
        }
    }

    /// As `cacerts` has it.
    pub fn listed(&self) -> Vec<Vec<u8>> {
        let all = [
            Some(&self.current),
            self.next.as_ref(),
            self.retiring.as_ref(),
        ];
        let with_links = |root: &Root| {
            let own = std::iter::once(root.by.der.clone());
            own.chain(root.links.clone()).collect::<Vec<_>>()
        };
        all.into_iter().flatten().flat_map(with_links).collect()
    }

    /// SHA-256 is not looked at: the roots that are believed now, in DER.
    pub fn believed(&self) -> Vec<&[u8]> {
        let all = [
            Some(&self.current),
            self.next.as_ref(),
            self.retiring.as_ref(),
        ];
        (all.into_iter().flatten())
            .map(|root| root.by.der.as_slice())
            .collect()
    }

    /// Whether who knows these roots alone believes our server.
    pub fn is_known_by(&self, roots: Arc<RootCertStore>, now: Timestamp) -> bool {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider)
            .build()
            .unwrap();
        let mut shown: Vec<CertificateDer<'static>> = self
            .shown
            .iter()
            .cloned()
            .map(CertificateDer::from)
            .collect();
        if self.retiring.is_some() {
            shown.extend(
                self.current
                    .links
                    .first()
                    .cloned()
                    .map(CertificateDer::from),
            );
        }
        let (leaf, above) = shown.split_first().unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        let at = UnixTime::since_unix_epoch(Duration::from_secs(now.as_seconds()));
        verifier
            .verify_server_cert(leaf, above, &name, &[], at)
            .is_ok()
    }
}

fn root(realm: &Realm, now: Timestamp) -> Certifier {
    let make = |terms: &Terms<'_>| profile::root(realm, terms).unwrap();
    Certifier::new(make, now, 20 * YEAR)
}

/// `of` as `by` certifies it.
pub fn link(of: &Certifier, by: &Certifier) -> Vec<u8> {
    let terms = Terms {
        public_key: &[],
        serial_random: random_bytes(),
        now: Timestamp::from_seconds(0),
        lifetime: YEAR,
    };
    by.sign(profile::link(&of.der, &by.issuer(), &terms).unwrap())
}

fn served(realm: &Realm, root: &Certifier, now: Timestamp) -> Vec<Vec<u8>> {
    let issuing = root.below(
        |issuer, terms| profile::issuing(realm, issuer, terms).unwrap(),
        now,
        10 * YEAR,
    );
    let server = issuing.below(
        |issuer, terms| profile::server(realm, &[NAME], issuer, terms).unwrap(),
        now,
        YEAR,
    );
    vec![server.der, issuing.der]
}
