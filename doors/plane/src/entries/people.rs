//! What the log says of people and tokens: opaque names and roles, never what somebody is called.

use super::{Act, Actor, Withdrawn};
use crate::plane::digest;
use access::Roles;
use model::{ApiTokenId, PersonId, Timestamp};

const PERSON_CHANGED: &str = "access.person-changed";
const PERSON_DISABLED: &str = "access.person-disabled";
const TOKEN_REVOKED: &str = "access.token-revoked";
const PASSKEY_REMOVED: &str = "access.passkey-removed";
/// What takes something from people or programs.
pub(super) const WITHDRAWALS: [&str; 4] = [
    PERSON_CHANGED,
    PERSON_DISABLED,
    TOKEN_REVOKED,
    PASSKEY_REMOVED,
];
const ROLES: &str = "roles";

/// `how` they proved who they are; `session` tells it from their others.
#[must_use]
pub fn signed_in(at: Timestamp, actor: &Actor, session: &str, how: &str) -> Act {
    Act::new(at, actor, "access.signed-in", actor)
        .with("by", how)
        .with("session", session)
}

#[must_use]
pub fn signed_out(at: Timestamp, actor: &Actor, session: &str) -> Act {
    Act::new(at, actor, "access.signed-out", actor).with("session", session)
}

/// They did so at the provider, and it told us.
#[must_use]
pub fn signed_out_at_provider(at: Timestamp, person: &PersonId, session: &str) -> Act {
    let object = format_args!("person/{person}");
    Act::new(at, &Actor::Plane, "access.signed-out", object)
        .with("by", "provider")
        .with("session", session)
}

#[must_use]
pub fn person_added(at: Timestamp, actor: &Actor, person: &PersonId, roles: Roles) -> Act {
    let object = format_args!("person/{person}");
    Act::new(at, actor, "access.person-added", object).with(ROLES, roles)
}

#[must_use]
pub fn person_changed(
    at: Timestamp,
    actor: &Actor,
    person: &PersonId,
    before: Roles,
    roles: Roles,
) -> Act {
    let object = format_args!("person/{person}");
    Act::new(at, actor, PERSON_CHANGED, object)
        .with("before", before)
        .with(ROLES, roles)
}

#[must_use]
pub fn person_disabled(at: Timestamp, actor: &Actor, person: &PersonId) -> Act {
    Act::new(at, actor, PERSON_DISABLED, format_args!("person/{person}"))
}

/// By it somebody signs in once.
#[must_use]
pub fn link_made(at: Timestamp, actor: &Actor, person: &PersonId) -> Act {
    Act::new(
        at,
        actor,
        "access.link-made",
        format_args!("person/{person}"),
    )
}

/// By it somebody signs in from now on.
#[must_use]
pub fn passkey_added(at: Timestamp, actor: &Actor, row: &store::Passkey) -> Act {
    let object = format_args!("passkey/{}", row.id);
    Act::new(at, actor, "access.passkey-added", object)
        .with("person", &row.person)
        .with("synced", row.synced)
}

#[must_use]
pub fn passkey_removed(at: Timestamp, actor: &Actor, row: &store::Passkey) -> Act {
    let object = format_args!("passkey/{}", row.id);
    Act::new(at, actor, PASSKEY_REMOVED, object).with("person", &row.person)
}

#[must_use]
pub fn token_made(at: Timestamp, actor: &Actor, row: &store::ApiToken) -> Act {
    let act = Act::new(
        at,
        actor,
        "access.token-made",
        format_args!("token/{}", row.id),
    )
    .with(ROLES, &row.roles)
    .with("expires_at", row.expires_at);
    match row.networks.as_str() {
        "" => act,
        networks => act.with("networks", networks),
    }
}

#[must_use]
pub fn token_revoked(at: Timestamp, actor: &Actor, token: &ApiTokenId) -> Act {
    Act::new(at, actor, TOKEN_REVOKED, format_args!("token/{token}"))
}

/// It waits for a second person.
#[must_use]
pub fn act_proposed(at: Timestamp, actor: &Actor, row: &store::Proposal) -> Act {
    told_of_act(at, actor, "access.act-proposed", row)
}

/// From here on it is done, in the name of who asked for it.
#[must_use]
pub fn act_approved(at: Timestamp, actor: &Actor, row: &store::Proposal) -> Act {
    told_of_act(at, actor, "access.act-approved", row).with("proposed_by", &row.proposed_by)
}

#[must_use]
pub fn act_refused(at: Timestamp, actor: &Actor, row: &store::Proposal) -> Act {
    told_of_act(at, actor, "access.act-refused", row).with("proposed_by", &row.proposed_by)
}

fn told_of_act(at: Timestamp, actor: &Actor, action: &'static str, row: &store::Proposal) -> Act {
    Act::new(at, actor, action, format_args!("proposal/{}", row.id))
        .with("class", &row.class)
        .with("act", &row.action)
        .with("act_sha256", row.digest)
}

/// Somebody has all roles for a while. The reason is theirs and may name people: its digest proves it.
#[must_use]
pub fn glass_broken(at: Timestamp, actor: &Actor, until: Timestamp, reason: &str) -> Act {
    Act::new(at, actor, "access.glass-broken", actor)
        .with("until", until)
        .with("reason_sha256", digest(reason.as_bytes()))
}

/// What a restored backup must not give back. Of a change of roles those of before and after both:
/// nobody has more by a restored backup than both times.
pub(super) fn withdrawal_told_by(entry: &audit::Entry) -> Option<Withdrawn> {
    let (_, name) = entry.object.split_once('/')?;
    let roles = |key: &str| {
        let text = entry.details.get(key).map_or("", String::as_str);
        Roles::from_text(text).unwrap_or_default()
    };
    Some(match entry.action.as_str() {
        PERSON_CHANGED => Withdrawn::PersonNarrowed {
            person: name.parse().ok()?,
            roles: roles("before").and(roles(ROLES)).to_string(),
            disabled_at: None,
        },
        PERSON_DISABLED => Withdrawn::PersonNarrowed {
            person: name.parse().ok()?,
            roles: String::new(),
            disabled_at: Some(entry.time),
        },
        TOKEN_REVOKED => Withdrawn::TokenRevoked(name.parse().ok()?),
        PASSKEY_REMOVED => Withdrawn::PasskeyRemoved(name.parse().ok()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entries::tests::written;
    use access::Role;

    #[test]
    fn a_restored_backup_gives_no_role_no_token_and_no_passkey_back() {
        let at = Timestamp::from_seconds(1);
        let person: PersonId = "p-1".parse().unwrap();
        let both = Roles::of([Role::Operator, Role::TenantAdmin]);
        let one = Roles::of([Role::Operator, Role::PkiAdmin]);
        let told = |act| crate::entries::withdrawal_told_by(&written(act));
        let narrowed = |roles: Roles, disabled_at| {
            Some(Withdrawn::PersonNarrowed {
                person: person.clone(),
                roles: roles.to_string(),
                disabled_at,
            })
        };
        let actor = Actor::Plane;
        assert_eq!(
            told(person_changed(at, &actor, &person, both, one)),
            narrowed(Roles::of([Role::Operator]), None)
        );
        assert_eq!(
            told(person_disabled(at, &actor, &person)),
            narrowed(Roles::NONE, Some(at))
        );
        let token: ApiTokenId = "t-1".parse().unwrap();
        assert_eq!(
            told(token_revoked(at, &actor, &token)),
            Some(Withdrawn::TokenRevoked(token))
        );
        let passkey = store::Passkey {
            id: "k-1".parse().unwrap(),
            person: person.clone(),
            credential: vec![1],
            key: vec![1],
            count: 0,
            synced: false,
            note: "Ada's laptop".into(),
            made_at: at,
            used_at: None,
        };
        assert_eq!(
            told(passkey_removed(at, &actor, &passkey)),
            Some(Withdrawn::PasskeyRemoved(passkey.id.clone()))
        );
        assert_eq!(told(passkey_added(at, &actor, &passkey)), None);
        assert_eq!(told(person_added(at, &actor, &person, both)), None);
    }
}
