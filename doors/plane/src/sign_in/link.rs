//! Sign-in links: a secret that works once, handed over by a way that is private.

use super::{Asking, Proven, Way, open, told};
use crate::clock;
use crate::entries::{self, Actor};
use crate::people::changing;
use crate::plane::{Plane, digest, random};
use crate::trouble::Trouble;
use access::{Role, Roles};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::{PersonId, Timestamp};
use std::fs;
use std::io::{IsTerminal, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::{Change, Direction, Person, Write};
use zeroize::Zeroizing;

const LINK_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Of a link that somebody else hands over.
pub const INVITATION_LIFETIME: Duration = Duration::from_secs(24 * 3600);

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
        Ok(Self {
            token: Zeroizing::new(URL_SAFE_NO_PAD.encode(random::<32>()?)),
            expires_at: now.plus(lifetime),
            page: format!("{}/#sign-in=", plane.console().origin),
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

/// Takes a link's token once and opens a session; the answer is its cookie.
///
/// # Errors
/// The token is unknown, used or expired, which are told apart to nobody; or there were too many such
/// from there.
pub async fn sign_in(
    plane: &Arc<Plane>,
    token: &str,
    asking: &Asking,
) -> Result<Zeroizing<String>, Trouble> {
    let done = try_sign_in(plane, token, asking).await;
    told(plane, Way::Link, asking.from, done)
}

/// The cookie, and whose it is.
async fn try_sign_in(
    plane: &Arc<Plane>,
    token: &str,
    asking: &Asking,
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
    let is_new = |row: &Person| {
        let known = plane.roster.person(&row.id);
        known.is_none_or(|known| known.row != *row)
    };
    let rows: Vec<Person> = rows.into_iter().filter(is_new).collect();
    for row in rows.iter().filter(|row| row.version == 1) {
        let roles = Roles::from_text(&row.roles).unwrap_or_default();
        let added = entries::person_added(now, &Actor::Plane, &row.id, roles);
        change = change.entry(plane.leaf(&added)?);
    }
    let proven = Proven::by(Way::Link, now);
    match open(plane, change, rows, whose.clone(), proven, asking).await {
        Ok(cookie) => {
            if link.person.is_none() {
                // The link is spent; a file that stays behind opens nothing.
                let _ = fs::remove_file(plane.config.admin_link_file());
            }
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
            subject: None,
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
