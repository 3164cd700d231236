//! How a person comes in: by a link that works once, a passkey, or a provider of identities; then a
//! session.
//!
//! No default password exists. A link's token stands in the URL's fragment, which no server log and no
//! proxy sees; only its hash is stored.

pub mod challenges;
mod heard;
pub mod link;
pub mod passkey;
pub mod provider;

use crate::clock;
use crate::entries::{self, Actor};
use crate::judge::signals::Told;
use crate::plane::{Plane, digest, random};
use crate::shared::Locked;
use crate::trouble::Trouble;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use challenges::Challenges;
use detection::Feature;
use heard::{Heard, Over};
use model::{Attribution, Digest, PersonId, Subject, Timestamp};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use store::{Change, Direction, Person, Write};
use zeroize::Zeroizing;

const SESSION_LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// How long after somebody proved who they are what is dangerous needs no further proof.
pub const FRESH_FOR: Duration = Duration::from_secs(300);
const SESSIONS_MAX: usize = 1024;
/// Of one person: nobody pushes others out.
const SESSIONS_A_PERSON: usize = 16;
/// That are told to administrators.
const REFUSALS_KEPT: usize = 64;

/// By what somebody proved who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Link,
    Passkey,
    Provider,
}

impl Way {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Passkey => "passkey",
            Self::Provider => "provider",
        }
    }
}

/// Sessions of people, by the hash of their cookie. Gone after a restart: people sign in again.
pub struct SignIns {
    table: Locked<Table>,
    pub challenges: Challenges,
    refusals: Locked<VecDeque<Refused>>,
}

/// Under one lock: between a look for words that end a session and its opening none is missed.
#[derive(Default)]
struct Table {
    sessions: HashMap<Digest, Session>,
    heard: Heard,
}

#[derive(Debug, Clone)]
pub struct Session {
    pub person: PersonId,
    /// Tells it from the person's others; no secret.
    pub name: String,
    pub way: Way,
    /// When the person last proved who they are.
    pub proven_at: Timestamp,
    pub expires_at: Timestamp,
    /// By which it was opened, or the one whose place it took.
    at_provider: Option<Arc<AtProvider>>,
}

/// A session at the provider.
struct AtProvider {
    /// When the sign-in was begun here by which it came.
    begun_at: Timestamp,
    /// Of whom: the digest of issuer and subject.
    subject: Digest,
    /// What the provider calls it, if it does.
    session: Option<String>,
    /// Shown to the provider when its person signs out there too, as the one it concerns; empty if it
    /// is too long for an address.
    token: Zeroizing<String>,
}

impl fmt::Debug for AtProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtProvider").finish_non_exhaustive()
    }
}

/// By what somebody proved who they are, and when.
struct Proven {
    way: Way,
    at: Timestamp,
    at_provider: Option<Arc<AtProvider>>,
}

impl Proven {
    /// By something between them and this plane alone.
    const fn by(way: Way, at: Timestamp) -> Self {
        Self {
            way,
            at,
            at_provider: None,
        }
    }
}

/// Somebody who was not let in: for whoever can help them.
#[derive(Debug, Clone)]
pub struct Refused {
    pub at: Timestamp,
    pub way: Way,
    pub code: &'static str,
    pub text: String,
    /// From where they asked, if over a network.
    pub from: Option<IpAddr>,
}

/// Who asks to be let in.
pub struct Asking {
    pub from: Option<IpAddr>,
    /// The session that the same browser has already; a new one takes its place.
    pub before: Option<Session>,
}

impl Session {
    /// `has_passkey`: then a passkey is asked for. A link may have been read by somebody else.
    #[must_use]
    pub fn is_fresh(&self, now: Timestamp, has_passkey: bool) -> bool {
        let by_their_best = !has_passkey || self.way == Way::Passkey;
        by_their_best && self.proven_at.plus(FRESH_FOR) > now
    }
}

impl SignIns {
    /// # Errors
    /// The system gives no random bytes.
    pub fn new() -> Result<Self, Trouble> {
        Ok(Self {
            table: Locked::default(),
            challenges: Challenges::new()?,
            refusals: Locked::default(),
        })
    }

    /// Whose cookie this is, if it is one of ours and still good.
    #[must_use]
    pub fn find(&self, cookie: &str, now: Timestamp) -> Option<Session> {
        let table = self.table.lock();
        (table.sessions)
            .get(&digest(cookie.as_bytes()))
            .filter(|session| session.expires_at > now)
            .cloned()
    }

    /// Who was not let in, the newest first; what was longer ago is forgotten.
    #[must_use]
    pub fn refusals(&self) -> Vec<Refused> {
        self.refusals.lock().iter().cloned().collect()
    }

    fn refused(&self, refused: Refused) {
        let mut refusals = self.refusals.lock();
        refusals.truncate(REFUSALS_KEPT - 1);
        refusals.push_front(refused);
    }

    /// From here on no cookie of this session is good.
    fn close(&self, name: &str) {
        let mut table = self.table.lock();
        (table.sessions).retain(|_, session| session.name != name);
    }

    /// From here on no cookie of this person is good.
    pub fn close_all_of(&self, person: &PersonId) {
        let mut table = self.table.lock();
        (table.sessions).retain(|_, session| session.person != *person);
    }

    /// From here on no cookie of those is good whose session at the provider is over, nor will one be of
    /// whoever is signing in by it just now; whose they were.
    fn hear(&self, over: Over, now: Timestamp) -> Vec<Session> {
        let mut table = self.table.lock();
        let is_over = |session: &Session| {
            let at_provider = session.at_provider.as_deref();
            at_provider.is_some_and(|at_provider| over.ends(at_provider))
        };
        let closed = (table.sessions).extract_if(|_, session| is_over(session));
        let closed = closed.map(|(_, session)| session).collect();
        table.heard.keep(over, now);
        closed
    }

    /// Whether it ended before it could be opened: the provider has told of its end, or the one whose
    /// place it would take has ended.
    fn is_over(&self, session: &Session, before: Option<&Session>, now: Timestamp) -> bool {
        self.table.lock().is_over(session, before, now)
    }

    /// In the place of `before`. Only after somebody proved who they are: strangers cannot fill the
    /// table. `false`: it is over already.
    fn open(
        &self,
        cookie: &str,
        session: Session,
        before: Option<&Session>,
        now: Timestamp,
    ) -> bool {
        let mut table = self.table.lock();
        if table.is_over(&session, before, now) {
            return false;
        }
        let sessions = &mut table.sessions;
        sessions.retain(|_, other| {
            other.expires_at > now && before.is_none_or(|before| other.name != before.name)
        });
        let of_person = (sessions.values())
            .filter(|other| other.person == session.person)
            .count();
        let full = sessions.len() >= SESSIONS_MAX;
        if full || of_person >= SESSIONS_A_PERSON {
            let ends_first = sessions
                .iter()
                .filter(|(_, other)| full || other.person == session.person)
                .min_by_key(|(_, session)| session.expires_at);
            if let Some(cookie) = ends_first.map(|(cookie, _)| *cookie) {
                sessions.remove(&cookie);
            }
        }
        sessions.insert(digest(cookie.as_bytes()), session);
        true
    }
}

impl Table {
    fn is_over(&mut self, session: &Session, before: Option<&Session>, now: Timestamp) -> bool {
        match (session.way, session.at_provider.as_deref(), before) {
            (Way::Provider, Some(at_provider), _) => self.heard.ends(at_provider, now),
            // Whoever ended that one meant this one too.
            (_, _, Some(before)) => {
                let is_in = |other: &Session| other.name == before.name;
                !self.sessions.values().any(is_in)
            }
            _ => false,
        }
    }
}

/// Opens a session for somebody who proved who they are, once the change with its entry is durable.
/// `rows` are people that the change writes.
async fn open(
    plane: &Arc<Plane>,
    change: Change,
    rows: Vec<Person>,
    person: PersonId,
    proven: Proven,
    asking: &Asking,
) -> Result<Zeroizing<String>, Trouble> {
    let now = clock::now();
    let actor = Actor::Person(person.clone());
    let expires_at = now.plus(SESSION_LIFETIME);
    let before = (asking.before.as_ref()).filter(|before| before.person == person);
    let session = Session {
        // The provider is asked again no later for it.
        expires_at: match before {
            Some(before) if proven.way == Way::Passkey && plane.roster.is_by_provider(&person) => {
                before.expires_at.min(expires_at)
            }
            _ => expires_at,
        },
        // Proven anew by a passkey, it ends with the provider's all the same.
        at_provider: (proven.at_provider)
            .or_else(|| before.and_then(|before| before.at_provider.clone())),
        person,
        name: URL_SAFE_NO_PAD.encode(random::<6>()?),
        way: proven.way,
        proven_at: proven.at,
    };
    let cookie = Zeroizing::new(URL_SAFE_NO_PAD.encode(random::<32>()?));
    if plane.sign_ins.is_over(&session, before, now) {
        return Err(signed_out_meanwhile());
    }
    let signed_in = entries::signed_in(now, &actor, &session.name, proven.way.name());
    let put = rows.iter().cloned().map(Write::PutPerson);
    let change = put.fold(change, Change::write);
    plane.commit(change.entry(plane.leaf(&signed_in)?)).await?;
    for row in rows {
        plane.roster.put(row);
    }
    let out = match session.way {
        Way::Provider => entries::signed_out_at_provider(now, &session.person, &session.name),
        Way::Link | Way::Passkey => entries::signed_out(now, &actor, &session.name),
    };
    if !plane.sign_ins.open(&cookie, session, before, clock::now()) {
        // On record it was opened; it never was.
        let change = Change::new(Direction::Withdraw).entry(plane.leaf(&out)?);
        plane.commit_withdrawal(change).await?;
        return Err(signed_out_meanwhile());
    }
    Ok(cookie)
}

fn signed_out_meanwhile() -> Trouble {
    Trouble::refused(
        "signed-out-meanwhile",
        "a sign-out came while this sign-in was under way; sign in again",
    )
}

/// Tells the judge who came in or from where somebody tried to, and keeps a refusal for whoever can
/// help.
fn told(
    plane: &Plane,
    way: Way,
    from: Option<IpAddr>,
    done: Result<(Zeroizing<String>, PersonId), Trouble>,
) -> Result<Zeroizing<String>, Trouble> {
    let now = clock::now();
    if let Err(Trouble::Refused { code, text }) = &done {
        plane.sign_ins.refused(Refused {
            at: now,
            way,
            code,
            text: text.clone(),
            from,
        });
    }
    let (subject, attribution) = match (&done, from) {
        (Ok((_, person)), _) => (Subject::Person(person.to_string()), Attribution::Proven),
        (Err(Trouble::Refused { .. }), Some(from)) => {
            (Subject::Address(from.to_canonical()), Attribution::Address)
        }
        // Trouble of ours, or somebody at this machine.
        (Err(_), _) => return done.map(|(cookie, _)| cookie),
    };
    let accepted = done.is_ok();
    plane.signals.tell(Told::seen(
        subject,
        attribution,
        Feature::SignIn { accepted },
        now,
    ));
    // Only a link is a secret of ours that somebody could try to guess.
    let too_many = match (&done, from) {
        (Err(_), Some(from)) if way == Way::Link => plane.askers.guesses.wrong(from, now),
        _ => None,
    };
    match too_many {
        Some(wait) => Err(wait),
        None => done.map(|(cookie, _)| cookie),
    }
}

/// Whoever is signed in already stays who they are until they sign out.
fn same_person(asking: &Asking, person: &PersonId) -> Result<(), Trouble> {
    match &asking.before {
        Some(before) if before.person != *person => Err(Trouble::refused(
            "another-person",
            "this proves somebody else than who is signed in here; sign out first",
        )),
        _ => Ok(()),
    }
}

/// Ends a session: at once, then on record.
///
/// # Errors
/// It could not be recorded; the session is over all the same.
pub async fn sign_out(plane: &Arc<Plane>, actor: &Actor, session: &str) -> Result<(), Trouble> {
    plane.sign_ins.close(session);
    plane.events.nudge();
    let leaf = plane.leaf(&entries::signed_out(clock::now(), actor, session))?;
    let change = Change::new(Direction::Withdraw).entry(leaf);
    plane.commit_withdrawal(change).await.map(drop)
}

#[cfg(test)]
mod tests;
