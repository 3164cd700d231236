//! Acts on passkeys: to add one of one's own, to take one away.

use crate::clock;
use crate::entries::{self, Actor};
use crate::plane::{Plane, random};
use crate::sign_in::Session;
use crate::sign_in::challenges::LIFETIME;
use crate::sign_in::passkey::refused;
use crate::trouble::Trouble;
use identity::person::passkey::{self, PasskeyRefusal};
use model::{PasskeyId, PersonId, Timestamp};
use std::sync::Arc;
use store::{Change, CommitError, Direction, Passkey, Receipt, Write};

pub const PASSKEYS_A_PERSON: usize = 16;
const NOTE_BYTES_MAX: usize = 128;

/// What a browser is asked to make.
pub struct Beginning {
    pub challenge: Vec<u8>,
    pub ends_at: Timestamp,
    pub relying_party: String,
    /// By which the authenticator finds it again: opaque, and no name of theirs.
    pub user: Vec<u8>,
    /// What the authenticator shows.
    pub name: String,
    /// An authenticator that has one of these makes no second one.
    pub known: Vec<Vec<u8>>,
}

/// What it made.
pub struct Made {
    pub challenge: Vec<u8>,
    pub client_data: Vec<u8>,
    pub attestation: Vec<u8>,
    /// What its person calls it.
    pub note: String,
}

/// Bound to the session that asks: what somebody else was asked is no answer here.
fn purpose(session: &Session) -> String {
    format!("passkey of {} in {}", session.person, session.name)
}

/// # Errors
/// The console has an address for which no passkey can be, or they have enough.
pub fn begin(plane: &Plane, session: &Session) -> Result<Beginning, Trouble> {
    let relying_party = plane.console().relying_party()?.to_owned();
    let now = clock::now();
    let member = plane.roster.person(&session.person);
    let known = plane.roster.passkeys_of(&session.person);
    if known.len() >= PASSKEYS_A_PERSON {
        return Err(enough());
    }
    Ok(Beginning {
        challenge: plane.sign_ins.challenges.make(&purpose(session), now)?,
        ends_at: now.plus(LIFETIME),
        relying_party,
        user: session.person.as_str().as_bytes().to_vec(),
        name: member.map(|member| member.row.name).unwrap_or_default(),
        known: known.into_iter().map(|one| one.credential).collect(),
    })
}

/// Adds it; from then on dangerous acts of this person ask for a passkey.
///
/// # Errors
/// It is not taken, or could not be recorded.
pub async fn add(
    plane: &Arc<Plane>,
    session: &Session,
    made: Made,
    actor: &Actor,
) -> Result<(Passkey, Receipt), Trouble> {
    let console = plane.console();
    let now = clock::now();
    let challenges = &plane.sign_ins.challenges;
    if challenges
        .made_at(&purpose(session), &made.challenge, now)
        .is_none()
    {
        return Err(refused(PasskeyRefusal::OtherChallenge));
    }
    let asked = passkey::Asked {
        relying_party: console.relying_party()?,
        origin: &console.origin,
        challenge: &made.challenge,
    };
    let read = passkey::Made {
        client_data: &made.client_data,
        attestation: &made.attestation,
    };
    let read = passkey::register(&asked, &read).map_err(refused)?;
    let note = made.note.trim();
    if note.len() > NOTE_BYTES_MAX || note.chars().any(char::is_control) {
        let text = format!("a name has at most {NOTE_BYTES_MAX} bytes and no control characters");
        return Err(Trouble::refused("note-refused", text));
    }
    let _one_at_a_time = plane.roster.changing.begin().await;
    let is_active = |member: super::Member| member.is_active();
    if !plane.roster.person(&session.person).is_some_and(is_active) {
        let text = format!("{} is let in no more", session.person);
        return Err(Trouble::refused("person-disabled", text));
    }
    if plane.roster.passkeys_of(&session.person).len() >= PASSKEYS_A_PERSON {
        return Err(enough());
    }
    if !challenges.spend(&made.challenge, now)? {
        return Err(refused(PasskeyRefusal::OtherChallenge));
    }
    let id = format!("k-{:010x}", u64::from_be_bytes(random()?) >> 24);
    let row = Passkey {
        id: PasskeyId::new(&id).map_err(Trouble::fault)?,
        person: session.person.clone(),
        credential: read.credential,
        key: read.key,
        count: read.count,
        synced: read.synced,
        note: note.to_owned(),
        made_at: now,
        used_at: None,
    };
    let change = Change::new(Direction::Grant)
        .write(Write::PutPasskey(row.clone()))
        .entry(plane.leaf(&entries::passkey_added(now, actor, &row))?);
    let receipt = match plane.commit(change).await {
        Err(Trouble::Commit(CommitError::Conflict { .. })) => {
            let text = "this passkey is known here already; use it, or make another";
            return Err(Trouble::refused("passkey-known", text));
        }
        done => done?,
    };
    plane.roster.put_passkey(row.clone());
    Ok((row, receipt))
}

/// It signs nobody in when this returns. Whoever takes away somebody else's ends their sessions too:
/// it may be in other hands.
///
/// # Errors
/// It is not theirs; or it could not be recorded and is in force all the same.
pub async fn remove(
    plane: &Arc<Plane>,
    person: &PersonId,
    id: &PasskeyId,
    actor: &Actor,
) -> Result<Receipt, Trouble> {
    let _one_at_a_time = plane.roster.changing.begin().await;
    let known = plane.roster.passkeys_of(person);
    let Some(row) = known.into_iter().find(|one| one.id == *id) else {
        return Err(Trouble::Unknown {
            code: "no-such-passkey",
            text: format!("{person} has no passkey {id}"),
        });
    };
    let now = clock::now();
    plane.roster.drop_passkey(&row.credential);
    if *actor != Actor::Person(person.clone()) {
        plane.sign_ins.close_all_of(person);
    }
    plane.events.nudge();
    let change = Change::new(Direction::Withdraw)
        .write(Write::DropPasskey(id.clone()))
        .entry(plane.leaf(&entries::passkey_removed(now, actor, &row))?);
    plane.commit_withdrawal(change).await
}

fn enough() -> Trouble {
    let text = format!("a person has at most {PASSKEYS_A_PERSON} passkeys; remove one first");
    Trouble::refused("too-many-passkeys", text)
}
