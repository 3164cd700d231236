//! Acts on people: to add one, to give and take roles, to let nobody in any more. What grants is
//! durable first; what withdraws bites in memory first.

use super::{Member, Roster};
use crate::clock;
use crate::entries::{self, Actor};
use crate::plane::{Plane, random};
use crate::sign_in::link::{INVITATION_LIFETIME, Link};
use crate::trouble::Trouble;
use access::Roles;
use model::PersonId;
use std::sync::Arc;
use store::{Change, Direction, Person, Receipt, Write};

/// Rows are read whole into memory.
pub const PEOPLE_MAX: usize = 1000;
const NAME_BYTES_MAX: usize = 128;

/// A person's name of ours, as nobody else has it.
pub fn fresh_id() -> Result<PersonId, Trouble> {
    let random = u64::from_be_bytes(random()?);
    PersonId::new(&format!("p-{random:016x}")).map_err(Trouble::fault)
}

/// Adds a person, who joins by the link.
///
/// # Errors
/// Nothing of it was done.
pub async fn add(
    plane: &Arc<Plane>,
    name: &str,
    roles: Roles,
    actor: &Actor,
) -> Result<(Member, Link, Receipt), Trouble> {
    let _one_at_a_time = plane.roster.changing.begin().await;
    if plane.roster.people().len() >= PEOPLE_MAX {
        let text = format!("a plane has at most {PEOPLE_MAX} people, disabled ones included");
        return Err(Trouble::refused("too-many-people", text));
    }
    let now = clock::now();
    let row = Person {
        id: fresh_id()?,
        name: checked_name(name)?,
        roles: roles.to_string(),
        created_at: now,
        joined_at: None,
        disabled_at: None,
        version: 1,
        subject: None,
    };
    let link = Link::new(plane, now, INVITATION_LIFETIME)?;
    let change = Change::new(Direction::Grant)
        .write(Write::PutPerson(row.clone()))
        .write(link.write(Some(row.id.clone())))
        .entry(plane.leaf(&entries::person_added(now, actor, &row.id, roles))?);
    let receipt = plane.commit(change).await?;
    plane.roster.put(row.clone());
    Ok((Member::of(row), link, receipt))
}

/// Gives a person these roles and no others, if nobody changed them since they were looked at.
///
/// # Errors
/// Nothing of it was done, unless it only takes away.
pub async fn change(
    plane: &Arc<Plane>,
    id: &PersonId,
    seen_version: u64,
    name: &str,
    roles: Roles,
    actor: &Actor,
) -> Result<(Member, Receipt), Trouble> {
    let _one_at_a_time = plane.roster.changing.begin().await;
    let member = known(&plane.roster, id)?;
    if member.row.version != seen_version {
        return Err(Trouble::Moved {
            text: format!("{id} was changed meanwhile; look again, then decide"),
        });
    }
    let now = clock::now();
    let row = Person {
        name: checked_name(name)?,
        roles: roles.to_string(),
        version: member.row.version.saturating_add(1),
        ..member.row.clone()
    };
    let gives = !roles.without(member.roles).is_empty() || !member.is_active();
    let act = entries::person_changed(now, actor, id, member.roles, roles);
    let leaf = plane.leaf(&act)?;
    if gives || roles == member.roles {
        let row = Person {
            disabled_at: None,
            ..row
        };
        let change = Change::new(Direction::Grant)
            .write(Write::PutPerson(row.clone()))
            .entry(leaf);
        let receipt = plane.commit(change).await?;
        plane.roster.put(row.clone());
        return Ok((Member::of(row), receipt));
    }
    plane.roster.put(row.clone());
    plane.events.nudge();
    let change = Change::new(Direction::Withdraw)
        .write(narrowing(&row))
        .entry(leaf);
    let receipt = plane.commit_withdrawal(change).await?;
    Ok((Member::of(row), receipt))
}

/// Lets a person in no more; their sessions are over and their passkeys gone when this returns.
///
/// # Errors
/// It could not be recorded; it is in force all the same.
pub async fn disable(plane: &Arc<Plane>, id: &PersonId, actor: &Actor) -> Result<Receipt, Trouble> {
    let _one_at_a_time = plane.roster.changing.begin().await;
    let member = known(&plane.roster, id)?;
    let now = clock::now();
    let row = Person {
        roles: String::new(),
        disabled_at: member.row.disabled_at.or(Some(now)),
        version: member.row.version.saturating_add(1),
        ..member.row
    };
    plane.roster.put(row.clone());
    plane.sign_ins.close_all_of(id);
    plane.roster.drop_passkeys_of(id);
    plane.events.nudge();
    let leaf = plane.leaf(&entries::person_disabled(now, actor, id))?;
    let change = Change::new(Direction::Withdraw)
        .write(narrowing(&row))
        .entry(leaf);
    plane.commit_withdrawal(change).await
}

/// A link by which a person signs in once; those before it open nothing.
///
/// # Errors
/// It could not be recorded.
pub async fn link(plane: &Arc<Plane>, id: &PersonId, actor: &Actor) -> Result<Link, Trouble> {
    let _one_at_a_time = plane.roster.changing.begin().await;
    let member = known(&plane.roster, id)?;
    if !member.is_active() {
        let text = format!("{id} is disabled; give them a role first");
        return Err(Trouble::refused("person-disabled", text));
    }
    if member.row.subject.is_some() {
        let text = format!("{id} comes by the provider of identities, and by no link");
        return Err(Trouble::refused("by-provider", text));
    }
    let now = clock::now();
    let link = Link::new(plane, now, INVITATION_LIFETIME)?;
    let change = Change::new(Direction::Grant)
        .write(Write::ForgetTokens {
            expired_before: now,
        })
        .write(link.write(Some(id.clone())))
        .entry(plane.leaf(&entries::link_made(now, actor, id))?);
    plane.commit(change).await?;
    Ok(link)
}

pub fn narrowing(row: &Person) -> Write {
    Write::NarrowPerson {
        person: row.id.clone(),
        roles: row.roles.clone(),
        disabled_at: row.disabled_at,
    }
}

fn known(roster: &Roster, id: &PersonId) -> Result<Member, Trouble> {
    roster.person(id).ok_or_else(|| Trouble::Unknown {
        code: "no-such-person",
        text: format!("there is no person {id}; `fleetward access people list` lists them"),
    })
}

fn checked_name(name: &str) -> Result<String, Trouble> {
    let name = name.trim();
    if name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        let text = format!("a name has at most {NAME_BYTES_MAX} bytes and no control characters");
        return Err(Trouble::refused("name-refused", text));
    }
    Ok(name.to_owned())
}
