//! The signer's count of signatures against what is on record: a signature without a record is a
//! gap that everybody sees from then on.

use super::tree::Tree;
use crate::entries;
use crate::plane::leaf;
use identity::Realm;
use model::Timestamp;
use signer::{Count, Purpose, Signer};
use store::{Change, Direction, Issuance, Store, Write};

/// What is recorded of every issue, and the kind of its record.
pub const RECORDED: [(Purpose, &str); 3] = [
    (Purpose::DeviceCertificate, "ldevid"),
    (Purpose::ServiceCertificate, "service"),
    (Purpose::ServerCertificate, "server"),
];

/// Compares at a start, when nothing is on its way; tells the log what differs, and lets the signer
/// go on from there.
///
/// # Errors
/// The disk.
pub fn reconcile(
    store: &Store,
    signer: &Signer,
    tree: &Tree,
    realm: &Realm,
    now: Timestamp,
) -> anyhow::Result<()> {
    let issuance = store.issuance()?;
    let counts = signer.counts();
    let (mut settled, mut change) = (Vec::new(), Change::new(Direction::Neutral));
    for authority in tree.issuing() {
        for (purpose, kind) in RECORDED {
            let key = authority.issuer.signing_key();
            let known = known(&issuance, &authority.issuer.id(), kind);
            let known = known.map_or(0, |one| one.recorded + one.unrecorded);
            let count = (counts.iter().flatten())
                .find(|count| count.purpose == purpose && count.key == key);
            let (signed, signed_max) = match (count, &counts) {
                (Some(count), _) => (count.signed, count.signed_max),
                (None, Some(_)) => (0, 0),
                // A version that did not count made these.
                (None, None) => (known, known),
            };
            let gap = entries::Gap {
                unrecorded: signed.saturating_sub(known),
                in_doubt: signed_max.saturating_sub(signed.max(known)),
                uncounted: known.saturating_sub(signed_max),
            };
            if gap.unrecorded > 0 {
                change = change.write(Write::NoteUnrecorded {
                    issuer: authority.issuer.id(),
                    kind: kind.to_owned(),
                    count: gap.unrecorded,
                });
            }
            if !gap.is_none() {
                let act = entries::signatures_differ(now, &authority.name, purpose.name(), &gap);
                tracing::warn!("{}: {} {gap:?}", authority.name, purpose.name());
                change = change.entry(leaf(realm.tenant().clone(), &act)?);
            }
            settled.push(Count {
                key: key.to_vec(),
                purpose,
                signed: known.max(signed),
                signed_max: known.max(signed),
            });
        }
    }
    if !change.entries.is_empty() {
        store.commit(change)?;
    }
    signer.settle(&settled)?;
    Ok(())
}

/// What is on record of an issuer's certificates of one kind.
#[must_use]
pub fn known<'a>(
    issuance: &'a [Issuance],
    issuer: &model::Digest,
    kind: &str,
) -> Option<&'a Issuance> {
    (issuance.iter()).find(|one| one.issuer == *issuer && one.kind == kind)
}
