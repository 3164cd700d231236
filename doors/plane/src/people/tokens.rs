//! Acts on tokens of programs: to make one, to revoke one, to find whose a secret is.

use super::Token;
use crate::clock;
use crate::entries::{self, Actor};
use crate::plane::{Plane, digest, random};
use crate::trouble::Trouble;
use access::{Network, Role, Roles};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::{ApiTokenId, Timestamp};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use store::{ApiToken, Change, Direction, Receipt, Write};
use zeroize::Zeroizing;

/// What a secret begins with, so that scanners of repositories know one.
pub const PREFIX: &str = "fwt_";
pub const DAYS_MAX: u32 = 397;
const NETWORKS_MAX: usize = 16;
const TOKENS_MAX: usize = 1000;
const NOTE_BYTES_MAX: usize = 128;
/// When it was used last is written down again after so long.
const USE_NOTED_EACH: Duration = Duration::from_secs(600);

/// What is asked for.
pub struct Wanted {
    pub roles: Roles,
    pub networks: Vec<Network>,
    pub note: String,
    pub lifetime: Duration,
}

impl Wanted {
    /// # Errors
    /// What no token may have.
    pub fn check(&self) -> Result<(), Trouble> {
        if self.roles.contains(Role::TenantAdmin) {
            let text = "a token makes no people and no tokens: tenant-admin is a person's";
            return Err(Trouble::refused("token-roles", text));
        }
        if self.networks.len() > NETWORKS_MAX {
            let text = format!("a token names at most {NETWORKS_MAX} networks");
            return Err(Trouble::refused("token-networks", text));
        }
        if self.note.len() > NOTE_BYTES_MAX || self.note.chars().any(char::is_control) {
            let text =
                format!("a note has at most {NOTE_BYTES_MAX} bytes and no control characters");
            return Err(Trouble::refused("note-refused", text));
        }
        Ok(())
    }
}

/// Makes a token; its secret is in the answer and nowhere else.
///
/// # Errors
/// It is refused, or could not be recorded.
pub async fn make(
    plane: &Arc<Plane>,
    wanted: Wanted,
    actor: &Actor,
) -> Result<(Token, Zeroizing<String>, Receipt), Trouble> {
    wanted.check()?;
    let _one_at_a_time = plane.roster.changing.begin().await;
    let now = clock::now();
    let still_good = (plane.roster.tokens().iter())
        .filter(|token| still_good(&token.row, now))
        .count();
    if still_good >= TOKENS_MAX {
        let text = format!("{TOKENS_MAX} tokens are good already; revoke what is not needed");
        return Err(Trouble::refused("too-many-tokens", text));
    }
    let secret = Zeroizing::new(format!(
        "{PREFIX}{}",
        URL_SAFE_NO_PAD.encode(random::<32>()?)
    ));
    let name = format!("t-{:010x}", u64::from_be_bytes(random()?) >> 24);
    let networks: Vec<String> = wanted.networks.iter().map(ToString::to_string).collect();
    let row = ApiToken {
        id: ApiTokenId::new(&name).map_err(Trouble::fault)?,
        hash: digest(secret.as_bytes()),
        roles: wanted.roles.to_string(),
        networks: networks.join(" "),
        note: wanted.note,
        made_by: actor.to_string(),
        made_at: now,
        expires_at: now.plus(wanted.lifetime),
        revoked_at: None,
        used_at: None,
    };
    let change = Change::new(Direction::Grant)
        .write(Write::PutApiToken(row.clone()))
        .entry(plane.leaf(&entries::token_made(now, actor, &row))?);
    let receipt = plane.commit(change).await?;
    plane.roster.put_token(row.clone());
    Ok((Token::of(row), secret, receipt))
}

/// It opens nothing when this returns.
///
/// # Errors
/// It is not known; or it could not be recorded and is in force all the same.
pub async fn revoke(
    plane: &Arc<Plane>,
    id: &ApiTokenId,
    actor: &Actor,
) -> Result<Receipt, Trouble> {
    let _one_at_a_time = plane.roster.changing.begin().await;
    let token = plane
        .roster
        .token_named(id)
        .ok_or_else(|| Trouble::Unknown {
            code: "no-such-token",
            text: format!("there is no token {id}; `fleetward access token list` lists them"),
        })?;
    let now = clock::now();
    let row = ApiToken {
        revoked_at: token.row.revoked_at.or(Some(now)),
        ..token.row
    };
    plane.roster.put_token(row);
    plane.events.nudge();
    let change = Change::new(Direction::Withdraw)
        .write(Write::RevokeApiToken {
            token: id.clone(),
            at: now,
        })
        .entry(plane.leaf(&entries::token_revoked(now, actor, id))?);
    plane.commit_withdrawal(change).await
}

/// It opens something, wherever it is shown.
#[must_use]
pub fn still_good(row: &ApiToken, now: Timestamp) -> bool {
    row.revoked_at.is_none() && row.expires_at > now
}

/// The token whose secret this is, if it is good now and shown from where it may be.
#[must_use]
pub fn find(plane: &Arc<Plane>, secret: &str, from: IpAddr) -> Option<Token> {
    if !secret.starts_with(PREFIX) {
        return None;
    }
    let now = clock::now();
    let token = plane.roster.token(&digest(secret.as_bytes()))?;
    if !token.is_good(from, now) {
        return None;
    }
    note_use(plane, &token, now);
    Some(token)
}

/// Nobody waits for it, and the last ten minutes may be lost.
fn note_use(plane: &Arc<Plane>, token: &Token, now: Timestamp) {
    let noted = token.row.used_at;
    if noted.is_some_and(|at| at.plus(USE_NOTED_EACH) > now) {
        return;
    }
    plane.roster.used(&token.row.hash, now);
    let change = Change::new(Direction::Neutral).write(Write::NoteApiTokenUse {
        token: token.row.id.clone(),
        at: now,
    });
    plane.store.submit(change, |_| {});
}
