//! How a person comes in: a link that works once, for fifteen minutes, then a session.
//!
//! No default password exists. The link's token stands in the URL's fragment, which no server log
//! and no proxy sees; only its hash is stored.

use crate::clock;
use crate::entries::{self, Actor};
use crate::judge::signals::Told;
use crate::plane::{Plane, digest, random};
use crate::shared::Locked;
use crate::trouble::Trouble;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use detection::Feature;
use model::{Attribution, Digest, Subject, Timestamp};
use std::collections::HashMap;
use std::fs;
use std::io::{IsTerminal, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::{Change, Direction, Write};

const LINK_LIFETIME: Duration = Duration::from_secs(15 * 60);
const SESSION_LIFETIME: Duration = Duration::from_secs(12 * 3600);
const SESSIONS_MAX: usize = 1024;

/// Sessions of people, by the hash of their cookie. Gone after a restart: people sign in again.
#[derive(Default)]
pub struct SignIns {
    sessions: Locked<HashMap<Digest, Session>>,
}

struct Session {
    name: String,
    expires_at: Timestamp,
}

impl SignIns {
    /// Whose cookie this is, if it is one of ours and still good.
    #[must_use]
    pub fn actor(&self, cookie: &str) -> Option<Actor> {
        let sessions = self.sessions.lock();
        sessions
            .get(&digest(cookie.as_bytes()))
            .filter(|session| session.expires_at > clock::now())
            .map(|session| Actor::Admin {
                session: session.name.clone(),
            })
    }

    /// From here on no cookie of this session is good.
    fn close(&self, name: &str) {
        let mut sessions = self.sessions.lock();
        sessions.retain(|_, session| session.name != name);
    }

    /// Only after a link was spent: strangers cannot fill the table.
    fn open(&self, cookie: &str, name: String, now: Timestamp) {
        let mut sessions = self.sessions.lock();
        sessions.retain(|_, session| session.expires_at > now);
        if sessions.len() >= SESSIONS_MAX {
            let ends_first = sessions
                .iter()
                .min_by_key(|(_, session)| session.expires_at);
            if let Some(cookie) = ends_first.map(|(cookie, _)| *cookie) {
                sessions.remove(&cookie);
            }
        }
        let session = Session {
            name,
            expires_at: now.plus(SESSION_LIFETIME),
        };
        sessions.insert(digest(cookie.as_bytes()), session);
    }
}

/// Makes a sign-in link, records its hash, writes it to a 0600 file, shows it on a terminal only.
///
/// # Errors
/// The link could not be recorded or written.
pub async fn make_admin_link(plane: &Arc<Plane>, people_port: u16) -> Result<(), Trouble> {
    let token = URL_SAFE_NO_PAD.encode(random::<32>()?);
    let now = clock::now();
    let change = Change::new(Direction::Grant)
        .write(Write::ForgetTokens {
            expired_before: now,
        })
        .write(Write::PutToken {
            hash: digest(token.as_bytes()),
            expires_at: now.plus(LINK_LIFETIME),
        });
    plane.commit(change).await?;
    let host = plane
        .config
        .server_names
        .first()
        .map_or("localhost", String::as_str);
    let link = format!("https://{host}:{people_port}/#sign-in={token}\n");
    let file = plane.config.admin_link_file();
    write_private(&file, &link)
        .map_err(|e| Trouble::fault(format_args!("{} cannot be written ({e})", file.display())))?;
    if std::io::stderr().is_terminal() {
        // A terminal is one person's; a captured log is not.
        let _ = write!(std::io::stderr(), "sign in within 15 minutes, once: {link}");
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
/// The token is unknown, used or expired, which are told apart to nobody.
pub async fn sign_in(
    plane: &Arc<Plane>,
    token: &str,
    from: Option<IpAddr>,
) -> Result<String, Trouble> {
    let done = try_sign_in(plane, token).await;
    let (subject, attribution) = match (&done, from) {
        (Ok((_, session)), _) => (Subject::Person(session.clone()), Attribution::Proven),
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
    done.map(|(cookie, _)| cookie)
}

/// The cookie and the session's name.
async fn try_sign_in(plane: &Arc<Plane>, token: &str) -> Result<(String, String), Trouble> {
    let now = clock::now();
    let cookie = URL_SAFE_NO_PAD.encode(random::<32>()?);
    let name = URL_SAFE_NO_PAD.encode(random::<6>()?);
    let actor = Actor::Admin {
        session: name.clone(),
    };
    let hash = digest(token.as_bytes());
    let refused = || {
        Trouble::refused(
            "sign-in-refused",
            "the link is unknown, used or expired; make a new one on the plane's machine: \
             fleetward access admin-link",
        )
    };
    // A flood of guesses must not fill the queue that enrollments wait in.
    let found = plane.store.token(&hash)?;
    if !found.is_some_and(|token| token.used_at.is_none() && token.expires_at > now) {
        return Err(refused());
    }
    let change = Change::new(Direction::Grant)
        .guard(store::Guard::TokenUnused(hash))
        .write(Write::UseToken { hash, at: now })
        .entry(plane.leaf(&entries::signed_in(now, &actor))?);
    match plane.commit(change).await {
        Ok(_) => {
            // The link is spent; a file that stays behind opens nothing.
            let _ = fs::remove_file(plane.config.admin_link_file());
            plane.sign_ins.open(&cookie, name.clone(), now);
            Ok((cookie, name))
        }
        Err(Trouble::Commit(
            store::CommitError::Guard(_) | store::CommitError::Conflict { .. },
        )) => Err(refused()),
        Err(other) => Err(other),
    }
}

/// Ends a session: at once, then on record. Whoever is no session (the local user) has none to end.
///
/// # Errors
/// It could not be recorded; the session is over all the same.
pub async fn sign_out(plane: &Arc<Plane>, actor: &Actor) -> Result<(), Trouble> {
    if let Actor::Admin { session } = actor {
        plane.sign_ins.close(session);
        plane.events.nudge();
        let leaf = plane.leaf(&entries::signed_out(clock::now(), actor))?;
        let change = Change::new(Direction::Withdraw).entry(leaf);
        plane.commit_withdrawal(change).await?;
    }
    Ok(())
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
