//! How a person comes in: a link that works once, for fifteen minutes, then a session.
//!
//! No default password exists. The link's token stands in the URL's fragment, which no server log
//! and no proxy sees; only its hash is stored.

use crate::clock;
use crate::entries::{self, Actor};
use crate::judge::signals::Told;
use crate::people::changing;
use crate::plane::{Plane, digest, random};
use crate::shared::Locked;
use crate::trouble::Trouble;
use access::{Role, Roles};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use detection::Feature;
use model::{Attribution, Digest, PersonId, Subject, Timestamp};
use std::collections::HashMap;
use std::fs;
use std::io::{IsTerminal, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::{Change, Direction, Person, Write};
use zeroize::Zeroizing;

const LINK_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Of a link that somebody else hands over.
pub const INVITATION_LIFETIME: Duration = Duration::from_secs(24 * 3600);
const SESSION_LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// How long after somebody proved who they are what is dangerous needs no further proof.
pub const FRESH_FOR: Duration = Duration::from_secs(300);
const SESSIONS_MAX: usize = 1024;
/// Of one person: nobody pushes others out.
const SESSIONS_A_PERSON: usize = 16;

/// Sessions of people, by the hash of their cookie. Gone after a restart: people sign in again.
#[derive(Default)]
pub struct SignIns {
    sessions: Locked<HashMap<Digest, Session>>,
}

#[derive(Debug, Clone)]
pub struct Session {
    pub person: PersonId,
    /// Tells it from the person's others; no secret.
    pub name: String,
    /// When the person last proved who they are.
    pub proven_at: Timestamp,
    pub expires_at: Timestamp,
}

impl Session {
    #[must_use]
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        self.proven_at.plus(FRESH_FOR) > now
    }
}

impl SignIns {
    /// Whose cookie this is, if it is one of ours and still good.
    #[must_use]
    pub fn find(&self, cookie: &str, now: Timestamp) -> Option<Session> {
        let sessions = self.sessions.lock();
        sessions
            .get(&digest(cookie.as_bytes()))
            .filter(|session| session.expires_at > now)
            .cloned()
    }

    /// From here on no cookie of this session is good.
    fn close(&self, name: &str) {
        let mut sessions = self.sessions.lock();
        sessions.retain(|_, session| session.name != name);
    }

    /// From here on no cookie of this person is good.
    pub fn close_all_of(&self, person: &PersonId) {
        let mut sessions = self.sessions.lock();
        sessions.retain(|_, session| session.person != *person);
    }

    /// Only after somebody proved who they are: strangers cannot fill the table.
    fn open(&self, cookie: &str, session: Session) {
        let mut sessions = self.sessions.lock();
        let now = session.proven_at;
        sessions.retain(|_, session| session.expires_at > now);
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
    }
}

/// A secret that signs in once. Its token stands behind the `#` of the address, which browsers send
/// nobody.
pub struct Link {
    token: Zeroizing<String>,
    pub expires_at: Timestamp,
    /// Before the token.
    page: String,
}

impl Link {
    /// # Errors
    /// The system gives no random bytes.
    pub fn new(plane: &Plane, now: Timestamp, lifetime: Duration) -> Result<Self, Trouble> {
        let host = plane
            .config
            .server_names
            .first()
            .map_or("localhost", String::as_str);
        Ok(Self {
            token: Zeroizing::new(URL_SAFE_NO_PAD.encode(random::<32>()?)),
            expires_at: now.plus(lifetime),
            page: format!("https://{host}:{}/#sign-in=", plane.people_port()),
        })
    }

    /// What keeps its hash. Without a person it is for the first one.
    #[must_use]
    pub fn write(&self, person: Option<PersonId>) -> Write {
        Write::PutToken {
            hash: digest(self.token.as_bytes()),
            person,
            expires_at: self.expires_at,
        }
    }

    #[must_use]
    pub fn address(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{}{}", self.page, *self.token))
    }
}

/// Makes a sign-in link for the first person, records its hash, writes it to a 0600 file, shows it
/// on a terminal only.
///
/// # Errors
/// The link could not be recorded or written.
pub async fn make_admin_link(plane: &Arc<Plane>) -> Result<(), Trouble> {
    let now = clock::now();
    let link = Link::new(plane, now, LINK_LIFETIME)?;
    let change = Change::new(Direction::Grant)
        .write(Write::ForgetTokens {
            expired_before: now,
        })
        .write(link.write(None));
    plane.commit(change).await?;
    let link = Zeroizing::new(format!("{}\n", *link.address()));
    let file = plane.config.admin_link_file();
    write_private(&file, &link)
        .map_err(|e| Trouble::fault(format_args!("{} cannot be written ({e})", file.display())))?;
    if std::io::stderr().is_terminal() {
        // A terminal is one person's; a captured log is not.
        let _ = write!(
            std::io::stderr(),
            "sign in within 15 minutes, once: {}",
            *link
        );
    } else {
        tracing::info!(
            "a sign-in link, good once and for 15 minutes, is in {}",
            file.display()
        );
    }
    Ok(())
}

/// Takes a link's token once and opens a session; the answer is its cookie. `from` is where it was
/// asked, if it came over the network: attempts are told to the judge.
///
/// # Errors
/// The token is unknown, used or expired, which are told apart to nobody; or there were too many such
/// from there.
pub async fn sign_in(
    plane: &Arc<Plane>,
    token: &str,
    from: Option<IpAddr>,
) -> Result<Zeroizing<String>, Trouble> {
    let done = try_sign_in(plane, token).await;
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
        clock::now(),
    ));
    let too_many = match (&done, from) {
        (Err(_), Some(from)) => plane.askers.guesses.wrong(from, clock::now()),
        _ => None,
    };
    match too_many {
        Some(wait) => Err(wait),
        None => done.map(|(cookie, _)| cookie),
    }
}

/// The cookie, and whose it is.
async fn try_sign_in(
    plane: &Arc<Plane>,
    token: &str,
) -> Result<(Zeroizing<String>, PersonId), Trouble> {
    let refused = || {
        Trouble::refused(
            "sign-in-refused",
            "the link is unknown, used or expired; ask for a new one, or make one on the plane's \
             machine: fleetward access admin-link",
        )
    };
    let hash = digest(token.as_bytes());
    // A flood of guesses must not fill the queue that enrollments wait in.
    let good = |token: &store::Token| token.used_at.is_none() && token.expires_at > clock::now();
    if !plane.store.token(&hash)?.as_ref().is_some_and(good) {
        return Err(refused());
    }
    let _one_at_a_time = plane.roster.changing.begin().await;
    let now = clock::now();
    let Some(link) = plane.store.token(&hash)?.filter(good) else {
        return Err(refused());
    };
    let known = match &link.person {
        Some(person) => Some(plane.roster.person(person).ok_or_else(refused)?),
        None => plane.roster.first_person(),
    };
    if known.as_ref().is_some_and(|member| !member.is_active()) {
        return Err(refused());
    }
    let mut change = Change::new(Direction::Grant)
        .guard(store::Guard::TokenUnused(hash))
        .write(Write::UseToken { hash, at: now });
    let rows = match known {
        Some(member) if member.row.joined_at.is_some() => vec![member.row],
        Some(member) => vec![Person {
            joined_at: Some(now),
            version: member.row.version.saturating_add(1),
            ..member.row
        }],
        None => first_people(now)?,
    };
    let whose = rows.first().ok_or_else(refused)?.id.clone();
    let actor = Actor::Person(whose.clone());
    for row in &rows {
        if plane
            .roster
            .person(&row.id)
            .as_ref()
            .map(|known| &known.row)
            != Some(row)
        {
            change = change.write(Write::PutPerson(row.clone()));
        }
        if row.version == 1 {
            let roles = Roles::from_text(&row.roles).unwrap_or_default();
            let added = entries::person_added(now, &Actor::Plane, &row.id, roles);
            change = change.entry(plane.leaf(&added)?);
        }
    }
    let session = Session {
        person: whose.clone(),
        name: URL_SAFE_NO_PAD.encode(random::<6>()?),
        proven_at: now,
        expires_at: now.plus(SESSION_LIFETIME),
    };
    let cookie = Zeroizing::new(URL_SAFE_NO_PAD.encode(random::<32>()?));
    let signed_in = entries::signed_in(now, &actor, &session.name, "link");
    change = change.entry(plane.leaf(&signed_in)?);
    match plane.commit(change).await {
        Ok(_) => {
            if link.person.is_none() {
                // The link is spent; a file that stays behind opens nothing.
                let _ = fs::remove_file(plane.config.admin_link_file());
            }
            for row in rows {
                plane.roster.put(row);
            }
            plane.sign_ins.open(&cookie, session);
            Ok((cookie, whose))
        }
        Err(Trouble::Commit(
            store::CommitError::Guard(_) | store::CommitError::Conflict { .. },
        )) => Err(refused()),
        Err(other) => Err(other),
    }
}

/// Whoever spends the first link can do all that one person must; and an auditor is expected beside
/// them from the first day, who joins by a link that the first person makes.
fn first_people(now: Timestamp) -> Result<Vec<Person>, Trouble> {
    let first = Roles::of([
        Role::Operator,
        Role::PkiAdmin,
        Role::PolicyAdmin,
        Role::Auditor,
        Role::TenantAdmin,
    ]);
    let person = |name: &str, roles: Roles, joined_at| {
        Ok::<_, Trouble>(Person {
            id: changing::fresh_id()?,
            name: name.to_owned(),
            roles: roles.to_string(),
            created_at: now,
            joined_at,
            disabled_at: None,
            version: 1,
        })
    };
    Ok(vec![
        person("first administrator", first, Some(now))?,
        Person {
            // After the first one in every list.
            created_at: now.plus(Duration::from_millis(1)),
            ..person("auditor", Roles::of([Role::Auditor]), None)?
        },
    ])
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

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let beside = path.with_extension("tmp");
    let _ = fs::remove_file(&beside);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}
