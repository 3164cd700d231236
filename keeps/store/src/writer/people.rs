//! What a change does to people and to the tokens of programs.

use super::Writer;
use super::apply::{Outcome, conflict, millis, signed, within};
use crate::change::Write;
use crate::people::{ApiToken, Passkey, Person, Proposal};
use model::{ApiTokenId, Digest, PasskeyId, PersonId, ProposalId, Timestamp};
use rusqlite::params;

/// Longest list of roles.
const ROLES_BYTES_MAX: usize = 256;
/// Longest text for people.
const NOTE_BYTES_MAX: usize = 128;
/// Longest list of networks.
const NETWORKS_BYTES_MAX: usize = 1024;

/// Longest name of a passkey (Web Authentication, section 4), and largest public key.
const CREDENTIAL_BYTES_MAX: usize = 1023;
const KEY_BYTES_MAX: usize = 1024;

/// Largest act that waits: a fleet.
const ACT_BYTES_MAX: usize = 4 << 20;

/// What no write may hold, found before it takes a place in the queue.
pub(super) fn check(write: &Write) -> Result<(), String> {
    match write {
        Write::PutPerson(row) => {
            within("a name", row.name.len(), 0, NOTE_BYTES_MAX)?;
            within("a list of roles", row.roles.len(), 0, ROLES_BYTES_MAX)
        }
        Write::NarrowPerson { roles, .. } => {
            within("a list of roles", roles.len(), 0, ROLES_BYTES_MAX)
        }
        Write::PutPasskey(row) => {
            within("a note", row.note.len(), 0, NOTE_BYTES_MAX)?;
            within(
                "a credential",
                row.credential.len(),
                1,
                CREDENTIAL_BYTES_MAX,
            )?;
            within("a key", row.key.len(), 1, KEY_BYTES_MAX)
        }
        Write::PutApiToken(row) => {
            within("a note", row.note.len(), 0, NOTE_BYTES_MAX)?;
            within("an author", row.made_by.len(), 1, 256)?;
            within(
                "a list of networks",
                row.networks.len(),
                0,
                NETWORKS_BYTES_MAX,
            )?;
            within("a list of roles", row.roles.len(), 1, ROLES_BYTES_MAX)
        }
        Write::PutProposal(row) => {
            within("an address", row.target.len(), 1, 2048)?;
            within(
                "a version",
                row.seen_version.as_ref().map_or(0, String::len),
                0,
                64,
            )?;
            within("a media type", row.media_type.len(), 0, 128)?;
            within("an author", row.proposed_by.len(), 1, 256)?;
            within("an act", row.body.len(), 0, ACT_BYTES_MAX)
        }
        Write::DecideProposal { by, .. } => within("an author", by.len(), 1, 256),
        _ => Ok(()),
    }
}

impl Writer {
    pub(super) fn write_of_people(&self, write: &Write) -> Outcome<()> {
        match write {
            Write::PutToken {
                hash,
                person,
                expires_at,
            } => self.put_link(hash, person.as_ref(), *expires_at),
            Write::PutPerson(row) => self.put_person(row),
            Write::NarrowPerson {
                person,
                roles,
                disabled_at,
            } => self.narrow_person(person, roles, *disabled_at),
            Write::PutPasskey(row) => self.put_passkey(row),
            Write::UsePasskey { passkey, count, at } => self.use_passkey(passkey, *count, *at),
            Write::DropPasskey(passkey) => self
                .perform(
                    "DELETE FROM passkey WHERE tenant = ?1 AND passkey = ?2",
                    params![self.tenant, passkey.as_str()],
                )
                .map(drop),
            Write::PutApiToken(row) => self.put_api_token(row),
            Write::RevokeApiToken { token, at } => self.revoke_api_token(token, *at),
            Write::NoteApiTokenUse { token, at } => self.note_api_token_use(token, *at),
            Write::PutProposal(row) => self.put_proposal(row),
            Write::DecideProposal {
                proposal,
                approved,
                by,
                at,
            } => self.decide_proposal(proposal, *approved, by, *at),
            Write::ForgetTokens { expired_before } => self
                .perform(
                    "DELETE FROM token WHERE tenant = ?1 AND expires_at < ?2",
                    params![self.tenant, millis(*expired_before)],
                )
                .map(drop),
            Write::ForgetProposals { expired_before } => self
                .perform(
                    "DELETE FROM proposal WHERE tenant = ?1 AND expires_at < ?2",
                    params![self.tenant, millis(*expired_before)],
                )
                .map(drop),
            // Others' are written elsewhere.
            _ => Ok(()),
        }
    }

    fn put_person(&self, row: &Person) -> Outcome<()> {
        let put = self.execute_cached(
            "INSERT INTO person (tenant, person, name, roles, created_at, joined_at, disabled_at,
             version, subject)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 WHERE ?8 = 1 + coalesce(
             (SELECT version FROM person WHERE tenant = ?1 AND person = ?2), 0)
             ON CONFLICT (tenant, person) DO UPDATE SET name = excluded.name,
             roles = excluded.roles, joined_at = excluded.joined_at,
             disabled_at = excluded.disabled_at, version = excluded.version,
             subject = excluded.subject",
            params![
                self.tenant,
                row.id.as_str(),
                row.name,
                row.roles,
                millis(row.created_at),
                row.joined_at.map(millis),
                row.disabled_at.map(millis),
                signed(row.version),
                row.subject.map(|subject| subject.0),
            ],
        );
        if matches!(put, Ok(1)) {
            return Ok(());
        }
        self.refusing(put, |_| {
            format!("the provider's name of {} is another person's", row.id)
        })?;
        Err(conflict(format!(
            "person {} was changed meanwhile; look again",
            row.id
        )))
    }

    fn narrow_person(
        &self,
        person: &PersonId,
        roles: &str,
        disabled_at: Option<Timestamp>,
    ) -> Outcome<()> {
        self.perform(
            "UPDATE person SET roles = ?3, disabled_at = coalesce(disabled_at, ?4),
             version = version + 1 WHERE tenant = ?1 AND person = ?2",
            params![self.tenant, person.as_str(), roles, disabled_at.map(millis)],
        )?;
        if disabled_at.is_some() {
            self.perform(
                "DELETE FROM passkey WHERE tenant = ?1 AND person = ?2",
                params![self.tenant, person.as_str()],
            )?;
        }
        // A link that was made for more opens nothing any more.
        self.perform(
            "DELETE FROM token WHERE tenant = ?1 AND person = ?2",
            params![self.tenant, person.as_str()],
        )
        .map(drop)
    }

    fn put_passkey(&self, row: &Passkey) -> Outcome<()> {
        self.insert(
            "INSERT INTO passkey (tenant, passkey, person, credential, key, count, synced, note,
             made_at, used_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                self.tenant,
                row.id.as_str(),
                row.person.as_str(),
                row.credential,
                row.key,
                row.count,
                row.synced,
                row.note,
                millis(row.made_at),
                row.used_at.map(millis),
            ],
            || format!("passkey {} exists already, or its person does not", row.id),
        )
    }

    /// One that counts never stands still: two signatures with one count are two keys.
    fn use_passkey(&self, passkey: &PasskeyId, count: u32, at: Timestamp) -> Outcome<()> {
        let used = self.perform(
            "UPDATE passkey SET count = ?3, used_at = ?4 WHERE tenant = ?1 AND passkey = ?2
             AND (count < ?3 OR count = 0 AND ?3 = 0)",
            params![self.tenant, passkey.as_str(), count, millis(at)],
        )?;
        if used == 1 {
            return Ok(());
        }
        Err(conflict(format!(
            "passkey {passkey} is gone, or was used with this count already"
        )))
    }

    fn put_link(
        &self,
        hash: &Digest,
        person: Option<&PersonId>,
        expires_at: Timestamp,
    ) -> Outcome<()> {
        self.insert(
            "INSERT INTO token (tenant, hash, person, expires_at) VALUES (?1, ?2, ?3, ?4)",
            params![
                self.tenant,
                hash.0,
                person.map(PersonId::as_str),
                millis(expires_at)
            ],
            || "a sign-in token with this hash exists already".to_owned(),
        )
    }

    fn put_api_token(&self, row: &ApiToken) -> Outcome<()> {
        self.insert(
            "INSERT INTO api_token (tenant, token, hash, roles, networks, note, made_by, made_at,
             expires_at, revoked_at, used_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            params![
                self.tenant,
                row.id.as_str(),
                row.hash.0,
                row.roles,
                row.networks,
                row.note,
                row.made_by,
                millis(row.made_at),
                millis(row.expires_at),
                row.revoked_at.map(millis),
                row.used_at.map(millis),
            ],
            || format!("token {} exists already", row.id),
        )
    }

    fn put_proposal(&self, row: &Proposal) -> Outcome<()> {
        self.insert(
            "INSERT INTO proposal (tenant, proposal, class, action, method, target, seen_version,
             media_type, body, digest, world, proposed_by, proposed_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            params![
                self.tenant,
                row.id.as_str(),
                row.class,
                row.action,
                row.method,
                row.target,
                row.seen_version,
                row.media_type,
                row.body,
                row.digest.0,
                row.world.0,
                row.proposed_by,
                millis(row.proposed_at),
                millis(row.expires_at),
            ],
            || format!("proposal {} exists already", row.id),
        )
    }

    /// What was decided keeps its digest and not its content.
    fn decide_proposal(
        &self,
        proposal: &ProposalId,
        approved: bool,
        by: &str,
        at: Timestamp,
    ) -> Outcome<()> {
        let decided = self.perform(
            "UPDATE proposal SET approved = ?3, decided_by = ?4, decided_at = ?5, body = x''
             WHERE tenant = ?1 AND proposal = ?2 AND approved IS NULL AND expires_at > ?5",
            params![self.tenant, proposal.as_str(), approved, by, millis(at)],
        )?;
        if decided == 1 {
            return Ok(());
        }
        Err(conflict(format!(
            "proposal {proposal} was decided already, or its time is over"
        )))
    }

    fn revoke_api_token(&self, token: &ApiTokenId, at: Timestamp) -> Outcome<()> {
        self.perform(
            "UPDATE api_token SET revoked_at = coalesce(revoked_at, ?3)
             WHERE tenant = ?1 AND token = ?2",
            params![self.tenant, token.as_str(), millis(at)],
        )
        .map(drop)
    }

    fn note_api_token_use(&self, token: &ApiTokenId, at: Timestamp) -> Outcome<()> {
        self.perform(
            "UPDATE api_token SET used_at = ?3 WHERE tenant = ?1 AND token = ?2",
            params![self.tenant, token.as_str(), millis(at)],
        )
        .map(drop)
    }
}
