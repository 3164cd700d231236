//! Do the invariants hold, for every device that this fleet could ever have?
//!
//! Not for the devices that are known: a device may be put into a group tomorrow. Policies become
//! boolean functions of what a device can be; an invariant is broken exactly where their
//! combination is true somewhere, and that place is the counterexample.
//!
//! What is proven is about messages that the gateway passes on, and about destinations that devices may
//! connect with. It is not about a service that hands on what it heard, nor about a network that does
//! not hold these rules.

mod condition;
mod diagram;

use crate::behaviour::Destination;
use crate::compile::{Action, Relation};
use crate::diagnostic::Diagnostic;
use crate::fleet::{Channel, Fleet};
use crate::invariant::{Destinations, Exception, Invariant, Rule};
pub(crate) use condition::Party;
use condition::{Kinds, Question, Side, Untranslated, What, Who};
use diagram::{Diagrams, Function};

/// What became of one invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    pub invariant: String,
    pub outcome: Outcome,
    at: Diagnostic,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// In every case.
    Holds,
    /// The first case in which it does not, in words.
    Broken(String),
    /// Too much is named to look at every case. It counts as broken.
    Undecided(String),
}

impl Proof {
    /// The refusal of a fleet that breaks it, or for which it cannot be decided.
    #[must_use]
    pub fn refusal(&self) -> Option<&Diagnostic> {
        match self.outcome {
            Outcome::Holds => None,
            Outcome::Broken(_) | Outcome::Undecided(_) => Some(&self.at),
        }
    }
}

/// Looks at each invariant of `fleet/invariants.toml`, by id. Takes time with the number of
/// policies and of groups and products that they name, not with the number of devices.
#[must_use]
pub fn prove(fleet: &Fleet) -> Vec<Proof> {
    (fleet.invariant_list().iter())
        .map(|invariant| {
            let outcome = match Prover::new(fleet, invariant).and_then(|mut prover| prover.run()) {
                Ok(None) => Outcome::Holds,
                Ok(Some(case)) => Outcome::Broken(case),
                Err(untranslated) => Outcome::Undecided(untranslated.to_string()),
            };
            let (message, help) = match &outcome {
                Outcome::Holds => (String::new(), ""),
                Outcome::Broken(case) => (
                    format!("invariant {} is broken: {case}", invariant.id),
                    "change that policy, or except what is meant",
                ),
                Outcome::Undecided(why) => (
                    format!("invariant {} is not proven: {why}", invariant.id),
                    "name fewer groups and products in policies, or take the invariant out",
                ),
            };
            Proof {
                invariant: invariant.id.clone(),
                at: invariant.origin.diagnostic(message, Some(help.to_owned())),
                outcome,
            }
        })
        .collect()
}

struct Prover<'f> {
    fleet: &'f Fleet,
    invariant: &'f Invariant,
    kinds: Kinds<'f>,
    diagrams: Diagrams,
}

/// Who is asked about.
#[derive(Clone, Copy)]
enum Whose<'p> {
    Of(&'p [Party]),
    Beside(&'p [Party]),
}

/// Somebody's part in a path.
#[derive(Clone, Copy)]
struct End<'f> {
    who: Who<'f>,
    relation: Relation,
    /// Where it may do its part.
    may: Function,
}

impl<'f> Prover<'f> {
    fn new(fleet: &'f Fleet, invariant: &'f Invariant) -> Result<Self, Untranslated> {
        let mut named = invariant.parties();
        // Whether a destination is a device's own hangs on its product.
        for destination in asked(fleet, &invariant.rule) {
            named.extend(declaring(fleet, destination));
        }
        Ok(Self {
            fleet,
            invariant,
            kinds: Kinds::new(fleet, &named)?,
            diagrams: Diagrams::new(),
        })
    }

    /// The first case that breaks it.
    fn run(&mut self) -> Result<Option<String>, Untranslated> {
        match &self.invariant.rule {
            Rule::NoPath { from, to, except } => {
                for channel in self.fleet.channels() {
                    if let Some(case) = self.path(channel, from, to, except)? {
                        return Ok(Some(case));
                    }
                }
            }
            Rule::Only {
                channels,
                publish,
                receive,
            } => {
                for channel in self.fleet.channels().filter(|c| channels.contains(&c.id)) {
                    let parts = [(Action::Publish, publish), (Action::Receive, receive)];
                    for (action, only) in parts {
                        if let Some(only) = only
                            && let Some(case) = self.outsider(channel, action, only)?
                        {
                            return Ok(Some(case));
                        }
                    }
                }
            }
            Rule::Connect { only, .. } => {
                for destination in asked(self.fleet, &self.invariant.rule) {
                    if let Some(case) = self.connecting(destination, only)? {
                        return Ok(Some(case));
                    }
                }
            }
        }
        Ok(None)
    }

    /// A message that one of `from` may send and one of `to` may hear, and no exception means.
    fn path(
        &mut self,
        channel: &'f Channel,
        from: &[Party],
        to: &[Party],
        except: &[Exception],
    ) -> Result<Option<String>, Untranslated> {
        let senders = self.ends(channel, Action::Publish, Side::Sender, Whose::Of(from))?;
        if senders.is_empty() {
            return Ok(None);
        }
        let receivers = self.ends(channel, Action::Receive, Side::Receiver, Whose::Of(to))?;
        let applicable: Vec<&Exception> = (except.iter())
            .filter(|one| {
                let channels = one.channels.as_ref();
                channels.is_none_or(|channels| channels.contains(&channel.id))
            })
            .collect();
        for sender in &senders {
            for receiver in &receivers {
                // A topic has one owner, who does not send to itself.
                if sender.relation == Relation::Own && receiver.relation == Relation::Own {
                    continue;
                }
                let mut path = self.diagrams.and(sender.may, receiver.may)?;
                for exception in &applicable {
                    let meant = self.is_meant(exception, *sender, *receiver)?;
                    let not_meant = self.diagrams.not(meant)?;
                    path = self.diagrams.and(path, not_meant)?;
                }
                if let Some(case) = self.diagrams.answer(path) {
                    let case = self.path_in_words(channel, *sender, *receiver, &case)?;
                    return Ok(Some(case));
                }
            }
        }
        Ok(None)
    }

    /// Somebody outside of `only` who may do it.
    fn outsider(
        &mut self,
        channel: &'f Channel,
        action: Action,
        only: &[Party],
    ) -> Result<Option<String>, Untranslated> {
        for end in self.ends(channel, action, Side::Sender, Whose::Beside(only))? {
            if let Some(case) = self.diagrams.answer(end.may) {
                let doing = match action {
                    Action::Publish => "may publish to",
                    Action::Receive => "may receive",
                };
                let who = self.who_in_words(end, &case);
                let by = self.permit_in_words(What::Message(action, channel), end, &case)?;
                let place = place(channel, end.relation);
                return Ok(Some(format!("{who} {doing} {place} by {by}")));
            }
        }
        Ok(None)
    }

    /// A device outside of `only` that may connect with `destination`.
    fn connecting(
        &mut self,
        destination: &'f Destination,
        only: &[Party],
    ) -> Result<Option<String>, Untranslated> {
        let (side, what) = (Side::Sender, What::Connect(destination));
        let who = Who::Device(side);
        let possible = self.kinds.possible(side, &mut self.diagrams)?;
        let declaring: Vec<Party> = declaring(self.fleet, destination).collect();
        let declares = self.is_one_of(who, &declaring)?;
        let declares_not = self.diagrams.not(declares)?;
        for (relation, is_so) in [(Relation::Own, declares), (Relation::Other, declares_not)] {
            let question = Question {
                who,
                what,
                relation,
            };
            let may = self.permitted(question)?;
            let may = self.diagrams.and(may, possible)?;
            let may = self.diagrams.and(may, is_so)?;
            let end = End { who, relation, may };
            let inside = self.is_one_of(who, only)?;
            let outside = self.diagrams.not(inside)?;
            let broken = self.diagrams.and(outside, may)?;
            if let Some(case) = self.diagrams.answer(broken) {
                let who = self.who_in_words(end, &case);
                let by = self.permit_in_words(what, end, &case)?;
                let (id, remote) = (&destination.id, &destination.remote);
                return Ok(Some(format!(
                    "{who} may connect with {id} ({remote}) by {by}"
                )));
            }
        }
        Ok(None)
    }

    /// All of these who may do `action` in `channel` at all.
    fn ends(
        &mut self,
        channel: &'f Channel,
        action: Action,
        side: Side,
        whose: Whose<'_>,
    ) -> Result<Vec<End<'f>>, Untranslated> {
        let possible = self.kinds.possible(side, &mut self.diagrams)?;
        let mut asked = vec![(Who::Device(side), Relation::Other)];
        if channel.template.has_owner() {
            asked.push((Who::Device(side), Relation::Own));
        }
        let services = self.fleet.services();
        asked.extend(services.map(|service| (Who::Service(service), Relation::Other)));
        let mut ends = Vec::new();
        for (who, relation) in asked {
            let is_meant = match whose {
                Whose::Of(parties) => self.is_one_of(who, parties)?,
                Whose::Beside(parties) => {
                    let inside = self.is_one_of(who, parties)?;
                    self.diagrams.not(inside)?
                }
            };
            // A thousand services and a thousand policies are a million questions a channel.
            if is_meant == Function::FALSE {
                continue;
            }
            let may = self.permitted(Question {
                who,
                what: What::Message(action, channel),
                relation,
            })?;
            let mut may = self.diagrams.and(may, is_meant)?;
            if matches!(who, Who::Device(_)) {
                may = self.diagrams.and(may, possible)?;
            }
            if may != Function::FALSE {
                ends.push(End { who, relation, may });
            }
        }
        Ok(ends)
    }

    /// Where some permit applies and no forbid does.
    fn permitted(&mut self, question: Question<'f>) -> Result<Function, Untranslated> {
        let (mut permitted, mut forbidden) = (Function::FALSE, Function::FALSE);
        for policy in self.fleet.policy_list() {
            let applies = self.kinds.applies(policy, question, &mut self.diagrams)?;
            let either = if policy.is_permit {
                &mut permitted
            } else {
                &mut forbidden
            };
            *either = self.diagrams.or(*either, applies)?;
        }
        let free = self.diagrams.not(forbidden)?;
        Ok(self.diagrams.and(permitted, free)?)
    }

    fn is_one_of(&mut self, who: Who<'_>, parties: &[Party]) -> Result<Function, Untranslated> {
        Ok((self.kinds).is_one_of(who, parties, &mut self.diagrams)?)
    }

    fn is_meant(
        &mut self,
        exception: &Exception,
        sender: End<'_>,
        receiver: End<'_>,
    ) -> Result<Function, Untranslated> {
        let from = match &exception.from {
            Some(from) => self.is_one_of(sender.who, from)?,
            None => Function::TRUE,
        };
        let to = match &exception.to {
            Some(to) => self.is_one_of(receiver.who, to)?,
            None => Function::TRUE,
        };
        Ok(self.diagrams.and(from, to)?)
    }

    fn path_in_words(
        &mut self,
        channel: &'f Channel,
        sender: End<'f>,
        receiver: End<'f>,
        case: &[(u16, bool)],
    ) -> Result<String, Untranslated> {
        let from = self.who_in_words(sender, case);
        let to = self.who_in_words(receiver, case);
        let sent = What::Message(Action::Publish, channel);
        let sends = self.permit_in_words(sent, sender, case)?;
        let heard = What::Message(Action::Receive, channel);
        let hears = self.permit_in_words(heard, receiver, case)?;
        // Seen from the sender: its own topics, the receiver's, or those of a third.
        let place = match (sender.relation, receiver.relation) {
            (Relation::Other, Relation::Own) => format!("the other's topics of {}", channel.id),
            (relation, _) => place(channel, relation),
        };
        Ok(format!(
            "{from} may publish to {place} by {sends}, and {to} receives that by {hears}"
        ))
    }

    fn who_in_words(&self, end: End<'_>, case: &[(u16, bool)]) -> String {
        match end.who {
            Who::Device(side) => self.kinds.describe(side, case),
            Who::Service(service) => format!("service {}", service.id),
        }
    }

    /// The permit that applies in this case.
    fn permit_in_words(
        &mut self,
        what: What<'f>,
        end: End<'f>,
        case: &[(u16, bool)],
    ) -> Result<String, Untranslated> {
        let true_ones: Vec<u16> = (case.iter())
            .filter(|(_, is_true)| *is_true)
            .map(|(variable, _)| *variable)
            .collect();
        let question = Question {
            who: end.who,
            what,
            relation: end.relation,
        };
        for policy in self.fleet.policy_list().iter().filter(|one| one.is_permit) {
            let applies = self.kinds.applies(policy, question, &mut self.diagrams)?;
            if self.diagrams.holds(applies, &true_ones) {
                let (path, line) = (&policy.origin.path, policy.origin.line);
                return Ok(format!("policy {} (fleet/{path}:{line})", policy.id));
            }
        }
        Err(Untranslated::Foreign)
    }
}

/// The destinations that an invariant speaks of.
fn asked<'f>(fleet: &'f Fleet, rule: &'f Rule) -> impl Iterator<Item = &'f Destination> {
    fleet.destinations().filter(move |destination| match rule {
        Rule::Connect { destinations, .. } => match destinations {
            Destinations::These(ids) => ids.contains(&destination.id),
            Destinations::Local => destination.remote.may_be_local(),
        },
        Rule::NoPath { .. } | Rule::Only { .. } => false,
    })
}

/// The products whose devices own a destination.
fn declaring<'f>(fleet: &'f Fleet, destination: &'f Destination) -> impl Iterator<Item = Party> {
    fleet
        .products()
        .filter(move |product| product.behaviour.places().any(|id| *id == destination.id))
        .map(|product| Party::Product(product.id.clone()))
}

/// Seen from whoever has `relation` to the topics.
fn place(channel: &Channel, relation: Relation) -> String {
    match (relation, channel.template.has_owner()) {
        (Relation::Own, _) => format!("its own topics of {}", channel.id),
        (Relation::Other, true) => format!("any device's topics of {}", channel.id),
        (Relation::Other, false) => format!("{}, which nobody owns", channel.id),
    }
}

impl std::fmt::Display for Untranslated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "its policies and groups have too many combinations",
            Self::Foreign => "a policy cannot be translated",
        })
    }
}
