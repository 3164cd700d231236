//! Why something is permitted or denied, for a person: what decided, and what would allow it.

use crate::class::Facts;
use crate::compile::{Action, Cell, Relation};
use crate::diagnostic::printable;
use crate::fleet::Channel;
use crate::grants::{Grants, Part, Publish, Subject};
use crate::template::Level;
use model::{DenyReason, Principal, Verdict};
use mqtt::Filter;

/// A decision with its reasons. Tells what the whole fleet allows: for operators, not for the
/// principal that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub verdict: Verdict,
    /// The channel's id; of a filter that reaches several, none.
    pub channel: Option<String>,
    /// The device that owns the topic, or all topics of the filter.
    pub owner: Option<String>,
    /// One paragraph: what decided, and what would allow it.
    pub text: String,
}

impl Grants {
    /// The decision of [`Grants::publish`] for `facts`, with its reasons.
    #[must_use]
    pub fn explain_publish(&self, facts: &Facts, topic: &str) -> Explanation {
        let subject = self.subject(facts);
        let who = &facts.principal;
        let shown = printable(topic);
        let Some(publish) = self.resolve(topic) else {
            return match self.no_class(facts, &subject) {
                Some(text) => denied(DenyReason::UnknownClass, text),
                None => denied(
                    DenyReason::UnlistedTopic,
                    format!("{who} may not publish to {shown}: {}", self.unlisted(topic)),
                ),
            };
        };
        let channel = self.channel(&publish);
        let channel_name = channel.map(|channel| channel.id.to_string());
        let verdict_text = match (self.cells(&subject, &publish), channel) {
            (Some(cells), Some(channel)) => {
                let relation = self.relation(&subject, &publish);
                let cell = cells.of(relation, Action::Publish);
                let place = format!(
                    "The topic lies in channel {} ({}), {}.",
                    channel.id,
                    channel.template,
                    owner_in_words(&publish, relation)
                );
                if cell.is_permit() {
                    let text = format!(
                        "{who} may publish to {shown}: {} permits it. {place}",
                        self.policy_in_words(cell)
                    );
                    (self.permit(cell), text)
                } else {
                    let reason = reason(cell);
                    let why = self.why_denied(facts, cell, channel, relation, Action::Publish);
                    let own = cells.of(Relation::Own, Action::Publish);
                    let own = match (relation, own.is_permit()) {
                        (Relation::Other, true) => (subject.slots())
                            .and_then(|slots| channel.template.filter_text(Some(slots)))
                            .map(|filter| {
                                let policy = self.policy_in_words(own);
                                format!(" It may publish to its own: {filter} ({policy}).")
                            })
                            .unwrap_or_default(),
                        _ => String::new(),
                    };
                    let text = format!("{who} may not publish to {shown}: {why} {place}{own}");
                    (self.deny(reason, cell), text)
                }
            }
            _ => {
                let text = self.no_class(facts, &subject).unwrap_or_default();
                let unknown = DenyReason::UnknownClass;
                (self.deny(unknown, Cell::default()), text)
            }
        };
        let (verdict, text) = verdict_text;
        Explanation {
            verdict,
            channel: channel_name,
            owner: publish.owner.map(str::to_owned),
            text,
        }
    }

    /// The decision of [`Grants::subscribe`] for `facts`, with its reasons.
    #[must_use]
    pub fn explain_receive(&self, facts: &Facts, filter: &str) -> Explanation {
        let subject = self.subject(facts);
        let who = &facts.principal;
        let shown = printable(filter);
        if let Some(text) = self.no_class(facts, &subject) {
            return denied(DenyReason::UnknownClass, text);
        }
        let Ok(filter) = Filter::new(filter) else {
            return denied(
                DenyReason::UnlistedTopic,
                format!(
                    "{shown} is no topic filter: + and # stand for whole levels, # for the last"
                ),
            );
        };
        let parts = self.parts(&subject, &filter);
        let (channel, owner) = match parts.as_slice() {
            [part] => (
                Some(part.channel.id.to_string()),
                (part.relation == Relation::Own).then(|| who.name().to_owned()),
            ),
            _ => (None, None),
        };
        let (verdict, text) = match self.subscribe(&subject, &filter) {
            Ok(_) => {
                let granting: Vec<&Part<'_>> =
                    parts.iter().filter(|part| part.cell.is_permit()).collect();
                let by = granting
                    .iter()
                    .map(|part| {
                        let policy = self.policy_in_words(part.cell);
                        format!("{} in channel {} by {policy}", part.filter, part.channel.id)
                    })
                    .collect::<Vec<_>>();
                let cell = granting.first().map_or(Cell::default(), |part| part.cell);
                let text = format!(
                    "{who} may subscribe to {shown}: it lies within {}.",
                    by.join("; ")
                );
                (self.permit(cell), text)
            }
            Err(refusal) => {
                let why = match (refusal.reason, parts.as_slice()) {
                    (DenyReason::UnlistedTopic, _) => self.unlisted(filter.as_str()),
                    (DenyReason::FilterTooWide, _) => {
                        "some of the topics it matches lie outside what may be received.".to_owned()
                    }
                    (_, parts) => parts
                        .iter()
                        .find(|part| part.cell.policy().is_some())
                        .or(parts.first())
                        .map(|part| {
                            let Part {
                                cell,
                                channel,
                                relation,
                                ..
                            } = part;
                            self.why_denied(facts, *cell, channel, *relation, Action::Receive)
                        })
                        .unwrap_or_default(),
                };
                let widest = self.receivable(&subject);
                let near: Vec<&Filter> = (widest.iter())
                    .filter(|widest| widest.intersects(&filter))
                    .collect();
                let widest = if near.is_empty() {
                    widest.iter().collect()
                } else {
                    near
                };
                let may = match widest.as_slice() {
                    [] => "It may subscribe to nothing.".to_owned(),
                    filters => format!("The widest it may subscribe to: {}.", list(filters)),
                };
                let text = format!("{who} may not subscribe to {shown}: {why} {may}");
                (self.verdict(&refusal), text)
            }
        };
        Explanation {
            verdict,
            channel,
            owner,
            text,
        }
    }

    /// Said of a principal in no class.
    fn no_class(&self, facts: &Facts, subject: &Subject) -> Option<String> {
        let who = &facts.principal;
        match self.unclassified(facts) {
            Some(reason) => Some(format!("{who} is denied everything: {reason}.")),
            None if self.is_known(subject) => None,
            None => Some(format!(
                "{who} is denied everything: no grants were compiled for its product and groups \
                 yet. They are with the next apply, or when it enrolls."
            )),
        }
    }

    fn unlisted(&self, topic: &str) -> String {
        let levels: Vec<&str> = topic.split('/').collect();
        let shared = |channel: &&Channel| {
            let template = channel.template.levels().iter();
            template
                .zip(&levels)
                .take_while(|(level, text)| match level {
                    Level::Literal(literal) => literal.as_ref() == **text,
                    _ => true,
                })
                .count()
        };
        let most = self
            .fleet()
            .channels()
            .map(|channel| shared(&channel))
            .max()
            .unwrap_or(0);
        let near: Vec<String> = (self.fleet().channels())
            .filter(|channel| most > 0 && shared(channel) == most)
            .map(|channel| format!("{} ({})", channel.template, channel.id))
            .collect();
        let near = match near.as_slice() {
            [] => "the fleet has none like it".to_owned(),
            near => format!("the nearest: {}", list(near)),
        };
        format!(
            "no channel of the fleet admits it; {near}. A file of channels/ would have to declare it."
        )
    }

    fn why_denied(
        &self,
        facts: &Facts,
        cell: Cell,
        channel: &Channel,
        relation: Relation,
        action: Action,
    ) -> String {
        match cell.policy() {
            Some(_) => format!(
                "{} forbids it, and no permit outweighs a forbid. It would be allowed if that \
                 policy did not apply and another permitted it.",
                self.policy_in_words(cell)
            ),
            None => format!(
                "no policy permits it. It would be allowed by: {}.",
                permit_for(facts, channel, relation, action)
            ),
        }
    }

    fn policy_in_words(&self, cell: Cell) -> String {
        let policy = cell.policy().and_then(|index| {
            let policies = self.fleet().policy_list();
            policies.get(usize::from(index))
        });
        match policy {
            Some(policy) => format!(
                "policy {} (fleet/{}:{})",
                policy.id, policy.origin.path, policy.origin.line
            ),
            None => "no policy".to_owned(),
        }
    }

    fn permit(&self, cell: Cell) -> Verdict {
        match cell.policy().and_then(|index| self.policy_id(index)) {
            Some(policy) => Verdict::Permit {
                policy: policy.clone(),
            },
            None => self.deny(DenyReason::NoPermit, Cell::default()),
        }
    }

    fn deny(&self, reason: DenyReason, cell: Cell) -> Verdict {
        Verdict::Deny {
            reason,
            policy: cell
                .policy()
                .and_then(|index| self.policy_id(index))
                .cloned(),
        }
    }
}

fn denied(reason: DenyReason, text: String) -> Explanation {
    Explanation {
        verdict: Verdict::Deny {
            reason,
            policy: None,
        },
        channel: None,
        owner: None,
        text,
    }
}

fn reason(cell: Cell) -> DenyReason {
    match cell.policy() {
        Some(_) => DenyReason::Forbidden,
        None => DenyReason::NoPermit,
    }
}

fn owner_in_words(publish: &Publish<'_>, relation: Relation) -> String {
    match (publish.owner, relation) {
        (None, _) => "which nobody owns".to_owned(),
        (Some(_), Relation::Own) => "and is its own".to_owned(),
        (Some(owner), Relation::Other) => format!("and belongs to device/{owner}"),
    }
}

/// The narrowest policy by kind that would allow it.
fn permit_for(facts: &Facts, channel: &Channel, relation: Relation, action: Action) -> String {
    let principal = match (&facts.principal, &facts.product) {
        (Principal::Service(id), _) => format!("principal == Service::\"{id}\""),
        (Principal::Device(_), Some(product)) => {
            format!("principal is Device in Product::\"{product}\"")
        }
        (Principal::Device(_), None) => "principal is Device".to_owned(),
    };
    let action = match action {
        Action::Publish => "publish",
        Action::Receive => "receive",
    };
    let when = match relation {
        Relation::Own => " when { resource.owner == principal }",
        Relation::Other => "",
    };
    format!(
        "permit ({principal}, action == Action::\"{action}\", resource == Channel::\"{}\"){when};",
        channel.id
    )
}

fn list<T: ToString>(items: &[T]) -> String {
    const SHOWN: usize = 8;
    let mut shown: Vec<String> = items.iter().take(SHOWN).map(T::to_string).collect();
    if items.len() > SHOWN {
        shown.push(format!("and {} more", items.len() - SHOWN));
    }
    shown.join(", ")
}
