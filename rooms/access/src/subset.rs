//! Which of Cedar a policy of a fleet may use: what can be compiled exactly and cannot fail.
//!
//! A `forbid` that fails while it is evaluated is skipped, and what it should have stopped goes
//! through. So nothing that can fail (arithmetic, extension functions, tags, optional attributes)
//! is admitted, and nothing that depends on more than the grant class, the channel and whether
//! the principal owns the topic. What is *allowed* is listed; everything else is refused, what a
//! later Cedar adds included.

use crate::fleet::Direction;
use cedar_policy::pst::{BinaryOp, Clause, Expr, Literal, Template, UnaryOp, Var};
use model::Assurance;

/// Something a policy may not use.
pub(crate) struct Refusal {
    /// Text that shows where it is.
    pub token: String,
    pub message: String,
    pub help: &'static str,
}

/// Everything in `policy`'s conditions that is not admitted.
pub(crate) fn refusals(policy: &Template) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    // Own stack: a deep condition must not use up the thread's.
    let mut expressions: Vec<&Expr> = (policy.clauses().iter())
        .map(|clause| match clause {
            Clause::When(expression) | Clause::Unless(expression) => expression.as_ref(),
        })
        .collect();
    while let Some(expression) = expressions.pop() {
        match expression {
            Expr::Literal(Literal::Bool(_)) => {}
            Expr::UnaryOp {
                op: UnaryOp::Not,
                expr,
            } => expressions.push(expr),
            Expr::BinaryOp {
                op: BinaryOp::And | BinaryOp::Or,
                left,
                right,
            } => expressions.extend([left.as_ref(), right.as_ref()]),
            Expr::BinaryOp {
                op: BinaryOp::Eq | BinaryOp::NotEq,
                left,
                right,
            } => refusals.extend(comparison(left, right)),
            Expr::BinaryOp {
                op: BinaryOp::In,
                left,
                right,
            } if is_thing(left) && is_entity_or_set(right) => {}
            Expr::Is { expr, in_expr, .. }
                if is_thing(expr) && in_expr.as_deref().is_none_or(is_entity_or_set) => {}
            other => refusals.push(refusal(other)),
        }
    }
    refusals
}

/// Whether a policy that is admitted asks for a device's assurance: it can then tell two devices
/// apart by it.
pub(crate) fn asks_assurance(policy: &Template) -> bool {
    let mut expressions: Vec<&Expr> = (policy.clauses().iter())
        .map(|clause| match clause {
            Clause::When(expression) | Clause::Unless(expression) => expression.as_ref(),
        })
        .collect();
    while let Some(expression) = expressions.pop() {
        match expression {
            Expr::UnaryOp { expr, .. } => expressions.push(expr),
            Expr::BinaryOp { left, right, .. } => {
                if is_assurance(left) || is_assurance(right) {
                    return true;
                }
                expressions.extend([left.as_ref(), right.as_ref()]);
            }
            // Nothing else that is admitted has parts that could.
            _ => {}
        }
    }
    false
}

fn is_assurance(expression: &Expr) -> bool {
    matches!(
        expression,
        Expr::GetAttr { expr, attr }
            if matches!(expr.as_ref(), Expr::Var(Var::Principal)) && attr.as_str() == "assurance"
    )
}

fn is_thing(expression: &Expr) -> bool {
    matches!(
        expression,
        Expr::Var(Var::Principal | Var::Action | Var::Resource)
    )
}

fn is_entity(expression: &Expr) -> bool {
    matches!(expression, Expr::Literal(Literal::EntityUID(_)))
}

fn is_entity_or_set(expression: &Expr) -> bool {
    match expression {
        Expr::Set(members) => members.iter().all(|member| is_entity(member)),
        other => is_entity(other),
    }
}

/// The attribute of `resource` that it is, if it is one.
fn attribute(expression: &Expr) -> Option<&str> {
    match expression {
        Expr::GetAttr { expr, attr } if matches!(expr.as_ref(), Expr::Var(Var::Resource)) => {
            Some(attr.as_str())
        }
        _ => None,
    }
}

/// `a == b` and `a != b`.
fn comparison(left: &Expr, right: &Expr) -> Option<Refusal> {
    for (left, right) in [(left, right), (right, left)] {
        match (attribute(left), right) {
            (Some("owner"), Expr::Var(Var::Principal)) => return None,
            (Some("direction"), Expr::Literal(Literal::String(text))) => {
                return (!Direction::ALL
                    .iter()
                    .any(|direction| direction.name() == *text))
                .then(|| Refusal {
                    token: format!("\"{text}\""),
                    message: format!("no channel has the direction {text:?}"),
                    help: "write \"from-device\" or \"to-device\"",
                });
            }
            (None, Expr::Literal(Literal::String(text))) if is_assurance(left) => {
                return Assurance::from_name(text).is_none().then(|| Refusal {
                    token: format!("\"{text}\""),
                    message: format!("there is no assurance {text:?}"),
                    help: "write \"contraindicated\", \"identified\", \"hardware-held\" or \
                           \"attested\"",
                });
            }
            (None, right) if is_thing(left) && is_entity(right) => return None,
            _ => {}
        }
    }
    // Name the side that is the trouble: a variable or a literal is none by itself.
    let is_plain = |side: &Expr| is_thing(side) || matches!(side, Expr::Literal(_));
    let side = [left, right].into_iter().find(|side| !is_plain(side));
    Some(match side.map(|side| (side, attribute(side))) {
        Some((_, Some("owner"))) | None => Refusal {
            token: "==".into(),
            message: "this comparison cannot be compiled".into(),
            help: "compare principal, action or resource with an entity of the fleet, \
                   resource.owner with principal, or resource.direction with a text",
        },
        Some((side, _)) => refusal(side),
    })
}

/// Why `expression` is not admitted where it stands.
fn refusal(expression: &Expr) -> Refusal {
    let refuse = |token: &str, message: &str, help| Refusal {
        token: token.to_owned(),
        message: message.to_owned(),
        help,
    };
    const FACTS: &str = "put the devices in a group (a device's groups are stored by the plane) \
                         and write: principal in Group::\"...\"";
    match expression {
        Expr::Var(Var::Context) => context(),
        Expr::GetAttr { expr, attr } => match expr.as_ref() {
            Expr::Var(Var::Context) => context(),
            Expr::Var(Var::Resource) if attr == "owner" => refuse(
                "owner",
                "of a channel's owner only the equality with the principal can be compiled",
                "write resource.owner == principal",
            ),
            Expr::Var(_) => refuse(
                attr,
                &format!("the attribute {attr} cannot stand here"),
                "write resource.owner == principal, or resource.direction == \"from-device\"",
            ),
            _ => refuse(
                attr,
                &format!("the attribute {attr} of a computed value cannot be compiled"),
                "write resource.owner == principal, or resource.direction == \"from-device\"",
            ),
        },
        Expr::HasAttr { .. } => refuse(
            "has",
            "`has` is not needed: a channel has all of its attributes",
            "leave it out; a channel without {device} has an owner that equals no principal",
        ),
        Expr::Like { .. } => refuse(
            "like",
            "`like` cannot be compiled: topics and names are matched by channels, not by policies",
            "declare a channel with the topics you mean and write resource == Channel::\"...\"",
        ),
        Expr::IfThenElse { .. } => refuse(
            "if",
            "`if` cannot be compiled",
            "write (a && b) || (!a && c) for if a then b else c, or two policies",
        ),
        Expr::BinaryOp { op, .. } => match op {
            BinaryOp::In => refuse(
                "in",
                "`in` takes principal, action or resource, and entities of the fleet",
                "write principal in Group::\"...\" or resource in [Channel::\"a\", Channel::\"b\"]",
            ),
            BinaryOp::Contains | BinaryOp::ContainsAll | BinaryOp::ContainsAny => refuse(
                "contains",
                "sets can only stand to the right of `in`",
                "write resource in [Channel::\"a\", Channel::\"b\"]",
            ),
            BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul => refuse(
                match op {
                    BinaryOp::Add => "+",
                    BinaryOp::Sub => "-",
                    _ => "*",
                },
                "arithmetic can overflow, and a forbid that fails forbids nothing",
                FACTS,
            ),
            BinaryOp::Less | BinaryOp::LessEq | BinaryOp::Greater | BinaryOp::GreaterEq => refuse(
                match op {
                    BinaryOp::Less | BinaryOp::LessEq => "<",
                    _ => ">",
                },
                "numbers cannot be compared: nothing that a policy sees is one",
                FACTS,
            ),
            _ => refuse(
                "",
                "this operation can fail, and a forbid that fails forbids nothing",
                FACTS,
            ),
        },
        Expr::UnaryOp { .. } => refuse(
            "",
            "this operation can fail, and a forbid that fails forbids nothing",
            FACTS,
        ),
        Expr::Is { .. } => refuse(
            "is",
            "`is` takes principal, action or resource, and entities of the fleet",
            "write principal is Device in Group::\"...\"",
        ),
        _ => refuse(
            "",
            "this expression cannot be compiled",
            "a condition may use == != && || ! in is, entities of the fleet, \
             resource.owner == principal and resource.direction",
        ),
    }
}

fn context() -> Refusal {
    Refusal {
        token: "context".into(),
        message: "a request has no context: a grant holds for every message".into(),
        help: "size and rate are limits of the channel (payload_bytes_max, rate_per_minute)",
    }
}
