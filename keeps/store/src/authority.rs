//! Rows of our own certificate authorities, and how many certificates each has on record.

use crate::error::ReadError;
use crate::reader::{at, digest, index};
use crate::row::{name, named, optional_name};
use crate::store::Store;
use model::{AuthorityId, CertificateUses, DeviceId, Digest, Timestamp};
use rusqlite::{Row, params};
use std::collections::BTreeMap;

/// A CA of ours, root or issuing, with its certificate. Its key may be elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// SHA-256 of its Name in DER: the issuer in the names of its certificates. A CA whose key is
    /// replaced has a new Name, so each key has a row of its own.
    pub subject: Digest,
    pub role: AuthorityRole,
    pub state: AuthorityState,
    /// DER.
    pub certificate: Vec<u8>,
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthorityRole {
    Root,
    Issuing {
        name: AuthorityId,
        uses: CertificateUses,
    },
}

/// Where a CA is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AuthorityState {
    /// Made known, and serves nobody yet.
    Next,
    Current,
    /// Believed until its last certificate ended; certifies nothing any more.
    Retiring,
    /// Believed no more.
    Ended,
}

impl AuthorityState {
    pub const ALL: [Self; 4] = [Self::Next, Self::Current, Self::Retiring, Self::Ended];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Current => "current",
            Self::Retiring => "retiring",
            Self::Ended => "ended",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// How many certificates of one kind an issuer has ever put on record, and how many signatures it
/// made of which nothing is on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuance {
    pub issuer: Digest,
    /// As [`crate::Holder::kind`].
    pub kind: String,
    pub recorded: u64,
    pub unrecorded: u64,
}

impl Store {
    /// Roots first, then issuing CAs by name; of one name the oldest first.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn authorities(&self) -> Result<Vec<Authority>, ReadError> {
        let mut all = Vec::new();
        self.readers().for_each(
            "SELECT subject, name, uses, state, certificate, created_at
             FROM certificate_authority WHERE tenant = ?1 ORDER BY name, created_at, subject",
            params![self.tenant_text()],
            |row| {
                all.push(authority(row)?);
                Ok(())
            },
        )?;
        Ok(all)
    }

    /// Index of the entry that tells of each CA, by the digest of its name; absent for one of an
    /// earlier format.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn authority_entries(&self) -> Result<BTreeMap<Digest, u64>, ReadError> {
        let mut all = BTreeMap::new();
        self.readers().for_each(
            "SELECT subject, entry FROM certificate_authority
             WHERE tenant = ?1 AND entry IS NOT NULL",
            params![self.tenant_text()],
            |row| {
                all.insert(digest(row, 0, "certificate_authority")?, index(row.get(1)?));
                Ok(())
            },
        )?;
        Ok(all)
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn issuance(&self) -> Result<Vec<Issuance>, ReadError> {
        let mut all = Vec::new();
        self.readers().for_each(
            "SELECT issuer, kind, recorded, unrecorded FROM issuance WHERE tenant = ?1
             ORDER BY issuer, kind",
            params![self.tenant_text()],
            |row| {
                all.push(Issuance {
                    issuer: digest(row, 0, "issuance")?,
                    kind: row.get(1)?,
                    recorded: index(row.get(2)?),
                    unrecorded: index(row.get(3)?),
                });
                Ok(())
            },
        )?;
        Ok(all)
    }

    /// The roots that a device said it believes, by SHA-256, in order.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn learned_roots(&self, device: &DeviceId) -> Result<Vec<Digest>, ReadError> {
        let mut all = Vec::new();
        self.readers().for_each(
            "SELECT root FROM learned_root WHERE tenant = ?1 AND device = ?2 ORDER BY root",
            params![self.tenant_text(), device.as_str()],
            |row| {
                all.push(digest(row, 0, "learned_root")?);
                Ok(())
            },
        )?;
        Ok(all)
    }

    /// The devices that said they believe this root, in order.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn for_each_learned(
        &self,
        root: &Digest,
        mut each: impl FnMut(DeviceId),
    ) -> Result<u64, ReadError> {
        self.readers().for_each(
            "SELECT device FROM learned_root WHERE tenant = ?1 AND root = ?2 ORDER BY device",
            params![self.tenant_text(), root.0],
            |row| {
                each(name(row, 0, "learned_root")?);
                Ok(())
            },
        )
    }

    /// When the last certificate of an issuer that is on record ends.
    ///
    /// # Errors
    /// The disk.
    pub fn last_certificate_end(&self, issuer: &Digest) -> Result<Option<Timestamp>, ReadError> {
        let found = self.readers().one(
            "SELECT max(not_after) FROM certificate WHERE tenant = ?1 AND issuer = ?2",
            params![self.tenant_text(), issuer.0],
            |row| Ok(row.get::<_, Option<i64>>(0)?.map(at)),
        );
        found.map(Option::flatten)
    }
}

fn authority(row: &Row<'_>) -> Result<Authority, ReadError> {
    const TABLE: &str = "certificate_authority";
    let role = match optional_name(row, 1, TABLE)? {
        None => AuthorityRole::Root,
        Some(authority) => AuthorityRole::Issuing {
            name: authority,
            uses: name(row, 2, TABLE)?,
        },
    };
    Ok(Authority {
        subject: digest(row, 0, TABLE)?,
        role,
        state: named(row, 3, TABLE, AuthorityState::from_name)?,
        certificate: row.get(4)?,
        created_at: at(row.get(5)?),
    })
}
