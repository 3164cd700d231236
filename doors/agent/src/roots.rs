//! The roots by which the plane is known: those that the device came with, and those that have
//! taken their place since.
//!
//! A root is learned by the word of one that is believed already: the plane's list (EST's `cacerts`)
//! holds the new root and its certificate by the old one (RFC 4210 section 4.4, NewWithOld). One
//! that the plane has listed and lists no more is forgotten, and so is one that has ended by the
//! plane's clock, but neither before the plane was reached without it: the caller proves that. What
//! the plane never listed, as another CA that its own server certificate is of, is the device's own
//! affair and stays.
//!
//! All of it is one file of the state folder, replaced as a whole: a power cut leaves the device
//! believing what it did before, or what it was about to.

use crate::clock::Clock;
use crate::failure::Failure;
use crate::folder::Folder;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use identity::profile::{check_link, check_root};
use model::{Digest, Timestamp};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

const FILE: &str = "roots.pem";
/// Believed at once, those that the device came with included.
const ROOTS_MAX: usize = 16;
const LISTED: &str = "listed ";
const FORGOTTEN: &str = "forgotten ";

/// What the plane is known by.
#[derive(Debug)]
pub struct Roots {
    /// Those that the configuration names.
    given: Vec<Root>,
    record: Record,
}

/// What a look at the plane's list led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub learned: usize,
    pub forgotten: usize,
}

/// What outlives a power cut.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Record {
    learned: Vec<Root>,
    /// Believed ones that the plane has called its own.
    listed: BTreeSet<Digest>,
    /// Given ones that are believed no more.
    forgotten: BTreeSet<Digest>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Root {
    digest: Digest,
    der: Vec<u8>,
}

impl Roots {
    /// # Errors
    /// If the state folder cannot be read. A file that is damaged is as good as none.
    pub fn open(folder: &Folder, given: Vec<Vec<u8>>) -> io::Result<Self> {
        let record = folder.read(FILE)?.and_then(|bytes| Record::read(&bytes));
        Ok(Self {
            given: given.into_iter().map(Root::new).collect(),
            record: record.unwrap_or_default(),
        })
    }

    /// For TLS.
    pub fn store(&self) -> Arc<RootCertStore> {
        self.store_without(&BTreeSet::new())
    }

    /// As it will be once these are forgotten.
    fn store_without(&self, out: &BTreeSet<Digest>) -> Arc<RootCertStore> {
        let mut store = RootCertStore::empty();
        for root in self.believed().filter(|root| !out.contains(&root.digest)) {
            // It was read as a root when it came in.
            let _ = store.add(CertificateDer::from(root.der.as_slice()));
        }
        Arc::new(store)
    }

    /// Holds the plane's list against what is believed. `ask` reaches the plane by these roots alone
    /// and returns its list.
    ///
    /// # Errors
    /// The plane was not reached, or what it said cannot be kept.
    pub fn see(
        &mut self,
        folder: &Folder,
        clock: &mut Clock,
        mut ask: impl FnMut(Arc<RootCertStore>, &mut Clock) -> Result<Vec<Vec<u8>>, Failure>,
    ) -> Result<Seen, Failure> {
        let local = |error: io::Error| Failure::Local(error.into());
        let list = ask(self.store(), clock)?;
        let mut seen = Seen {
            learned: self.learn(folder, &list, clock.now()).map_err(local)?,
            forgotten: 0,
        };
        let out = self.outdated(&list, clock.told());
        if !out.is_empty() {
            // The plane must be found without them, and say the same there.
            let list = ask(self.store_without(&out), clock)?;
            if self.outdated(&list, clock.told()) == out {
                self.forget(folder, &out).map_err(local)?;
                seen.forgotten = out.len();
            }
        }
        Ok(seen)
    }

    /// SHA-256 of each, as it is told to the plane.
    pub fn digests(&self) -> BTreeSet<Digest> {
        self.believed().map(|root| root.digest).collect()
    }

    /// Takes in the plane's list: what a believed root vouches for is believed from here on, and
    /// durably so. How many are new.
    ///
    /// # Errors
    /// If it cannot be kept; then nothing is learned.
    fn learn(&mut self, folder: &Folder, list: &[Vec<u8>], now: Timestamp) -> io::Result<usize> {
        let mut next = self.record.clone();
        let before = next.learned.len();
        // Each round may make the one believed that vouches for another.
        loop {
            let believed: Vec<&Root> = self.of(&next).collect();
            let found = list
                .iter()
                .filter(|_| believed.len() < ROOTS_MAX)
                .find(|der| {
                    let name = sha256(der);
                    let is_new = believed.iter().all(|root| root.digest != name)
                        && !next.forgotten.contains(&name);
                    is_new
                        && check_root(der, now).is_ok()
                        && (believed.iter()).any(|by| {
                            let is_link = |link| check_link(link, der, &by.der, now).is_ok();
                            list.iter().any(|link| is_link(link))
                        })
                });
            match found {
                Some(der) => next.learned.push(Root::new(der.clone())),
                None => break,
            }
        }
        let names: BTreeSet<Digest> = list.iter().map(|der| sha256(der)).collect();
        let listed: Vec<Digest> = (self.of(&next).map(|root| root.digest))
            .filter(|name| names.contains(name))
            .collect();
        next.listed.extend(listed);
        let count = next.learned.len().saturating_sub(before);
        self.keep(folder, next).map(|()| count)
    }

    /// Which are believed too long: those that the plane called its own and does not list, and those
    /// that ended by its clock. None, if nothing of the plane's would be left.
    fn outdated(&self, list: &[Vec<u8>], told: Option<Timestamp>) -> BTreeSet<Digest> {
        let names: BTreeSet<Digest> = list.iter().map(|der| sha256(der)).collect();
        let is_outdated = |root: &&Root| {
            let ended = crate::credential::validity(&CertificateDer::from(root.der.as_slice()))
                .is_ok_and(|(_, not_after)| told.is_some_and(|told| not_after < told));
            self.record.listed.contains(&root.digest) && (ended || !names.contains(&root.digest))
        };
        let out: BTreeSet<Digest> =
            (self.believed().filter(is_outdated).map(|root| root.digest)).collect();
        let one_stays = (self.record.listed.iter()).any(|name| !out.contains(name));
        if one_stays { out } else { BTreeSet::new() }
    }

    /// Believes these no more, durably. The plane was reached without them.
    ///
    /// # Errors
    /// If it cannot be kept; then they are believed as before.
    fn forget(&mut self, folder: &Folder, out: &BTreeSet<Digest>) -> io::Result<()> {
        let mut next = self.record.clone();
        next.learned.retain(|root| !out.contains(&root.digest));
        next.listed.retain(|name| !out.contains(name));
        let given = self.given.iter().map(|root| root.digest);
        next.forgotten
            .extend(given.filter(|name| out.contains(name)));
        self.keep(folder, next)
    }

    fn keep(&mut self, folder: &Folder, next: Record) -> io::Result<()> {
        if next != self.record {
            folder.write(FILE, next.text().as_bytes())?;
            self.record = next;
        }
        Ok(())
    }

    fn believed(&self) -> impl Iterator<Item = &Root> {
        self.of(&self.record)
    }

    fn of<'a>(&'a self, record: &'a Record) -> impl Iterator<Item = &'a Root> {
        let given = (self.given.iter()).filter(|root| !record.forgotten.contains(&root.digest));
        // A root may have been given later to a device that had learned it.
        let is_given = |root: &&Root| self.given.iter().any(|one| one.digest == root.digest);
        let learned = (record.learned.iter()).filter(move |root| !is_given(root));
        given.chain(learned)
    }
}

impl Root {
    fn new(der: Vec<u8>) -> Self {
        Self {
            digest: sha256(&der),
            der,
        }
    }
}

impl Record {
    /// `listed` and `forgotten` lines, then the learned ones in PEM.
    fn text(&self) -> String {
        let mut text = String::new();
        for (word, names) in [(LISTED, &self.listed), (FORGOTTEN, &self.forgotten)] {
            for name in names {
                text.push_str(&format!("{word}{name}\n"));
            }
        }
        for root in &self.learned {
            text.push_str("-----BEGIN CERTIFICATE-----\n");
            text.push_str(&STANDARD.encode(&root.der));
            text.push_str("\n-----END CERTIFICATE-----\n");
        }
        text
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let names = |word: &str| -> Option<BTreeSet<Digest>> {
            let of_word = text.lines().filter_map(|line| line.strip_prefix(word));
            of_word.map(Digest::from_hex).collect()
        };
        let learned = CertificateDer::pem_slice_iter(bytes)
            .map(|one| one.ok().map(|der| Root::new(der.as_ref().to_vec())))
            .collect::<Option<Vec<Root>>>()?;
        let mut store = RootCertStore::empty();
        let are_roots = (learned.iter())
            .all(|root| store.add(CertificateDer::from(root.der.as_slice())).is_ok());
        are_roots.then_some(Self {
            learned,
            listed: names(LISTED)?,
            forgotten: names(FORGOTTEN)?,
        })
    }
}

/// How a root is named.
pub fn sha256(bytes: &[u8]) -> Digest {
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(digest(&SHA256, bytes).as_ref()) {
        *to = *from;
    }
    Digest(out)
}

#[cfg(test)]
mod tests;
