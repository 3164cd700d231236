//! Who may ask what of the control plane: people, tokens, services, devices, the machine itself.
//!
//! One registry of actions, one set of policies in Cedar, built in. Whoever they do not permit is
//! denied.

mod action;
mod role;
mod second;

pub use action::Action;
pub use role::{Role, Roles};
pub use second::{ActClass, Proposed, SecondPerson, Undecidable, is_second_needed, may_decide};

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid,
    PolicySet, Request, RestrictedExpression,
};
use std::collections::{HashMap, HashSet};
use std::str::FromStr;

/// The policies, with comments.
#[must_use]
pub fn people_policies() -> &'static str {
    include_str!("people/people.cedar")
}

/// What they speak of.
#[must_use]
pub fn people_schema() -> String {
    let actions: Vec<String> = (Action::ALL.iter())
        .map(|action| format!("{:?}", action.name()))
        .collect();
    let (kinds, actions) = (
        include_str!("people/people.cedarschema"),
        actions.join(",\n  "),
    );
    format!(
        "{kinds}\naction {actions}\nappliesTo {{\n  principal: [Person, Token, Machine, Service, \
         Device, Stranger],\n  resource: [Plane],\n  context: {{ is_fresh: Bool }},\n}};\n"
    )
}

/// Who asks, as the doors and the rows know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Asker {
    /// Proved nothing.
    Stranger,
    /// By a certificate.
    Device,
    /// By a certificate; what the fleet says of it.
    Service {
        observes_network: bool,
        speaks_for_owners: bool,
    },
    /// `is_fresh`: proved who they are within the last minutes.
    Person { roles: Roles, is_fresh: bool },
    /// A program that shows a token.
    Token { roles: Roles },
    /// Root of the plane's machine, or the user that the plane runs as: whoever holds the disk holds
    /// the keys, so that all roles but break-glass are theirs.
    Machine,
}

impl Asker {
    #[must_use]
    pub fn roles(self) -> Roles {
        match self {
            Self::Person { roles, .. } | Self::Token { roles } => roles,
            Self::Machine => Roles::of(Role::ALL).without(Roles::of([Role::BreakGlass])),
            Self::Stranger | Self::Device | Self::Service { .. } => Roles::NONE,
        }
    }
}

/// The ticket: an action that was permitted. Only this room makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PermittedAct(Action);

impl PermittedAct {
    #[must_use]
    pub const fn action(self) -> Action {
        self.0
    }
}

/// Why somebody may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeniedAct {
    /// Nothing was proven, and strangers may not.
    NotSignedIn,
    /// No policy permits it, or one forbids it whatever is proven.
    NotPermitted,
    /// It would be permitted with a fresh proof of who they are.
    NotFresh,
}

/// The policies, ready to be asked.
pub struct People {
    policies: PolicySet,
    /// Roles and what each includes.
    roles: Entities,
    kinds: Kinds,
}

/// Ours are wrong, not somebody's: a test reads them.
#[derive(Debug, thiserror::Error)]
#[error("the built-in policies for people are refused: {0}")]
pub struct WrongPolicies(String);

impl WrongPolicies {
    fn of(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

impl People {
    /// # Errors
    /// Never, unless this program was built wrong.
    pub fn new() -> Result<Self, WrongPolicies> {
        let policies = PolicySet::from_str(people_policies()).map_err(WrongPolicies::of)?;
        let kinds = Kinds::new()?;
        let viewer = kinds.role(Role::Viewer);
        let roles = Role::ALL.map(|role| {
            let includes: HashSet<EntityUid> = match role {
                Role::Viewer | Role::TenantAdmin => HashSet::new(),
                Role::Operator
                | Role::ReleaseManager
                | Role::ReleaseApprover
                | Role::PkiAdmin
                | Role::PolicyAdmin
                | Role::Auditor => [viewer.clone()].into(),
                Role::BreakGlass => [Role::Operator, Role::PkiAdmin, Role::PolicyAdmin]
                    .map(|role| kinds.role(role))
                    .into(),
            };
            Entity::new_no_attrs(kinds.role(role), includes)
        });
        let roles = Entities::from_entities(roles, None).map_err(WrongPolicies::of)?;
        Ok(Self {
            policies,
            roles,
            kinds,
        })
    }

    /// # Errors
    /// Why not. Whatever fails on the way denies.
    pub fn decide(&self, asker: Asker, action: Action) -> Result<PermittedAct, DeniedAct> {
        if self.is_permitted(asker, action) {
            return Ok(PermittedAct(action));
        }
        Err(match asker {
            Asker::Stranger => DeniedAct::NotSignedIn,
            Asker::Person {
                roles,
                is_fresh: false,
            } => {
                let is_fresh = true;
                match self.is_permitted(Asker::Person { roles, is_fresh }, action) {
                    true => DeniedAct::NotFresh,
                    false => DeniedAct::NotPermitted,
                }
            }
            _ => DeniedAct::NotPermitted,
        })
    }

    /// What they may ask, with a fresh proof where one is needed: what a screen offers.
    #[must_use]
    pub fn actions_of(&self, asker: Asker) -> Vec<Action> {
        let asker = match asker {
            Asker::Person { roles, .. } => Asker::Person {
                roles,
                is_fresh: true,
            },
            other => other,
        };
        let all = Action::ALL.iter().copied();
        all.filter(|action| self.is_permitted(asker, *action))
            .collect()
    }

    fn is_permitted(&self, asker: Asker, action: Action) -> bool {
        self.ask(asker, action).unwrap_or(false)
    }

    /// `None`: it could not be asked.
    fn ask(&self, asker: Asker, action: Action) -> Option<bool> {
        let principal = uid(self.kinds.of(asker), "asker");
        let bool = RestrictedExpression::new_bool;
        let attributes: HashMap<String, RestrictedExpression> = match asker {
            Asker::Service {
                observes_network,
                speaks_for_owners,
            } => [
                ("observes_network".to_owned(), bool(observes_network)),
                ("speaks_for_owners".to_owned(), bool(speaks_for_owners)),
            ]
            .into(),
            _ => HashMap::new(),
        };
        let parents: HashSet<EntityUid> = (asker.roles().iter())
            .map(|role| self.kinds.role(role))
            .collect();
        let entity = Entity::new(principal.clone(), attributes, parents).ok()?;
        let entities = self.roles.clone().add_entities([entity], None).ok()?;
        let is_fresh = match asker {
            Asker::Person { is_fresh, .. } => is_fresh,
            _ => true,
        };
        let context = Context::from_pairs([("is_fresh".to_owned(), bool(is_fresh))]).ok()?;
        let action = uid(&self.kinds.action, action.name());
        let plane = uid(&self.kinds.plane, "plane");
        let request = Request::new(principal, action, plane, context, None).ok()?;
        let response = Authorizer::new().is_authorized(&request, &self.policies, &entities);
        // A forbid that fails is skipped by Cedar; here it denies.
        let failed = response.diagnostics().errors().next().is_some();
        Some(response.decision() == Decision::Allow && !failed)
    }
}

/// The kinds of the schema, read once.
struct Kinds {
    role: EntityTypeName,
    person: EntityTypeName,
    token: EntityTypeName,
    machine: EntityTypeName,
    service: EntityTypeName,
    device: EntityTypeName,
    stranger: EntityTypeName,
    plane: EntityTypeName,
    action: EntityTypeName,
}

impl Kinds {
    fn new() -> Result<Self, WrongPolicies> {
        let kind = |name: &str| EntityTypeName::from_str(name).map_err(WrongPolicies::of);
        Ok(Self {
            role: kind("Role")?,
            person: kind("Person")?,
            token: kind("Token")?,
            machine: kind("Machine")?,
            service: kind("Service")?,
            device: kind("Device")?,
            stranger: kind("Stranger")?,
            plane: kind("Plane")?,
            action: kind("Action")?,
        })
    }

    const fn of(&self, asker: Asker) -> &EntityTypeName {
        match asker {
            Asker::Stranger => &self.stranger,
            Asker::Device => &self.device,
            Asker::Service { .. } => &self.service,
            Asker::Person { .. } => &self.person,
            Asker::Token { .. } => &self.token,
            Asker::Machine => &self.machine,
        }
    }

    fn role(&self, role: Role) -> EntityUid {
        uid(&self.role, role.name())
    }
}

fn uid(kind: &EntityTypeName, name: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cedar_policy::{Schema, ValidationMode, Validator};

    #[test]
    fn the_policies_fit_the_schema_and_none_of_them_is_idle() {
        let (schema, warnings) = Schema::from_cedarschema_str(&people_schema()).unwrap();
        assert_eq!(warnings.count(), 0);
        let policies = PolicySet::from_str(people_policies()).unwrap();
        let result = Validator::new(schema).validate(&policies, ValidationMode::Strict);
        let said: Vec<String> = (result.validation_errors().map(ToString::to_string))
            .chain(result.validation_warnings().map(ToString::to_string))
            .collect();
        assert_eq!(said, Vec::<String>::new());
        let named = policies
            .policies()
            .filter_map(|policy| policy.annotation("id"));
        let ids: HashSet<&str> = named.collect();
        assert_eq!(ids.len(), policies.policies().count());
    }

    #[test]
    fn a_second_reading_of_the_policies_decides_alike() {
        // The same question with a schema, where Cedar resolves all by itself.
        let people = People::new().unwrap();
        let (schema, _) = Schema::from_cedarschema_str(&people_schema()).unwrap();
        for asker in askers() {
            for action in Action::ALL {
                let principal = uid(people.kinds.of(asker), "somebody-else");
                let parents = asker.roles().iter().map(|role| people.kinds.role(role));
                let mut attributes = HashMap::new();
                if let Asker::Service {
                    observes_network,
                    speaks_for_owners,
                } = asker
                {
                    let value = RestrictedExpression::new_bool;
                    attributes.insert("observes_network".into(), value(observes_network));
                    attributes.insert("speaks_for_owners".into(), value(speaks_for_owners));
                }
                let entity = Entity::new(principal.clone(), attributes, parents.collect()).unwrap();
                let plane = Entity::new_no_attrs(uid(&people.kinds.plane, "p"), HashSet::new());
                let all = people.roles.clone();
                let all = all.add_entities([entity, plane], Some(&schema)).unwrap();
                let fresh = !matches!(
                    asker,
                    Asker::Person {
                        is_fresh: false,
                        ..
                    }
                );
                let fresh = RestrictedExpression::new_bool(fresh);
                let context = Context::from_pairs([("is_fresh".into(), fresh)]).unwrap();
                let request = Request::new(
                    principal,
                    uid(&people.kinds.action, action.name()),
                    uid(&people.kinds.plane, "p"),
                    context,
                    Some(&schema),
                );
                let answer =
                    Authorizer::new().is_authorized(&request.unwrap(), &people.policies, &all);
                assert!(answer.diagnostics().errors().next().is_none());
                let allowed = answer.decision() == Decision::Allow;
                assert_eq!(
                    allowed,
                    people.is_permitted(asker, *action),
                    "{asker:?} {action:?}"
                );
            }
        }
    }

    fn askers() -> Vec<Asker> {
        let mut all = vec![Asker::Stranger, Asker::Device, Asker::Machine];
        for observes_network in [false, true] {
            for speaks_for_owners in [false, true] {
                all.push(Asker::Service {
                    observes_network,
                    speaks_for_owners,
                });
            }
        }
        for role in Role::ALL {
            let roles = Roles::of([role]);
            all.push(Asker::Token { roles });
            all.push(Asker::Person {
                roles,
                is_fresh: true,
            });
            all.push(Asker::Person {
                roles,
                is_fresh: false,
            });
        }
        all
    }
}
