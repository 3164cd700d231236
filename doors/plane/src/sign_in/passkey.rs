//! Signing in with a passkey. To do it again is the fresh proof that dangerous acts ask for.

use super::challenges::LIFETIME;
use super::{Asking, Proven, Way, open, same_person, told};
use crate::clock;
use crate::plane::Plane;
use crate::trouble::Trouble;
use identity::person::passkey::{self, PasskeyRefusal};
use model::{PersonId, Timestamp};
use std::sync::Arc;
use store::{Change, CommitError, Direction, Passkey, Write};
use zeroize::Zeroizing;

const PURPOSE: &str = "passkey sign-in";

/// What a browser is asked for.
pub struct Beginning {
    pub challenge: Vec<u8>,
    pub ends_at: Timestamp,
    /// The name of the console's host.
    pub relying_party: String,
    /// Of whoever is signed in already; else the browser offers what it has.
    pub credentials: Vec<Vec<u8>>,
}

/// What it answers.
pub struct Answer {
    pub challenge: Vec<u8>,
    pub credential: Vec<u8>,
    pub client_data: Vec<u8>,
    pub authenticator_data: Vec<u8>,
    pub signature: Vec<u8>,
    /// Whose the passkey is by its own word, if it says so.
    pub user: Option<Vec<u8>>,
}

/// # Errors
/// The console has an address for which no passkey can be.
pub fn begin(plane: &Plane, asking: &Asking) -> Result<Beginning, Trouble> {
    let console = plane.console();
    let relying_party = console.relying_party()?.to_owned();
    let now = clock::now();
    let known = (asking.before.as_ref()).map(|before| plane.roster.passkeys_of(&before.person));
    let known = known.unwrap_or_default();
    Ok(Beginning {
        challenge: plane.sign_ins.challenges.make(PURPOSE, now)?,
        ends_at: now.plus(LIFETIME),
        relying_party,
        credentials: known.into_iter().map(|one| one.credential).collect(),
    })
}

/// Opens a session for the holder of a passkey.
///
/// # Errors
/// Why the passkey proves nothing.
pub async fn sign_in(
    plane: &Arc<Plane>,
    answer: &Answer,
    asking: &Asking,
) -> Result<Zeroizing<String>, Trouble> {
    let done = try_sign_in(plane, answer, asking).await;
    told(plane, Way::Passkey, asking.from, done)
}

async fn try_sign_in(
    plane: &Arc<Plane>,
    answer: &Answer,
    asking: &Asking,
) -> Result<(Zeroizing<String>, PersonId), Trouble> {
    let (row, count) = check(plane, answer, asking)?;
    let _one_at_a_time = plane.roster.changing.begin().await;
    let now = clock::now();
    // Either may have gone meanwhile.
    let known = plane
        .roster
        .passkey(&answer.credential)
        .ok_or_else(unknown)?;
    let member = plane.roster.person(&known.person).ok_or_else(unknown)?;
    if !member.is_active() || known.id != row.id {
        return Err(unknown());
    }
    if !plane.sign_ins.challenges.spend(&answer.challenge, now)? {
        return Err(refused(PasskeyRefusal::OtherChallenge));
    }
    let change = Change::new(Direction::Grant).write(Write::UsePasskey {
        passkey: row.id.clone(),
        count,
        at: now,
    });
    let person = row.person.clone();
    let proven = Proven::by(Way::Passkey, now);
    let cookie = match open(plane, change, Vec::new(), person.clone(), proven, asking).await {
        Err(Trouble::Commit(CommitError::Conflict { .. })) => {
            return Err(refused(PasskeyRefusal::Copied));
        }
        done => done?,
    };
    plane.roster.put_passkey(Passkey {
        count,
        used_at: Some(now),
        ..row
    });
    Ok((cookie, person))
}

/// What can be checked before anything is held: whose it is, and its count from now on.
fn check(plane: &Plane, answer: &Answer, asking: &Asking) -> Result<(Passkey, u32), Trouble> {
    let now = clock::now();
    let console = plane.console();
    let challenges = &plane.sign_ins.challenges;
    if challenges
        .made_at(PURPOSE, &answer.challenge, now)
        .is_none()
    {
        return Err(refused(PasskeyRefusal::OtherChallenge));
    }
    let row = plane
        .roster
        .passkey(&answer.credential)
        .ok_or_else(unknown)?;
    let own_word = answer.user.as_deref();
    if own_word.is_some_and(|user| user != row.person.as_str().as_bytes()) {
        return Err(unknown());
    }
    same_person(asking, &row.person)?;
    // Whoever left the provider must not stay by a passkey.
    if asking.before.is_none() && plane.roster.is_by_provider(&row.person) {
        return Err(Trouble::refused(
            "provider-first",
            "you come here by the provider: sign in there first; then your passkey proves what is \
             dangerous",
        ));
    }
    let asked = passkey::Asked {
        relying_party: console.relying_party()?,
        origin: &console.origin,
        challenge: &answer.challenge,
    };
    let known = passkey::Passkey {
        credential: row.credential.clone(),
        key: row.key.clone(),
        count: row.count,
        synced: row.synced,
    };
    let used = passkey::Used {
        client_data: &answer.client_data,
        authenticator_data: &answer.authenticator_data,
        signature: &answer.signature,
    };
    let proof = passkey::prove(&asked, &known, &used).map_err(refused)?;
    Ok((row, proof.count()))
}

fn unknown() -> Trouble {
    Trouble::refused(
        "passkey-unknown",
        "this passkey opens nothing here; sign in by a link (ask a tenant-admin for one) and add it, or \
         take it off your device",
    )
}

pub fn refused(why: PasskeyRefusal) -> Trouble {
    Trouble::refused(why.code(), why.to_string())
}
