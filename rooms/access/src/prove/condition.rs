//! Policies as boolean functions of what they can see of a device. What is translated here is what
//! `subset` admits; a test holds it against Cedar's own evaluation.

use super::diagram::{Diagrams, Function, TooLarge};
use crate::behaviour::Destination;
use crate::compile::{Action, Relation};
use crate::fleet::{Channel, Direction, Fleet, Service};
use crate::policy::Policy;
use cedar_policy::pst::{
    ActionConstraint, BinaryOp, Clause, EntityOrSlot, EntityType, EntityUID, Expr, Literal,
    PrincipalConstraint, ResourceConstraint, Template, UnaryOp, Var,
};
use model::{Assurance, GroupId, ProductId, ServiceId};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Why a policy has no function.
#[derive(Debug)]
pub(super) enum Untranslated {
    TooLarge,
    /// It uses what the subset does not admit.
    Foreign,
}

impl From<TooLarge> for Untranslated {
    fn from(TooLarge: TooLarge) -> Self {
        Self::TooLarge
    }
}

/// What a device can be, as variables: those products and groups that somebody names, and how far
/// it is shown to be what it says. Any combination that the fleet can have is looked at, whether or
/// not a device of that kind is known yet.
#[derive(Debug)]
pub(super) struct Kinds<'f> {
    fleet: &'f Fleet,
    products: Vec<ProductId>,
    groups: Vec<GroupId>,
    /// There are products that nobody names.
    has_other_products: bool,
}

/// Which device of the question a variable is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Sender,
    Receiver,
}

/// Somebody who sends or receives.
#[derive(Debug, Clone, Copy)]
pub(super) enum Who<'f> {
    /// Any device, by its variables.
    Device(Side),
    Service(&'f Service),
}

/// What is asked of a policy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'f> {
    pub who: Who<'f>,
    pub what: What<'f>,
    pub relation: Relation,
}

/// What somebody does, and with what.
#[derive(Debug, Clone, Copy)]
pub(super) enum What<'f> {
    Message(Action, &'f Channel),
    Connect(&'f Destination),
}

impl What<'_> {
    const fn action(self) -> &'static str {
        match self {
            Self::Message(action, _) => action.name(),
            Self::Connect(_) => "connect",
        }
    }

    const fn kind(self) -> &'static str {
        match self {
            Self::Message(..) => "Channel",
            Self::Connect(_) => "Destination",
        }
    }

    fn id(&self) -> &str {
        match self {
            Self::Message(_, channel) => channel.id.as_str(),
            Self::Connect(destination) => destination.id.as_str(),
        }
    }

    const fn direction(self) -> Direction {
        match self {
            Self::Message(_, channel) => channel.direction,
            Self::Connect(_) => Direction::FromDevice,
        }
    }
}

/// Named by a policy or by an invariant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    Devices,
    Services,
    Product(ProductId),
    Group(GroupId),
    Service(ServiceId),
}

/// One variable per product, level and group, twice.
const VARIABLES_MAX: usize = 1000;

impl<'f> Kinds<'f> {
    /// # Errors
    /// More is named than can be looked at.
    pub(super) fn new(fleet: &'f Fleet, named: &BTreeSet<Party>) -> Result<Self, TooLarge> {
        let mut products = BTreeSet::new();
        let mut groups = BTreeSet::new();
        for policy in fleet.policy_list() {
            products.extend(policy.names.products.iter().cloned());
            groups.extend(policy.names.groups.iter().cloned());
        }
        for party in named {
            match party {
                Party::Product(id) => drop(products.insert(id.clone())),
                Party::Group(id) => drop(groups.insert(id.clone())),
                Party::Devices | Party::Services | Party::Service(_) => {}
            }
        }
        let kinds = Self {
            has_other_products: fleet.products().any(|one| !products.contains(&one.id)),
            fleet,
            products: products.into_iter().collect(),
            groups: groups.into_iter().collect(),
        };
        if kinds.width() * 2 > VARIABLES_MAX {
            return Err(TooLarge);
        }
        Ok(kinds)
    }

    /// What any device of the fleet is: of exactly one product, of one assurance, and in all groups
    /// that contain one it is in.
    pub(super) fn possible(&self, side: Side, d: &mut Diagrams) -> Result<Function, TooLarge> {
        let assurances: Vec<u16> = (0..Assurance::ALL.len())
            .map(|index| self.number(side, index))
            .collect();
        let products: Vec<u16> = (0..self.products.len())
            .map(|index| self.number(side, Assurance::ALL.len() + index))
            .collect();
        let mut possible = at_most_one(&assurances, d)?;
        for rule in [
            any(&assurances, d)?,
            at_most_one(&products, d)?,
            if self.has_other_products {
                Function::TRUE
            } else {
                any(&products, d)?
            },
        ] {
            possible = d.and(possible, rule)?;
        }
        // From the last: the diagram grows from its leaves.
        for (index, group) in self.groups.iter().enumerate().rev() {
            let ancestors = self.fleet.ancestors([group]);
            for (above, other) in self.groups.iter().enumerate() {
                if above == index || !ancestors.contains(other) {
                    continue;
                }
                let within = d.variable(self.group_number(side, index))?;
                let outside = d.not(within)?;
                let contains = d.variable(self.group_number(side, above))?;
                let rule = d.or(outside, contains)?;
                possible = d.and(possible, rule)?;
            }
        }
        Ok(possible)
    }

    /// Whether `who` is one of `parties`.
    pub(super) fn is_one_of(
        &self,
        who: Who<'_>,
        parties: &[Party],
        d: &mut Diagrams,
    ) -> Result<Function, TooLarge> {
        let mut is_one = Function::FALSE;
        for party in parties {
            let is = match (party, who) {
                (Party::Devices, Who::Device(_)) | (Party::Services, Who::Service(_)) => {
                    Function::TRUE
                }
                (Party::Product(id), who) => self.in_product(who, id.as_str(), d)?,
                (Party::Group(id), who) => self.in_group(who, id.as_str(), d)?,
                (Party::Service(id), Who::Service(service)) => {
                    Function::constant(service.id == *id)
                }
                _ => Function::FALSE,
            };
            is_one = d.or(is_one, is)?;
        }
        Ok(is_one)
    }

    /// Where `policy`, permit or forbid, applies.
    pub(super) fn applies(
        &self,
        policy: &Policy,
        question: Question<'_>,
        d: &mut Diagrams,
    ) -> Result<Function, Untranslated> {
        let mut applies = self.scope(&policy.tree, question, d)?;
        for clause in policy.tree.clauses() {
            // Most policies are about something else: no clause makes them apply.
            if applies == Function::FALSE {
                break;
            }
            let clause = match clause {
                Clause::When(expression) => self.translate(expression, question, d)?,
                Clause::Unless(expression) => {
                    let unless = self.translate(expression, question, d)?;
                    d.not(unless)?
                }
            };
            applies = d.and(applies, clause)?;
        }
        Ok(applies)
    }

    /// For messages: `of product camera, in groups indoor and eu`. What makes no difference is not
    /// said.
    pub(super) fn describe(&self, side: Side, answer: &[(u16, bool)]) -> String {
        let is = |number: u16| answer.contains(&(number, true));
        let mut words = Vec::new();
        for (index, product) in self.products.iter().enumerate() {
            if is(self.number(side, Assurance::ALL.len() + index)) {
                words.push(format!("of product {product}"));
            }
        }
        let denied: Vec<String> = (self.products.iter().enumerate())
            .filter(|(index, _)| {
                let number = self.number(side, Assurance::ALL.len() + index);
                answer.contains(&(number, false))
            })
            .map(|(_, product)| product.to_string())
            .collect();
        if words.is_empty() && !denied.is_empty() {
            words.push(format!("of a product other than {}", denied.join(", ")));
        }
        let groups: Vec<&str> = (self.groups.iter().enumerate())
            .filter(|(index, _)| is(self.group_number(side, *index)))
            .map(|(_, group)| group.as_str())
            .collect();
        if !groups.is_empty() {
            words.push(format!("in {}", groups.join(" and ")));
        }
        for (index, assurance) in Assurance::ALL.iter().enumerate() {
            if is(self.number(side, index)) && self.asks_assurance() {
                words.push(assurance.name().to_owned());
            }
        }
        if words.is_empty() {
            "any device".to_owned()
        } else {
            format!("a device {}", words.join(", "))
        }
    }

    fn asks_assurance(&self) -> bool {
        (self.fleet.policy_list().iter()).any(|policy| policy.names.assurance)
    }

    fn width(&self) -> usize {
        Assurance::ALL.len() + self.products.len() + self.groups.len()
    }

    /// At most `VARIABLES_MAX`, as `new` looked.
    fn number(&self, side: Side, index: usize) -> u16 {
        let offset = match side {
            Side::Sender => 0,
            Side::Receiver => self.width(),
        };
        u16::try_from(offset + index).unwrap_or(u16::MAX)
    }

    fn group_number(&self, side: Side, index: usize) -> u16 {
        self.number(side, Assurance::ALL.len() + self.products.len() + index)
    }

    fn in_product(&self, who: Who<'_>, id: &str, d: &mut Diagrams) -> Result<Function, TooLarge> {
        let index = self.products.iter().position(|one| one.as_str() == id);
        match (who, index) {
            (Who::Device(side), Some(index)) => {
                d.variable(self.number(side, Assurance::ALL.len() + index))
            }
            _ => Ok(Function::FALSE),
        }
    }

    fn in_group(&self, who: Who<'_>, id: &str, d: &mut Diagrams) -> Result<Function, TooLarge> {
        match who {
            Who::Device(side) => match self.groups.iter().position(|one| one.as_str() == id) {
                Some(index) => d.variable(self.group_number(side, index)),
                None => Ok(Function::FALSE),
            },
            Who::Service(service) => {
                let mut groups = self.fleet.ancestors(&service.groups).into_iter();
                Ok(Function::constant(groups.any(|one| one.as_str() == id)))
            }
        }
    }

    fn scope(
        &self,
        policy: &Template,
        question: Question<'_>,
        d: &mut Diagrams,
    ) -> Result<Function, Untranslated> {
        // What costs least and excludes most comes first.
        let resource = match &policy.resource {
            ResourceConstraint::Any => Function::TRUE,
            ResourceConstraint::Eq(other) | ResourceConstraint::In(other) => {
                self.is(Var::Resource, entity(other)?, question)?
            }
            ResourceConstraint::Is(kind) => is_kind(&Var::Resource, kind, question),
            ResourceConstraint::IsIn(kind, other) => {
                let is = self.is(Var::Resource, entity(other)?, question)?;
                d.and(is_kind(&Var::Resource, kind, question), is)?
            }
        };
        if resource == Function::FALSE {
            return Ok(resource);
        }
        let action = match &policy.action {
            ActionConstraint::Any => Function::TRUE,
            ActionConstraint::Eq(other) => self.is(Var::Action, other, question)?,
            ActionConstraint::In(others) => {
                let mut is_one = Function::FALSE;
                for other in others {
                    let is = self.is(Var::Action, other, question)?;
                    is_one = d.or(is_one, is)?;
                }
                is_one
            }
        };
        if action == Function::FALSE {
            return Ok(action);
        }
        let principal = match &policy.principal {
            PrincipalConstraint::Any => Function::TRUE,
            PrincipalConstraint::Eq(other) => self.is(Var::Principal, entity(other)?, question)?,
            PrincipalConstraint::In(other) => {
                self.within(&Var::Principal, entity(other)?, question, d)?
            }
            PrincipalConstraint::Is(kind) => is_kind(&Var::Principal, kind, question),
            PrincipalConstraint::IsIn(kind, other) => {
                let within = self.within(&Var::Principal, entity(other)?, question, d)?;
                d.and(is_kind(&Var::Principal, kind, question), within)?
            }
        };
        // What is left of the other two is everything: both are constants.
        Ok(principal)
    }

    fn translate(
        &self,
        expression: &Arc<Expr>,
        question: Question<'_>,
        d: &mut Diagrams,
    ) -> Result<Function, Untranslated> {
        match expression.as_ref() {
            Expr::Literal(Literal::Bool(value)) => Ok(Function::constant(*value)),
            Expr::UnaryOp {
                op: UnaryOp::Not,
                expr,
            } => {
                let inner = self.translate(expr, question, d)?;
                Ok(d.not(inner)?)
            }
            Expr::BinaryOp {
                op: BinaryOp::And,
                left,
                right,
            } => {
                let left = self.translate(left, question, d)?;
                let right = self.translate(right, question, d)?;
                Ok(d.and(left, right)?)
            }
            Expr::BinaryOp {
                op: BinaryOp::Or,
                left,
                right,
            } => {
                let left = self.translate(left, question, d)?;
                let right = self.translate(right, question, d)?;
                Ok(d.or(left, right)?)
            }
            Expr::BinaryOp {
                op: BinaryOp::Eq,
                left,
                right,
            } => self.equal(left, right, question, d),
            Expr::BinaryOp {
                op: BinaryOp::NotEq,
                left,
                right,
            } => {
                let equal = self.equal(left, right, question, d)?;
                Ok(d.not(equal)?)
            }
            Expr::BinaryOp {
                op: BinaryOp::In,
                left,
                right,
            } => match left.as_ref() {
                Expr::Var(thing) => self.within_any(thing, right, question, d),
                _ => Err(Untranslated::Foreign),
            },
            Expr::Is {
                expr,
                entity_type,
                in_expr,
            } => match (expr.as_ref(), in_expr) {
                (Expr::Var(thing), None) => Ok(is_kind(thing, entity_type, question)),
                (Expr::Var(thing), Some(others)) => {
                    let within = self.within_any(thing, others, question, d)?;
                    Ok(d.and(is_kind(thing, entity_type, question), within)?)
                }
                _ => Err(Untranslated::Foreign),
            },
            _ => Err(Untranslated::Foreign),
        }
    }

    fn equal(
        &self,
        left: &Arc<Expr>,
        right: &Arc<Expr>,
        question: Question<'_>,
        d: &mut Diagrams,
    ) -> Result<Function, Untranslated> {
        for (left, right) in [(left, right), (right, left)] {
            match (left.as_ref(), right.as_ref()) {
                (Expr::GetAttr { expr, attr }, other) => {
                    match (expr.as_ref(), attr.as_str(), other) {
                        (Expr::Var(Var::Resource), "owner", Expr::Var(Var::Principal)) => {
                            let is_own = question.relation == Relation::Own;
                            return Ok(Function::constant(is_own));
                        }
                        (
                            Expr::Var(Var::Resource),
                            "direction",
                            Expr::Literal(Literal::String(text)),
                        ) => {
                            let is = question.what.direction().name() == text.as_str();
                            return Ok(Function::constant(is));
                        }
                        (
                            Expr::Var(Var::Principal),
                            "assurance",
                            Expr::Literal(Literal::String(text)),
                        ) => {
                            let index = (Assurance::ALL.iter()).position(|one| one.name() == *text);
                            let index = index.ok_or(Untranslated::Foreign)?;
                            return match question.who {
                                Who::Device(side) => Ok(d.variable(self.number(side, index))?),
                                // Strict validation wants `principal is Device` before it.
                                Who::Service(_) => Ok(Function::FALSE),
                            };
                        }
                        _ => {}
                    }
                }
                (Expr::Var(thing), Expr::Literal(Literal::EntityUID(other))) => {
                    return self.is(thing.clone(), other, question);
                }
                _ => {}
            }
        }
        Err(Untranslated::Foreign)
    }

    fn within_any(
        &self,
        thing: &Var,
        others: &Arc<Expr>,
        question: Question<'_>,
        d: &mut Diagrams,
    ) -> Result<Function, Untranslated> {
        match others.as_ref() {
            Expr::Literal(Literal::EntityUID(other)) => self.within(thing, other, question, d),
            Expr::Set(others) => {
                let mut within = Function::FALSE;
                for other in others {
                    let one = self.within_any(thing, other, question, d)?;
                    within = d.or(within, one)?;
                }
                Ok(within)
            }
            _ => Err(Untranslated::Foreign),
        }
    }

    fn within(
        &self,
        thing: &Var,
        other: &EntityUID,
        question: Question<'_>,
        d: &mut Diagrams,
    ) -> Result<Function, Untranslated> {
        match (thing, other.ty.0.id.as_str()) {
            (Var::Principal, "Group") => Ok(self.in_group(question.who, &other.eid, d)?),
            (Var::Principal, "Product") => Ok(self.in_product(question.who, &other.eid, d)?),
            // Whatever has no members contains itself.
            _ => self.is(thing.clone(), other, question),
        }
    }

    fn is(
        &self,
        thing: Var,
        other: &EntityUID,
        question: Question<'_>,
    ) -> Result<Function, Untranslated> {
        let id = other.eid.as_str();
        let is = match (thing, other.ty.0.id.as_str(), question.who) {
            (Var::Principal, "Service", Who::Service(service)) => service.id.as_str() == id,
            (Var::Principal, "Device", _) => return Err(Untranslated::Foreign),
            (Var::Resource, kind, _) => kind == question.what.kind() && question.what.id() == id,
            (Var::Action, "Action", _) => id == question.what.action(),
            (Var::Context, _, _) => return Err(Untranslated::Foreign),
            _ => false,
        };
        Ok(Function::constant(is))
    }
}

fn entity(constraint: &EntityOrSlot) -> Result<&EntityUID, Untranslated> {
    match constraint {
        EntityOrSlot::Entity(entity) => Ok(entity),
        EntityOrSlot::Slot(_) => Err(Untranslated::Foreign),
    }
}

fn is_kind(thing: &Var, kind: &EntityType, question: Question<'_>) -> Function {
    let is = match (thing, question.who) {
        (Var::Principal, Who::Device(_)) => "Device",
        (Var::Principal, Who::Service(_)) => "Service",
        (Var::Resource, _) => question.what.kind(),
        (Var::Action, _) => "Action",
        _ => return Function::FALSE,
    };
    Function::constant(kind.0.id.as_str() == is)
}

/// Linear in the number of variables if built from the last.
fn any(variables: &[u16], d: &mut Diagrams) -> Result<Function, TooLarge> {
    let mut any = Function::FALSE;
    for number in variables.iter().rev() {
        let variable = d.variable(*number)?;
        any = d.or(variable, any)?;
    }
    Ok(any)
}

fn at_most_one(variables: &[u16], d: &mut Diagrams) -> Result<Function, TooLarge> {
    let (mut none, mut one) = (Function::TRUE, Function::TRUE);
    for number in variables.iter().rev() {
        let variable = d.variable(*number)?;
        let not = d.not(variable)?;
        let (with, without) = (d.and(variable, none)?, d.and(not, one)?);
        one = d.or(with, without)?;
        none = d.and(not, none)?;
    }
    Ok(one)
}
