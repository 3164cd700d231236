//! What is revoked or on hold: one state for each thing that can be named.

use model::{CertificateId, Digest, Principal, ProductId, Revocable, RevocationReason, Timestamp};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

/// When and why something was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    pub reason: RevocationReason,
    pub at: Timestamp,
}

impl Revocation {
    /// Of two that bar the same certificate, the one to tell: a hold says less than a revocation.
    fn rather(self, other: Option<Self>) -> Self {
        match other {
            Some(other) if self.reason.is_hold() && !other.reason.is_hold() => other,
            _ => self,
        }
    }
}

#[derive(Default)]
pub(super) struct Bars {
    certificates: HashMap<CertificateId, Revocation>,
    principals: HashMap<Principal, Revocation>,
    products: HashMap<ProductId, Revocation>,
    issuers: HashMap<Digest, Revocation>,
}

impl Bars {
    pub(super) fn is_empty(&self) -> bool {
        self.certificates.is_empty()
            && self.principals.is_empty()
            && self.products.is_empty()
            && self.issuers.is_empty()
    }

    pub(super) fn put(&mut self, what: &Revocable, new: Revocation) {
        match what {
            Revocable::Certificate(id) => put(self.certificates.entry(*id), new),
            Revocable::Principal(principal) => put(self.principals.entry(principal.clone()), new),
            Revocable::Product(product) => put(self.products.entry(product.clone()), new),
            Revocable::Issuer(issuer) => put(self.issuers.entry(*issuer), new),
        }
    }

    /// Takes a hold away; a revocation stays.
    pub(super) fn release(&mut self, what: &Revocable) {
        match what {
            Revocable::Certificate(id) => release(self.certificates.entry(*id)),
            Revocable::Principal(principal) => release(self.principals.entry(principal.clone())),
            Revocable::Product(product) => release(self.products.entry(product.clone())),
            Revocable::Issuer(issuer) => release(self.issuers.entry(*issuer)),
        }
    }

    pub(super) fn of(&self, what: &Revocable) -> Option<Revocation> {
        match what {
            Revocable::Certificate(id) => self.certificates.get(id),
            Revocable::Principal(principal) => self.principals.get(principal),
            Revocable::Product(product) => self.products.get(product),
            Revocable::Issuer(issuer) => self.issuers.get(issuer),
        }
        .copied()
    }

    pub(super) fn of_principal(&self, principal: &Principal) -> Option<Revocation> {
        self.principals.get(principal).copied()
    }

    pub(super) fn of_product(&self, product: &ProductId) -> Option<Revocation> {
        self.products.get(product).copied()
    }

    pub(super) fn of_issuer(&self, issuer: &Digest) -> Option<Revocation> {
        self.issuers.get(issuer).copied()
    }

    /// What is told of a certificate: of all that bars it the first that is no hold, else the
    /// first, from the widest to the narrowest. Its issuer is not asked.
    pub(super) fn of_certificate(
        &self,
        certificate: &CertificateId,
        owner: Option<&Principal>,
        product: Option<&ProductId>,
    ) -> Option<Revocation> {
        let found = [
            product.and_then(|product| self.of_product(product)),
            owner.and_then(|owner| self.of_principal(owner)),
            self.certificates.get(certificate).copied(),
        ];
        found
            .into_iter()
            .flatten()
            .reduce(|first, next| first.rather(Some(next)))
    }

    pub(super) fn forget_certificate(&mut self, certificate: &CertificateId) {
        self.certificates.remove(certificate);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Revocable, Revocation)> {
        let certificates = self.certificates.iter();
        let principals = self.principals.iter();
        let products = self.products.iter();
        let issuers = self.issuers.iter();
        (certificates.map(|(id, why)| (Revocable::Certificate(*id), *why)))
            .chain(principals.map(|(id, why)| (Revocable::Principal(id.clone()), *why)))
            .chain(products.map(|(id, why)| (Revocable::Product(id.clone()), *why)))
            .chain(issuers.map(|(id, why)| (Revocable::Issuer(*id), *why)))
    }
}

/// The first revocation stands: its time is in the log and in CRLs. One that follows a hold keeps
/// the hold's time (X.509 section 9.5.3.1) and takes its place for good.
fn put<K: Hash + Eq>(entry: Entry<'_, K, Revocation>, new: Revocation) {
    match entry {
        Entry::Vacant(place) => {
            place.insert(new);
        }
        Entry::Occupied(mut known) => {
            let known = known.get_mut();
            if known.reason.is_hold() {
                known.reason = new.reason;
            }
        }
    }
}

fn release<K: Hash + Eq>(entry: Entry<'_, K, Revocation>) {
    if let Entry::Occupied(known) = entry
        && known.get().reason.is_hold()
    {
        known.remove();
    }
}
