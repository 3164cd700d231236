//! People and tokens of the API: the table in memory that gates every request, and what changes it.

pub mod changing;
pub mod passkeys;
pub mod proposals;
mod rights;
pub mod tokens;

pub use rights::Rights;

use crate::shared::{OneAtATime, ReadMostly};
use crate::trouble::Trouble;
use access::{Network, Role, Roles};
use model::{ApiTokenId, Digest, PersonId, Timestamp};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use store::{ApiToken, Passkey, Person, Store};

/// Rebuilt from the rows at start; changed only while `changing` is held.
pub struct Roster {
    /// Who may what.
    pub rights: Rights,
    /// Held while a change goes from the record to memory.
    pub changing: OneAtATime,
    table: ReadMostly<Table>,
}

#[derive(Default)]
struct Table {
    people: BTreeMap<PersonId, Member>,
    tokens: HashMap<Digest, Token>,
    /// By the credential's name.
    passkeys: HashMap<Vec<u8>, Passkey>,
    /// Who has all roles until when. In memory alone: a start ends it.
    broken_glass: HashMap<PersonId, Timestamp>,
}

#[derive(Debug, Clone)]
pub struct Member {
    pub row: Person,
    pub roles: Roles,
}

impl Member {
    fn of(row: Person) -> Self {
        // What this version cannot read gives nothing.
        let roles = Roles::from_text(&row.roles).unwrap_or_default();
        Self { row, roles }
    }

    /// They may sign in.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.row.disabled_at.is_none()
    }
}

#[derive(Debug, Clone)]
pub struct Token {
    pub row: ApiToken,
    pub roles: Roles,
    /// From where it may be shown; none: from anywhere. `None`: this version cannot read them.
    networks: Option<Vec<Network>>,
}

impl Token {
    fn of(row: ApiToken) -> Self {
        let roles = Roles::from_text(&row.roles).unwrap_or_default();
        let networks = row.networks.split_whitespace();
        let networks = networks.map(Network::parse).collect();
        Self {
            row,
            roles,
            networks,
        }
    }

    #[must_use]
    pub fn is_good(&self, from: IpAddr, now: Timestamp) -> bool {
        let from = from.to_canonical();
        let near = (self.networks.as_ref())
            .is_some_and(|all| all.is_empty() || all.iter().any(|one| one.contains(from)));
        near && tokens::still_good(&self.row, now)
    }
}

impl Roster {
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn remember(store: &Store) -> anyhow::Result<Self> {
        let people = store.people()?.into_iter();
        let tokens = store.api_tokens()?.into_iter();
        let passkeys = store.passkeys()?.into_iter();
        Ok(Self {
            rights: Rights::new()?,
            changing: OneAtATime::default(),
            table: ReadMostly::new(Table {
                people: people
                    .map(|row| (row.id.clone(), Member::of(row)))
                    .collect(),
                tokens: tokens.map(|row| (row.hash, Token::of(row))).collect(),
                passkeys: passkeys.map(|row| (row.credential.clone(), row)).collect(),
                broken_glass: HashMap::new(),
            }),
        })
    }

    #[must_use]
    pub fn person(&self, id: &PersonId) -> Option<Member> {
        self.table.read().people.get(id).cloned()
    }

    /// All, the first first.
    #[must_use]
    pub fn people(&self) -> Vec<Member> {
        let mut all: Vec<Member> = self.table.read().people.values().cloned().collect();
        all.sort_by(|a, b| (a.row.created_at, &a.row.id).cmp(&(b.row.created_at, &b.row.id)));
        all
    }

    /// Whom a link without a name is for.
    #[must_use]
    pub fn first_person(&self) -> Option<Member> {
        (self.people().into_iter())
            .find(|one| one.is_active() && one.roles.contains(Role::TenantAdmin))
    }

    /// Who comes by this name of theirs at the provider.
    #[must_use]
    pub fn person_by_subject(&self, subject: &Digest) -> Option<Member> {
        let table = self.table.read();
        let mut all = table.people.values();
        all.find(|one| one.row.subject.as_ref() == Some(subject))
            .cloned()
    }

    #[must_use]
    pub fn is_by_provider(&self, person: &PersonId) -> bool {
        let table = self.table.read();
        let known = table.people.get(person);
        known.is_some_and(|member| member.row.subject.is_some())
    }

    #[must_use]
    pub fn passkey(&self, credential: &[u8]) -> Option<Passkey> {
        self.table.read().passkeys.get(credential).cloned()
    }

    /// The oldest first.
    #[must_use]
    pub fn passkeys_of(&self, person: &PersonId) -> Vec<Passkey> {
        let table = self.table.read();
        let of_person = (table.passkeys.values()).filter(|one| one.person == *person);
        let mut all: Vec<Passkey> = of_person.cloned().collect();
        all.sort_by(|a, b| (a.made_at, &a.id).cmp(&(b.made_at, &b.id)));
        all
    }

    /// Then what is dangerous is asked of it.
    #[must_use]
    pub fn has_passkey(&self, person: &PersonId) -> bool {
        let table = self.table.read();
        table.passkeys.values().any(|one| one.person == *person)
    }

    /// By the digest of its secret: what a guess digests to is not for whoever guesses to choose, so
    /// that the time of this look-up teaches nothing about a secret of 256 random bits. For the same
    /// reason the digest needs no salt and no slow hash.
    #[must_use]
    pub fn token(&self, secret: &Digest) -> Option<Token> {
        self.table.read().tokens.get(secret).cloned()
    }

    #[must_use]
    pub fn token_named(&self, id: &ApiTokenId) -> Option<Token> {
        (self.table.read().tokens.values())
            .find(|token| token.row.id == *id)
            .cloned()
    }

    /// The newest first.
    #[must_use]
    pub fn tokens(&self) -> Vec<Token> {
        let mut all: Vec<Token> = self.table.read().tokens.values().cloned().collect();
        all.sort_by(|a, b| (b.row.made_at, &a.row.id).cmp(&(a.row.made_at, &b.row.id)));
        all
    }

    #[must_use]
    pub fn glass_is_broken(&self, person: &PersonId, now: Timestamp) -> bool {
        let table = self.table.read();
        table
            .broken_glass
            .get(person)
            .is_some_and(|until| *until > now)
    }

    fn break_glass(&self, person: &PersonId, until: Timestamp) {
        let mut table = self.table.write();
        table.broken_glass.insert(person.clone(), until);
    }

    /// Only what is on record, or withdraws.
    pub fn put(&self, row: Person) {
        let mut table = self.table.write();
        table.people.insert(row.id.clone(), Member::of(row));
    }

    fn drop_passkeys_of(&self, person: &PersonId) {
        let mut table = self.table.write();
        table.passkeys.retain(|_, one| one.person != *person);
    }

    pub(crate) fn put_passkey(&self, row: Passkey) {
        let mut table = self.table.write();
        table.passkeys.insert(row.credential.clone(), row);
    }

    fn drop_passkey(&self, credential: &[u8]) {
        self.table.write().passkeys.remove(credential);
    }

    /// Nothing else of it is touched: it may be revoked in this moment.
    fn used(&self, secret: &Digest, now: Timestamp) {
        if let Some(token) = self.table.write().tokens.get_mut(secret) {
            token.row.used_at = Some(now);
        }
    }

    fn put_token(&self, row: ApiToken) {
        self.table.write().tokens.insert(row.hash, Token::of(row));
    }
}

/// As somebody typed them.
///
/// # Errors
/// A word that names no role, none at all, or one that is nobody's to give.
pub fn parse_roles(names: &[String]) -> Result<Roles, Trouble> {
    let text = names.join(" ");
    let all: Vec<&str> = Role::ALL.map(Role::name).to_vec();
    let roles = Roles::from_text(&text).map_err(|word| {
        let word: String = word.chars().take(64).collect();
        let known = all.join(", ");
        Trouble::refused(
            "no-such-role",
            format!("{word:?} is no role; there are {known}"),
        )
    })?;
    if roles.is_empty() {
        let text = format!("name at least one role of {}", all.join(", "));
        return Err(Trouble::refused("no-role", text));
    }
    if roles.contains(Role::BreakGlass) {
        let text = "break-glass is given for an hour by a second person, not kept";
        return Err(Trouble::refused("break-glass-kept", text));
    }
    Ok(roles)
}
