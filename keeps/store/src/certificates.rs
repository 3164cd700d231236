//! Certificates as a person looks at them: a page in the order in which they end, and how many of
//! them stand how.

use crate::error::ReadError;
use crate::identity::certificate_id;
use crate::reader::{at, count, digest, index};
use crate::row::{named, optional_name};
use crate::store::Store;
use crate::writer::millis;
use model::{CertificateId, Digest, Principal, ProductId, Revocable, RevocationReason, Timestamp};
use rusqlite::{Row, named_params};

/// A week of a histogram, in milliseconds.
const WEEK_MILLIS: i64 = 7 * 86_400 * 1000;

/// How a certificate stands, by all that bars it: itself, its holder, its product, its issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CertificateState {
    Current,
    /// A newer one of its device has opened a door; it is revoked when the overlap is over.
    Superseded,
    OnHold,
    Revoked,
    Ended,
}

impl CertificateState {
    pub const ALL: [Self; 5] = [
        Self::Current,
        Self::Superseded,
        Self::OnHold,
        Self::Revoked,
        Self::Ended,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Superseded => "superseded",
            Self::OnHold => "on-hold",
            Self::Revoked => "revoked",
            Self::Ended => "ended",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// Which certificates are looked for; all that have not ended if nothing is said.
#[derive(Debug, Clone, Default)]
pub struct CertificateQuery {
    pub issuer: Option<Digest>,
    /// Of the device that holds it.
    pub product: Option<ProductId>,
    pub principal: Option<Principal>,
    /// As on record: `P-256`.
    pub key_kind: Option<String>,
    pub state: Option<CertificateState>,
    pub ends_before: Option<Timestamp>,
    /// Begin after this one.
    pub after: Option<(Timestamp, CertificateId)>,
}

/// A certificate of ours as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedCertificate {
    pub certificate: CertificateId,
    /// As [`crate::Holder::kind`].
    pub kind: String,
    pub principal: Option<Principal>,
    pub product: Option<ProductId>,
    /// `None` in a row of an earlier format.
    pub key_kind: Option<String>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub state: CertificateState,
    /// What bars it: it, its holder, its product or its issuer.
    pub barred: Option<Barred>,
    pub superseded_at: Option<Timestamp>,
    /// Index of the entry that tells of its issue; `None` in a row of an earlier format.
    pub entry: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Barred {
    pub by: Revocable,
    pub at: Timestamp,
    pub reason: RevocationReason,
}

/// How many certificates of one issuer, kind, key and state end in one week.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateCount {
    pub issuer: Digest,
    pub kind: String,
    pub key_kind: Option<String>,
    pub state: CertificateState,
    /// Weeks from now, whole ones; 0 for what has ended.
    pub week: u64,
    pub count: u64,
}

/// All that bars a certificate, each `NULL` where it does not. The worst of them says how it stands:
/// 6 is `certificateHold`, which alone can be released.
const STANDING: &str = "
    FROM certificate c
    LEFT JOIN device d
        ON d.tenant = c.tenant AND c.kind = 'ldevid' AND d.device = substr(c.principal, 8)
    LEFT JOIN certificate_revocation r
        ON r.tenant = c.tenant AND r.issuer = c.issuer AND r.serial = c.serial
    LEFT JOIN principal_revocation p
        ON p.tenant = c.tenant AND p.principal = c.principal
    LEFT JOIN scope_revocation g
        ON g.tenant = c.tenant AND g.scope = 'product/' || d.product
    LEFT JOIN scope_revocation i
        ON i.tenant = c.tenant AND i.scope = 'ca/' || lower(hex(c.issuer))
    LEFT JOIN superseded_certificate x
        ON x.tenant = c.tenant AND x.issuer = c.issuer AND x.serial = c.serial
    WHERE c.tenant = :tenant";

const STATE: &str = "CASE
    WHEN c.not_after <= :now THEN 'ended'
    WHEN coalesce(r.reason, 6) <> 6 OR coalesce(p.reason, 6) <> 6
        OR coalesce(g.reason, 6) <> 6 OR coalesce(i.reason, 6) <> 6 THEN 'revoked'
    WHEN coalesce(r.reason, p.reason, g.reason, i.reason) IS NOT NULL THEN 'on-hold'
    WHEN x.superseded_at IS NOT NULL THEN 'superseded'
    ELSE 'current' END";

impl Store {
    /// A page of up to 1000, those that end first.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn certificates_by_end(
        &self,
        query: &CertificateQuery,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<ListedCertificate>, ReadError> {
        // Ended ones lie before all others in this order, so that nothing is read for nothing.
        let has_ended = query.state == Some(CertificateState::Ended);
        let from = query.after.map_or_else(
            || if has_ended { 0 } else { millis(now) + 1 },
            |(end, _)| millis(end),
        );
        let until = match query.ends_before {
            _ if has_ended => millis(now),
            Some(end) => millis(end),
            None => i64::MAX,
        };
        let (issuer, serial) = query.after.map_or_else(
            || (vec![], vec![]),
            |(_, id)| (id.issuer().0.to_vec(), id.serial().to_vec()),
        );
        self.readers().page(
            &format!(
                "SELECT c.issuer, c.serial, c.kind, c.principal, d.product, c.key_kind,
                     c.not_before, c.not_after, {STATE} AS state, x.superseded_at, c.entry,
                     r.revoked_at, r.reason, p.revoked_at, p.reason, g.revoked_at, g.reason,
                     i.revoked_at, i.reason {STANDING}
                 AND c.not_after >= :from AND c.not_after <= :until
                 AND (c.not_after, c.issuer, c.serial) > (:from, :after_issuer, :after_serial)
                 AND (:issuer IS NULL OR c.issuer = :issuer)
                 AND (:product IS NULL OR d.product = :product)
                 AND (:principal IS NULL OR c.principal = :principal)
                 AND (:key_kind IS NULL OR c.key_kind = :key_kind)
                 AND (:state IS NULL OR {STATE} = :state)
                 ORDER BY c.not_after, c.issuer, c.serial LIMIT :limit"
            ),
            named_params! {
                ":tenant": self.tenant_text(),
                ":now": millis(now),
                ":from": from,
                ":until": until,
                ":after_issuer": issuer,
                ":after_serial": serial,
                ":issuer": query.issuer.map(|issuer| issuer.0),
                ":product": query.product.as_ref().map(ProductId::as_str),
                ":principal": query.principal.as_ref().map(ToString::to_string),
                ":key_kind": query.key_kind,
                ":state": query.state.map(CertificateState::name),
                ":limit": count(limit),
            },
            listed,
        )
    }

    /// How all certificates on record stand. Walks all of them.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn certificate_counts(&self, now: Timestamp) -> Result<Vec<CertificateCount>, ReadError> {
        const TABLE: &str = "certificate";
        self.readers().page(
            &format!(
                "SELECT c.issuer, c.kind, c.key_kind, {STATE} AS state,
                     max(0, (c.not_after - :now) / {WEEK_MILLIS}) AS week, count(*) {STANDING}
                 GROUP BY c.issuer, c.kind, c.key_kind, state, week"
            ),
            named_params! { ":tenant": self.tenant_text(), ":now": millis(now) },
            |row| {
                Ok(CertificateCount {
                    issuer: digest(row, 0, TABLE)?,
                    kind: row.get(1)?,
                    key_kind: row.get(2)?,
                    state: named(row, 3, TABLE, CertificateState::from_name)?,
                    week: index(row.get(4)?),
                    count: index(row.get(5)?),
                })
            },
        )
    }
}

fn listed(row: &Row<'_>) -> Result<ListedCertificate, ReadError> {
    const TABLE: &str = "certificate";
    let certificate = certificate_id(row, 0, TABLE)?;
    let principal: Option<Principal> = optional_name(row, 3, TABLE)?;
    let product: Option<ProductId> = optional_name(row, 4, TABLE)?;
    let superseded_at: Option<i64> = row.get(9)?;
    let entry: Option<i64> = row.get(10)?;
    let by = [
        Some(Revocable::Certificate(certificate)),
        principal.clone().map(Revocable::Principal),
        product.clone().map(Revocable::Product),
        Some(Revocable::Issuer(certificate.issuer())),
    ];
    let mut barred: Option<Barred> = None;
    for (column, by) in [11, 13, 15, 17].into_iter().zip(by) {
        let (Some(by), Some(found)) = (by, crate::identity::revocation(row, column)?) else {
            continue;
        };
        // A hold only where there is nothing worse.
        if barred
            .as_ref()
            .is_none_or(|one| one.reason.is_hold() && !found.reason.is_hold())
        {
            barred = Some(Barred {
                by,
                at: found.at,
                reason: found.reason,
            });
        }
    }
    Ok(ListedCertificate {
        certificate,
        kind: row.get(2)?,
        principal,
        product,
        key_kind: row.get(5)?,
        not_before: at(row.get(6)?),
        not_after: at(row.get(7)?),
        state: named(row, 8, TABLE, CertificateState::from_name)?,
        barred,
        superseded_at: superseded_at.map(at),
        entry: entry.map(index),
    })
}
