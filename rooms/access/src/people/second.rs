//! Which acts need a second person, and who that may be.

use super::{Asker, DeniedAct, People};
use crate::Action;
use model::Timestamp;

/// Acts of one kind, as the configuration names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ActClass {
    /// To apply a fleet.
    Policy,
    /// To roll a CA over, to retire a root, to let its key leave.
    Ca,
    /// To revoke a whole product, or all that a CA issued.
    RevokeMany,
    /// To cut off more devices at once than playbooks may in an hour.
    ContainMany,
    /// To give strong roles to a person or a token, or a link to one who has them.
    Rights,
    /// To tell more devices something than one person or program may in a minute. What is many the
    /// fleet says, of each channel.
    CommandMany,
    /// All that operators and administrators may, for an hour.
    BreakGlass,
}

impl ActClass {
    pub const ALL: [Self; 7] = [
        Self::Policy,
        Self::Ca,
        Self::RevokeMany,
        Self::ContainMany,
        Self::Rights,
        Self::CommandMany,
        Self::BreakGlass,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Ca => "ca",
            Self::RevokeMany => "revoke-many",
            Self::ContainMany => "contain-many",
            Self::Rights => "rights",
            Self::CommandMany => "command-many",
            Self::BreakGlass => "break-glass",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

/// When a second person is needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SecondPerson {
    /// As soon as there is one who may decide. With one person alone it would only teach them to make
    /// themselves a second name.
    #[default]
    WhenThereIsOne,
    Always,
    Never,
}

impl SecondPerson {
    pub const ALL: [Self; 3] = [Self::WhenThereIsOne, Self::Always, Self::Never];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WhenThereIsOne => "when-there-is-one",
            Self::Always => "always",
            Self::Never => "never",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.name() == name)
    }
}

/// Whether an act waits for another person. `others`: who has joined, is not the one who asks, and
/// may decide. The machine's own user is not asked: who holds the disk holds the keys.
#[must_use]
pub fn is_second_needed(class: ActClass, rule: SecondPerson, asker: Asker, others: usize) -> bool {
    if matches!(asker, Asker::Machine) {
        return false;
    }
    match (class, rule) {
        // What one person can give themselves breaks no glass.
        (ActClass::BreakGlass, _) | (_, SecondPerson::Always) => true,
        (_, SecondPerson::WhenThereIsOne) => others > 0,
        (_, SecondPerson::Never) => false,
    }
}

/// An act that waits, as far as deciding about it asks.
#[derive(Debug, Clone, Copy)]
pub struct Proposed<'p> {
    pub action: Action,
    /// As the log names them.
    pub proposed_by: &'p str,
    pub expires_at: Timestamp,
    pub is_decided: bool,
}

/// Why somebody may not approve an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undecidable {
    Decided,
    Expired,
    /// They asked for it themselves.
    OwnAct,
    /// It is not theirs to do, so that it is not theirs to approve.
    Denied(DeniedAct),
}

/// Whether `asker`, whom the log names `by`, may approve it now.
///
/// # Errors
/// Why not.
pub fn may_decide(
    people: &People,
    proposed: Proposed<'_>,
    asker: Asker,
    by: &str,
    now: Timestamp,
) -> Result<(), Undecidable> {
    if proposed.is_decided {
        return Err(Undecidable::Decided);
    }
    if proposed.expires_at <= now {
        return Err(Undecidable::Expired);
    }
    if proposed.proposed_by == by {
        return Err(Undecidable::OwnAct);
    }
    // The machine may do all of it itself, but for what is a person's alone.
    let own = (people.decide(asker, proposed.action)).or_else(|denied| match asker {
        Asker::Machine => people.decide(asker, Action::ProposalDecide),
        _ => Err(denied),
    });
    own.and_then(|_| people.decide(asker, Action::ProposalDecide))
        .map(drop)
        .map_err(Undecidable::Denied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Role, Roles};

    fn person(role: Role) -> Asker {
        Asker::Person {
            roles: Roles::of([role]),
            is_fresh: true,
        }
    }

    #[test]
    fn one_person_alone_is_not_locked_out_and_two_are_asked() {
        let asker = person(Role::PolicyAdmin);
        for class in ActClass::ALL {
            let rule = SecondPerson::WhenThereIsOne;
            let alone = is_second_needed(class, rule, asker, 0);
            assert_eq!(alone, class == ActClass::BreakGlass, "{class:?}");
            assert!(is_second_needed(class, rule, asker, 1));
            assert!(is_second_needed(class, SecondPerson::Always, asker, 0));
            let never = is_second_needed(class, SecondPerson::Never, asker, 9);
            assert_eq!(never, class == ActClass::BreakGlass);
            assert!(!is_second_needed(
                class,
                SecondPerson::Always,
                Asker::Machine,
                9
            ));
        }
    }

    #[test]
    fn nobody_approves_their_own_act_and_nobody_what_they_may_not_do() {
        let people = People::new().unwrap();
        let proposed = Proposed {
            action: Action::AccessApply,
            proposed_by: "person/p-1",
            expires_at: Timestamp::from_seconds(10),
            is_decided: false,
        };
        let now = Timestamp::from_seconds(9);
        let decide = |proposed, asker, by, now| may_decide(&people, proposed, asker, by, now);
        let admin = person(Role::PolicyAdmin);
        assert_eq!(decide(proposed, admin, "person/p-2", now), Ok(()));
        let own = decide(proposed, admin, "person/p-1", now);
        assert_eq!(own, Err(Undecidable::OwnAct));
        let late = decide(proposed, admin, "person/p-2", proposed.expires_at);
        assert_eq!(late, Err(Undecidable::Expired));
        let twice = Proposed {
            is_decided: true,
            ..proposed
        };
        let twice = decide(twice, admin, "person/p-2", now);
        assert_eq!(twice, Err(Undecidable::Decided));
        let denied = Err(Undecidable::Denied(DeniedAct::NotPermitted));
        for role in Role::ALL {
            let may = matches!(role, Role::PolicyAdmin | Role::BreakGlass);
            let expected = if may { Ok(()) } else { denied };
            assert_eq!(
                decide(proposed, person(role), "person/p-2", now),
                expected,
                "{role:?}"
            );
            // A program decides for nobody.
            let token = Asker::Token {
                roles: Roles::of([role]),
            };
            assert_eq!(decide(proposed, token, "token/t-1", now), denied);
        }
        let (roles, is_fresh) = (Roles::of([Role::PolicyAdmin]), false);
        let stolen = decide(
            proposed,
            Asker::Person { roles, is_fresh },
            "person/p-2",
            now,
        );
        assert_eq!(stolen, Err(Undecidable::Denied(DeniedAct::NotFresh)));
        let broken = Proposed {
            action: Action::BreakGlass,
            ..proposed
        };
        assert_eq!(decide(broken, Asker::Machine, "local/uid-0", now), Ok(()));
    }
}
