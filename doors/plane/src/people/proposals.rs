//! Acts that wait for a second person: kept as they were asked for, done as they were shown.

use super::tokens::still_good;
use crate::clock;
use crate::commanding;
use crate::entries::{self, Actor};
use crate::judge::signals::Told;
use crate::plane::{Plane, digest, digest_of, random};
use crate::trouble::Trouble;
use access::{
    ActClass, Action, Asker, DeniedAct, Proposed, Role, Roles, SecondPerson, Undecidable,
};
use detection::Feature;
use model::{Attribution, CommandId, Digest, PersonId, ProposalId, Subject, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use store::{Change, Command, Direction, Proposal, Write};

const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// After its end a proposal stays to be looked at.
const KEPT: Duration = Duration::from_secs(30 * 86_400);
const WAITING_MAX: usize = 32;
const WAITING_A_PROPOSER: usize = 8;
pub const BREAK_GLASS_LIFETIME: Duration = Duration::from_secs(3600);

/// An act as it was asked for.
pub struct Asked {
    pub class: ActClass,
    pub action: Action,
    pub method: String,
    pub target: String,
    pub seen_version: Option<String>,
    pub media_type: String,
    pub body: Vec<u8>,
}

impl Asked {
    fn digest(&self) -> Digest {
        let seen_version = self.seen_version.as_deref().unwrap_or_default();
        digest_of(&[
            self.action.name().as_bytes(),
            self.method.as_bytes(),
            self.target.as_bytes(),
            seen_version.as_bytes(),
            self.media_type.as_bytes(),
            &self.body,
        ])
    }
}

/// Whether it must wait.
#[must_use]
pub fn must_wait(plane: &Plane, class: ActClass, action: Action, asker: Asker, by: &Actor) -> bool {
    let rule = plane.config.access.second_person(class);
    let others = match rule {
        SecondPerson::WhenThereIsOne => others(plane, action, by),
        SecondPerson::Always | SecondPerson::Never => 0,
    };
    access::is_second_needed(class, rule, asker, others)
}

/// People who have joined and could approve it.
fn others(plane: &Plane, action: Action, by: &Actor) -> usize {
    (plane.roster.people().into_iter())
        .filter(|member| member.is_active() && member.row.joined_at.is_some())
        .filter(|member| Actor::Person(member.row.id.clone()) != *by)
        .filter(|member| {
            let (roles, is_fresh) = (member.roles, true);
            let asker = Asker::Person { roles, is_fresh };
            [action, Action::ProposalDecide]
                .into_iter()
                .all(|action| plane.roster.rights.decide(asker, action).is_ok())
        })
        .count()
}

/// Keeps it until another person decides.
///
/// # Errors
/// Too many wait, or it could not be recorded.
pub async fn propose(plane: &Arc<Plane>, asked: Asked, by: &Actor) -> Result<Proposal, Trouble> {
    let _one_at_a_time = plane.roster.changing.begin().await;
    let now = clock::now();
    let name = by.to_string();
    check_room(plane, &name, now)?;
    let id = format!("a-{:016x}", u64::from_be_bytes(random()?));
    let row = Proposal {
        id: ProposalId::new(&id).map_err(Trouble::fault)?,
        class: asked.class.name().to_owned(),
        action: asked.action.name().to_owned(),
        digest: asked.digest(),
        world: world(plane, asked.class),
        method: asked.method,
        target: asked.target,
        seen_version: asked.seen_version,
        media_type: asked.media_type,
        body: asked.body,
        proposed_by: name,
        proposed_at: now,
        expires_at: now.plus(LIFETIME),
        approved: None,
        decided_by: None,
        decided_at: None,
    };
    let change = Change::new(Direction::Neutral)
        .write(Write::ForgetProposals {
            expired_before: now.minus(KEPT),
        })
        .write(Write::PutProposal(row.clone()))
        .entry(plane.leaf(&entries::act_proposed(now, by, &row))?);
    plane.commit(change).await?;
    Ok(row)
}

/// # Errors
/// Too many wait already, of all or of this one.
pub fn check_room(plane: &Plane, by: &str, now: Timestamp) -> Result<(), Trouble> {
    let all = plane.store.proposals(None, 1000)?.into_iter();
    let waiting: Vec<Proposal> = all
        .filter(|one| one.approved.is_none() && one.expires_at > now)
        .collect();
    let own = waiting.iter().filter(|one| one.proposed_by == by).count();
    if waiting.len() < WAITING_MAX && own < WAITING_A_PROPOSER {
        return Ok(());
    }
    let text =
        "too many acts wait for a second person; decide some: `fleetward access proposal list`";
    Err(Trouble::refused("too-many-proposals", text))
}

/// A held command as an act that waits. It is on record already, with its devices: what another
/// person lets go is that one.
///
/// # Errors
/// A fault of ours.
pub fn of_command(command: &Command, devices: usize) -> Result<Proposal, Trouble> {
    let shown = serde_json::json!({
        "command": command.id.to_string(),
        "channel": command.channel,
        "target": command.target,
        "devices": devices,
        "payload_sha256": digest(&command.payload).to_string(),
        "expires_at": command.expires_at.to_string(),
    });
    let body = shown.to_string().into_bytes();
    Ok(Proposal {
        id: id_of_command(command.id)?,
        class: ActClass::CommandMany.name().to_owned(),
        action: Action::Command.name().to_owned(),
        method: "POST".to_owned(),
        target: format!("/api/v1/gateway/commands/{}", command.id),
        seen_version: None,
        media_type: "application/json".to_owned(),
        digest: digest_of(&[&command.request.0, &body]),
        body,
        world: digest(b""),
        proposed_by: command.by.clone(),
        proposed_at: command.asked_at,
        expires_at: command.expires_at,
        approved: None,
        decided_by: None,
        decided_at: None,
    })
}

/// # Errors
/// A fault of ours.
pub fn id_of_command(id: CommandId) -> Result<ProposalId, Trouble> {
    ProposalId::new(&format!("a-{:016x}", id.number())).map_err(Trouble::fault)
}

fn command_of(row: &Proposal) -> Result<CommandId, Trouble> {
    let id = row.target.rsplit('/').next().and_then(CommandId::from_text);
    id.ok_or_else(|| Trouble::fault(format_args!("{} names no command", row.id)))
}

/// # Errors
/// There is none of that name, or the disk.
pub fn known(plane: &Plane, id: &ProposalId) -> Result<Proposal, Trouble> {
    plane.store.proposal(id)?.ok_or_else(|| Trouble::Unknown {
        code: "no-such-proposal",
        text: format!("there is no proposal {id}; `fleetward access proposal list` lists them"),
    })
}

/// What is left to be done of an act that was approved.
pub enum Approved {
    /// All of it, once, in the name of who asked for it.
    Request(Box<Proposal>, Asker, Actor),
    /// Nothing: the command goes out.
    Command(Box<Command>),
}

/// Approves it, if it is what was shown and what it builds on has not moved.
///
/// # Errors
/// Why not; nothing was decided then.
pub async fn approve(
    plane: &Arc<Plane>,
    id: &ProposalId,
    shown: Digest,
    asker: Asker,
    by: &Actor,
) -> Result<Approved, Trouble> {
    let row = known(plane, id)?;
    let now = clock::now();
    let action = Action::from_name(&row.action).ok_or_else(|| world_moved(id))?;
    let proposed = Proposed {
        action,
        proposed_by: &row.proposed_by,
        expires_at: row.expires_at,
        is_decided: row.approved.is_some(),
    };
    access::may_decide(
        plane.roster.rights.people(),
        proposed,
        asker,
        &by.to_string(),
        now,
    )
    .map_err(|why| undecidable(id, why))?;
    if row.digest != shown {
        let text = format!("{id} is another act than the one that was shown; look at it again");
        return Err(Trouble::refused("not-what-was-shown", text));
    }
    let class = ActClass::from_name(&row.class).ok_or_else(|| world_moved(id))?;
    if row.world != world(plane, class) {
        return Err(world_moved(id));
    }
    let proposer = Actor::named(&row.proposed_by);
    let theirs = asker_of(plane, &proposer, now);
    let gone = || {
        let text = format!("{} may not do it any more; {id} is void", row.proposed_by);
        Trouble::refused("proposer-gone", text)
    };
    let change = Change::new(Direction::Grant)
        .write(decision(id, true, by, now))
        .entry(plane.leaf(&entries::act_approved(now, by, &row))?);
    if class == ActClass::CommandMany {
        // A service has no row here: that it was not revoked is asked where the command is released.
        let may = |asker| plane.roster.rights.decide(asker, Action::Command).is_ok();
        let is_gone =
            matches!(proposer, Actor::Person(_) | Actor::Token(_)) && !theirs.is_some_and(may);
        if is_gone {
            return Err(gone());
        }
        let command = commanding::release(plane, command_of(&row)?, by, change).await?;
        return Ok(Approved::Command(Box::new(command)));
    }
    let theirs = theirs.ok_or_else(gone)?;
    plane.commit(change).await?;
    Ok(Approved::Request(Box::new(row), theirs, proposer))
}

/// It will not be done. Whoever asked for it may say so as well.
///
/// # Errors
/// It was decided already, or is not theirs to decide.
pub async fn refuse(
    plane: &Arc<Plane>,
    id: &ProposalId,
    asker: Asker,
    by: &Actor,
) -> Result<(), Trouble> {
    let row = known(plane, id)?;
    let now = clock::now();
    let own = row.proposed_by == by.to_string();
    let may = plane.roster.rights.decide(asker, Action::ProposalDecide);
    if let (false, Err(denied)) = (own, may) {
        return Err(undecidable(id, Undecidable::Denied(denied)));
    }
    if ActClass::from_name(&row.class) == Some(ActClass::CommandMany) {
        let reason = "refused by a second person";
        let cancelled = commanding::cancel(plane, command_of(&row)?, reason, by).await;
        return cancelled.map(drop);
    }
    let change = Change::new(Direction::Withdraw)
        .write(decision(id, false, by, now))
        .entry(plane.leaf(&entries::act_refused(now, by, &row))?);
    plane.commit(change).await.map(drop)
}

/// Gives a person all that operators and administrators may, until the hour is over or the plane is
/// started again. Only what two people agreed on comes here.
///
/// # Errors
/// It could not be recorded.
pub async fn break_glass(
    plane: &Arc<Plane>,
    actor: &Actor,
    reason: &str,
) -> Result<Timestamp, Trouble> {
    let Actor::Person(person) = actor else {
        return Err(Trouble::refused(
            "not-a-person",
            "break-glass is given to a person",
        ));
    };
    let now = clock::now();
    let until = now.plus(BREAK_GLASS_LIFETIME);
    let change = Change::new(Direction::Grant)
        .entry(plane.leaf(&entries::glass_broken(now, actor, until, reason))?);
    plane.commit(change).await?;
    plane.roster.break_glass(person, until);
    plane.signals.tell(Told::seen(
        Subject::Person(person.to_string()),
        Attribution::Proven,
        Feature::GlassBroken,
        now,
    ));
    tracing::warn!("{actor} broke the glass: all roles until {until}");
    Ok(until)
}

/// # Errors
/// A fault of ours.
pub fn refusal_of_command(id: CommandId, by: &Actor, at: Timestamp) -> Result<Write, Trouble> {
    Ok(decision(&id_of_command(id)?, false, by, at))
}

fn decision(id: &ProposalId, approved: bool, by: &Actor, at: Timestamp) -> Write {
    Write::DecideProposal {
        proposal: id.clone(),
        approved,
        by: by.to_string(),
        at,
    }
}

/// What somebody may ask now whose act was approved: their proof of who they are was fresh when they
/// asked for it.
fn asker_of(plane: &Plane, actor: &Actor, now: Timestamp) -> Option<Asker> {
    match actor {
        Actor::Person(id) => {
            let member = plane.roster.person(id).filter(super::Member::is_active)?;
            Some(Asker::Person {
                roles: roles_of(plane, id, member.roles, now),
                is_fresh: true,
            })
        }
        Actor::Token(id) => {
            let token = plane.roster.token_named(id)?;
            still_good(&token.row, now).then_some(Asker::Token { roles: token.roles })
        }
        _ => None,
    }
}

/// With those of a broken glass.
#[must_use]
pub fn roles_of(plane: &Plane, person: &PersonId, roles: Roles, now: Timestamp) -> Roles {
    if plane.roster.glass_is_broken(person, now) {
        roles.with(Role::BreakGlass)
    } else {
        roles
    }
}

/// What acts of this class build on.
fn world(plane: &Plane, class: ActClass) -> Digest {
    match class {
        ActClass::Policy => {
            let fleet = plane.admission.fleet.get();
            digest(format!("{} {}", fleet.version, fleet.digest()).as_bytes())
        }
        ActClass::Ca => {
            let tree = plane.tree();
            let roots = tree.roots().iter().map(|one| (one.state, &one.certificate));
            let issuing = tree
                .issuing()
                .iter()
                .map(|one| (one.state, &one.certificate));
            let all: Vec<String> = (roots.chain(issuing))
                .map(|(state, certificate)| format!("{state:?} {}", digest(certificate)))
                .collect();
            digest(all.join("\n").as_bytes())
        }
        // They name all that they change, and say which version of it they looked at.
        ActClass::RevokeMany
        | ActClass::ContainMany
        | ActClass::Rights
        | ActClass::CommandMany
        | ActClass::BreakGlass => digest(b""),
    }
}

fn world_moved(id: &ProposalId) -> Trouble {
    let text = format!(
        "what {id} builds on changed since it was asked for; nothing was done, ask for it anew"
    );
    Trouble::refused("world-moved", text)
}

fn undecidable(id: &ProposalId, why: Undecidable) -> Trouble {
    let (code, what) = match why {
        // Theirs to approve, once they have proved anew who they are.
        Undecidable::Denied(DeniedAct::NotFresh) => {
            let text =
                format!("to approve {id} prove once more who you are, then approve it again");
            let code = "fresh-proof-needed";
            return Trouble::Forbidden { code, text };
        }
        Undecidable::Decided => ("decided-already", "was decided already"),
        Undecidable::Expired => (
            "proposal-expired",
            "was not decided in time; ask for it anew",
        ),
        Undecidable::OwnAct => ("own-act", "is your own: another person must look at it"),
        Undecidable::Denied(_) => (
            "not-yours-to-approve",
            "is an act that is not yours, so that it is not yours to approve",
        ),
    };
    Trouble::refused(code, format!("{id} {what}"))
}
