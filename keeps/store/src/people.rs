//! Rows of people and of the tokens of programs: who may ask what of the API.

use crate::error::ReadError;
use crate::reader::{at, count, digest, index};
use crate::row::{name, optional_at};
use crate::store::Store;
use model::{ApiTokenId, Digest, PasskeyId, PersonId, ProposalId, Timestamp};
use rusqlite::{Row, params};

/// A person at the control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    pub id: PersonId,
    /// What they are called: personal, in this row alone. At most 128 bytes.
    pub name: String,
    /// As the room writes them; at most 256 bytes.
    pub roles: String,
    pub created_at: Timestamp,
    /// When they first signed in.
    pub joined_at: Option<Timestamp>,
    /// They sign in no more.
    pub disabled_at: Option<Timestamp>,
    /// 1, then one more with each change.
    pub version: u64,
    /// Of their name at a provider of identities, if they come by one; nobody else's.
    pub subject: Option<Digest>,
}

/// A passkey of a person: whose signature signs them in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passkey {
    pub id: PasskeyId,
    pub person: PersonId,
    /// By which its authenticator knows it; 1 to 1023 bytes.
    pub credential: Vec<u8>,
    /// Its public half as the room reads it; 1 to 1024 bytes.
    pub key: Vec<u8>,
    /// How often it signed, as far as it counts.
    pub count: u32,
    /// It may be on several devices.
    pub synced: bool,
    /// What its person calls it; at most 128 bytes.
    pub note: String,
    pub made_at: Timestamp,
    pub used_at: Option<Timestamp>,
}

/// A token of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiToken {
    pub id: ApiTokenId,
    /// Of the secret, which is nowhere.
    pub hash: Digest,
    /// As the room writes them; at most 256 bytes.
    pub roles: String,
    /// From where it may be shown, with a space between; empty: from anywhere. At most 1024 bytes.
    pub networks: String,
    /// What it is for; at most 128 bytes.
    pub note: String,
    /// As in the log.
    pub made_by: String,
    pub made_at: Timestamp,
    pub expires_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    /// About when it was used last.
    pub used_at: Option<Timestamp>,
}

/// An act that waits for a second person, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    pub id: ProposalId,
    pub class: String,
    pub action: String,
    pub method: String,
    /// At most 2048 bytes.
    pub target: String,
    /// Of what is changed, as it was looked at; at most 64 bytes.
    pub seen_version: Option<String>,
    pub media_type: String,
    /// At most 4 MiB; empty once it was decided.
    pub body: Vec<u8>,
    /// Over all of the above.
    pub digest: Digest,
    /// Over what the act builds on, as it was then.
    pub world: Digest,
    /// As in the log.
    pub proposed_by: String,
    pub proposed_at: Timestamp,
    pub expires_at: Timestamp,
    pub approved: Option<bool>,
    pub decided_by: Option<String>,
    pub decided_at: Option<Timestamp>,
}

impl Store {
    /// Without their contents, the newest first, at most `limit`.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn proposals(&self, limit: usize) -> Result<Vec<Proposal>, ReadError> {
        self.readers().page(
            "SELECT proposal, class, action, method, target, seen_version, media_type, x'', digest,
             world, proposed_by, proposed_at, expires_at, approved, decided_by, decided_at
             FROM proposal WHERE tenant = ?1 ORDER BY proposed_at DESC, proposal LIMIT ?2",
            params![self.tenant_text(), count(limit)],
            proposal,
        )
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn proposal(&self, id: &ProposalId) -> Result<Option<Proposal>, ReadError> {
        self.readers().one(
            "SELECT proposal, class, action, method, target, seen_version, media_type, body, digest,
             world, proposed_by, proposed_at, expires_at, approved, decided_by, decided_at
             FROM proposal WHERE tenant = ?1 AND proposal = ?2",
            params![self.tenant_text(), id.as_str()],
            proposal,
        )
    }

    /// All of them, by name.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn people(&self) -> Result<Vec<Person>, ReadError> {
        self.readers().page(
            "SELECT person, name, roles, created_at, joined_at, disabled_at, version, subject
             FROM person
             WHERE tenant = ?1 ORDER BY created_at, person",
            params![self.tenant_text()],
            person,
        )
    }

    /// All of them, the oldest first.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn passkeys(&self) -> Result<Vec<Passkey>, ReadError> {
        self.readers().page(
            "SELECT passkey, person, credential, key, count, synced, note, made_at, used_at
             FROM passkey WHERE tenant = ?1 ORDER BY made_at, passkey",
            params![self.tenant_text()],
            passkey,
        )
    }

    /// All that were not forgotten, the newest first.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn api_tokens(&self) -> Result<Vec<ApiToken>, ReadError> {
        self.readers().page(
            "SELECT token, hash, roles, networks, note, made_by, made_at, expires_at, revoked_at,
             used_at FROM api_token WHERE tenant = ?1 ORDER BY made_at DESC, token",
            params![self.tenant_text()],
            token,
        )
    }
}

fn person(row: &Row<'_>) -> Result<Person, ReadError> {
    const TABLE: &str = "person";
    Ok(Person {
        id: name(row, 0, TABLE)?,
        name: row.get(1)?,
        roles: row.get(2)?,
        created_at: at(row.get(3)?),
        joined_at: optional_at(row, 4)?,
        disabled_at: optional_at(row, 5)?,
        version: index(row.get(6)?),
        subject: match row.get::<_, Option<Vec<u8>>>(7)? {
            Some(_) => Some(digest(row, 7, TABLE)?),
            None => None,
        },
    })
}

fn passkey(row: &Row<'_>) -> Result<Passkey, ReadError> {
    const TABLE: &str = "passkey";
    Ok(Passkey {
        id: name(row, 0, TABLE)?,
        person: name(row, 1, TABLE)?,
        credential: row.get(2)?,
        key: row.get(3)?,
        count: row.get(4)?,
        synced: row.get(5)?,
        note: row.get(6)?,
        made_at: at(row.get(7)?),
        used_at: optional_at(row, 8)?,
    })
}

fn token(row: &Row<'_>) -> Result<ApiToken, ReadError> {
    const TABLE: &str = "api_token";
    Ok(ApiToken {
        id: name(row, 0, TABLE)?,
        hash: digest(row, 1, TABLE)?,
        roles: row.get(2)?,
        networks: row.get(3)?,
        note: row.get(4)?,
        made_by: row.get(5)?,
        made_at: at(row.get(6)?),
        expires_at: at(row.get(7)?),
        revoked_at: optional_at(row, 8)?,
        used_at: optional_at(row, 9)?,
    })
}

fn proposal(row: &Row<'_>) -> Result<Proposal, ReadError> {
    const TABLE: &str = "proposal";
    Ok(Proposal {
        id: name(row, 0, TABLE)?,
        class: row.get(1)?,
        action: row.get(2)?,
        method: row.get(3)?,
        target: row.get(4)?,
        seen_version: row.get(5)?,
        media_type: row.get(6)?,
        body: row.get(7)?,
        digest: digest(row, 8, TABLE)?,
        world: digest(row, 9, TABLE)?,
        proposed_by: row.get(10)?,
        proposed_at: at(row.get(11)?),
        expires_at: at(row.get(12)?),
        approved: row.get(13)?,
        decided_by: row.get(14)?,
        decided_at: optional_at(row, 15)?,
    })
}
