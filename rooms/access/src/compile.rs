//! Policies × grant classes × channels → one decision each, made once and not per message.
//!
//! A policy is asked once per *projection*: what of a class and of a channel that policy names.
//! Two classes that differ in nothing it names get the same answer, so a fleet of thousands of
//! classes costs a few hundred evaluations.

use crate::behaviour::DestinationId;
use crate::class::{Class, ClassKey, Vocabulary};
use crate::diagnostic::Diagnostic;
use crate::fleet::{Channel, ChannelId, Direction, Fleet, Sha256};
use crate::policy::{Names, Policy};
use cedar_policy::{
    Authorizer, Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request,
    RestrictedExpression,
};
use model::{Assurance, GroupId, ProductId, ServiceId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::str::FromStr;
use std::sync::Arc;

/// Whether the principal is the device that owns the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    Own,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Publish,
    Receive,
}

impl Action {
    /// The word in policies.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Receive => "receive",
        }
    }
}

/// One decision: permit or deny, and the policy that decided, by its place in the sorted list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Cell(u16);

impl Cell {
    const PERMIT: u16 = 1 << 15;

    fn permit(policy: u16) -> Self {
        Self(Self::PERMIT | (policy + 1))
    }

    fn forbid(policy: u16) -> Self {
        Self(policy + 1)
    }

    pub(crate) fn is_permit(self) -> bool {
        self.0 & Self::PERMIT != 0
    }

    /// The permit or the forbid that decided; `None` if no policy says anything.
    pub(crate) fn policy(self) -> Option<u16> {
        (self.0 & !Self::PERMIT).checked_sub(1)
    }
}

/// The four decisions about one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Cells([Cell; 4]);

impl Cells {
    pub(crate) fn of(&self, relation: Relation, action: Action) -> Cell {
        let [own_publish, own_receive, other_publish, other_receive] = self.0;
        match (relation, action) {
            (Relation::Own, Action::Publish) => own_publish,
            (Relation::Own, Action::Receive) => own_receive,
            (Relation::Other, Action::Publish) => other_publish,
            (Relation::Other, Action::Receive) => other_receive,
        }
    }
}

const CASES: [(Relation, Action); 4] = [
    (Relation::Own, Action::Publish),
    (Relation::Own, Action::Receive),
    (Relation::Other, Action::Publish),
    (Relation::Other, Action::Receive),
];

/// The two decisions about one destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Connects([Cell; 2]);

impl Connects {
    pub(crate) fn of(&self, relation: Relation) -> Cell {
        let [own, other] = self.0;
        match relation {
            Relation::Own => own,
            Relation::Other => other,
        }
    }
}

/// What a policy is asked about.
#[derive(Clone, Copy)]
enum Resource<'a> {
    Channel(&'a Channel, Action),
    Destination(&'a DestinationId),
}

/// Compiles classes of one fleet, remembering what each policy answered.
pub(crate) struct Compiler<'a> {
    fleet: &'a Fleet,
    vocabulary: &'a Vocabulary,
    asker: Asker,
    memo: Memo,
}

/// What the policies of one fleet answered so far, in their order. Kept with the grants: a class that
/// comes later seldom needs an evaluation. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memo(Vec<PolicyMemo>);

/// What one policy answered so far.
#[derive(Debug, Clone)]
struct PolicyMemo {
    /// For each channel of the fleet, which of `channels` stands for it.
    channel_kinds: Arc<[usize]>,
    /// One channel for each kind that this policy can tell apart, by its number in the fleet.
    channels: Arc<[usize]>,
    /// For each destination of the fleet, which of `destinations` stands for it.
    destination_kinds: Arc<[usize]>,
    destinations: Arc<[DestinationId]>,
    answers: Arc<BTreeMap<Projection, Answers>>,
}

/// Per kind of channel four bits in the order of `CASES`, and per kind of destination two, own and
/// other.
#[derive(Debug, Clone)]
struct Answers {
    channels: Arc<[u8]>,
    destinations: Arc<[u8]>,
}

/// What one policy can see of a class.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Projection {
    is_service: bool,
    service: Option<ServiceId>,
    product: Option<ProductId>,
    assurance: Option<Assurance>,
    groups: Vec<GroupId>,
}

impl<'a> Compiler<'a> {
    /// Goes on with what `memo` holds, which is of the same fleet or empty.
    pub(crate) fn new(
        fleet: &'a Fleet,
        vocabulary: &'a Vocabulary,
        mut memo: Memo,
    ) -> Result<Self, Diagnostic> {
        let policies = fleet.policy_list();
        if memo.0.len() != policies.len() {
            let new = |policy| PolicyMemo::new(policy, fleet);
            memo = Memo(policies.iter().map(new).collect());
        }
        Ok(Self {
            fleet,
            vocabulary,
            asker: Asker::new().map_err(|message| Diagnostic {
                path: "schema.cedarschema".into(),
                line: 1,
                column: 1,
                message,
                help: None,
            })?,
            memo,
        })
    }

    pub(crate) fn into_memo(self) -> Memo {
        self.memo
    }

    pub(crate) fn class(&mut self, key: &ClassKey) -> Result<Class, Vec<Diagnostic>> {
        let policies = self.fleet.policy_list();
        let mut answers: Vec<Answers> = Vec::with_capacity(policies.len());
        let mut wrong = Vec::new();
        for (memo, policy) in self.memo.0.iter_mut().zip(policies) {
            match memo.answers(policy, key, self.vocabulary, self.fleet, &self.asker) {
                Ok(bits) => answers.push(bits),
                Err(diagnostic) => wrong.push(diagnostic),
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let cells = (0..self.fleet.channel_list().len())
            .map(|channel| {
                let kinds = |memo: &PolicyMemo| memo.channel_kinds.get(channel).copied();
                Cells(self.decide(&answers, |answers| &answers.channels, kinds))
            })
            .collect();
        let destinations = if key.service.is_some() {
            0
        } else {
            self.fleet.destinations().count()
        };
        let connects = (0..destinations)
            .map(|destination| {
                let kinds = |memo: &PolicyMemo| memo.destination_kinds.get(destination).copied();
                Connects(self.decide(&answers, |answers| &answers.destinations, kinds))
            })
            .collect();
        let class = Class {
            tag: tag(self.fleet, key),
            key: key.clone(),
            cells,
            connects,
        };
        self.check_exact(&class)?;
        Ok(class)
    }

    /// Deny unless a permit is satisfied and no forbid is; the first policy by id is named.
    fn decide<const CASES: usize>(
        &self,
        answers: &[Answers],
        of: impl Fn(&Answers) -> &Arc<[u8]>,
        kind: impl Fn(&PolicyMemo) -> Option<usize>,
    ) -> [Cell; CASES] {
        let mut cells = [Cell::default(); CASES];
        let policies = self.fleet.policy_list().iter();
        let asked = policies.zip(&self.memo.0).zip(answers);
        for (index, ((policy, memo), answers)) in (0u16..).zip(asked) {
            let bits = kind(memo).and_then(|kind| of(answers).get(kind).copied());
            let bits = bits.unwrap_or(0);
            if bits == 0 {
                continue;
            }
            for (case, cell) in cells.iter_mut().enumerate() {
                if bits & (1 << case) == 0 {
                    continue;
                }
                let is_forbidden = cell.policy().is_some() && !cell.is_permit();
                if policy.is_permit {
                    if cell.policy().is_none() {
                        *cell = Cell::permit(index);
                    }
                } else if !is_forbidden {
                    *cell = Cell::forbid(index);
                }
            }
        }
        cells
    }

    /// A device that may receive from every device but itself cannot be said with filters: `+`
    /// matches its own name too. Covering a subscription would no longer be exact.
    fn check_exact(&self, class: &Class) -> Result<(), Vec<Diagnostic>> {
        if class.key.service.is_some() {
            return Ok(());
        }
        let mut wrong = Vec::new();
        let mut seen = BTreeSet::new();
        for (channel, cells) in self.fleet.channel_list().iter().zip(class.cells.iter()) {
            let own = cells.of(Relation::Own, Action::Receive);
            let other = cells.of(Relation::Other, Action::Receive);
            if !channel.template.has_owner() || own.is_permit() || !other.is_permit() {
                continue;
            }
            let Some(policy) = own.policy().or(other.policy()) else {
                continue;
            };
            if seen.insert(policy)
                && let Some(policy) = self.fleet.policy_list().get(usize::from(policy))
            {
                wrong.push(policy.origin.diagnostic(
                    format!(
                        "policy {} leaves devices ({}) receiving channel {} of every device but \
                         themselves, which no MQTT filter can express",
                        policy.id,
                        class.key.describe(self.vocabulary),
                        channel.id
                    ),
                    Some("permit them their own topics of that channel too, or forbid both".into()),
                ));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

/// Tells this class in this fleet from any other, so that a subject of an earlier fleet, or of
/// another list of classes, is not taken for one of this.
fn tag(fleet: &Fleet, key: &ClassKey) -> u64 {
    let mut hash = Sha256::new("fleetward grant class");
    hash.update(&fleet.digest().to_string());
    hash.update(key.service.as_ref().map_or("", |id| id.as_str()));
    hash.update(key.product.as_ref().map_or("", |id| id.as_str()));
    hash.update(key.assurance.map_or("", Assurance::name));
    for group in &key.groups {
        hash.update(&group.to_string());
    }
    let digest = hash.finish().0;
    digest
        .iter()
        .take(8)
        .fold(0, |tag, byte| tag << 8 | u64::from(*byte))
}

impl PolicyMemo {
    fn new(policy: &Policy, fleet: &Fleet) -> Self {
        let mut kinds: BTreeMap<(Option<&ChannelId>, bool, bool), usize> = BTreeMap::new();
        let mut channels = Vec::new();
        let channel_kinds = (fleet.channel_list().iter().enumerate())
            .map(|(number, channel)| {
                let kind = (
                    policy.names.channels.get(&channel.id),
                    channel.direction == Direction::FromDevice,
                    channel.template.has_owner(),
                );
                *kinds.entry(kind).or_insert_with(|| {
                    channels.push(number);
                    channels.len() - 1
                })
            })
            .collect();
        let mut named: BTreeMap<Option<&DestinationId>, usize> = BTreeMap::new();
        let mut destinations = Vec::new();
        let destination_kinds = (fleet.destinations())
            .map(|destination| {
                let kind = policy.names.destinations.get(&destination.id);
                *named.entry(kind).or_insert_with(|| {
                    destinations.push(destination.id.clone());
                    destinations.len() - 1
                })
            })
            .collect();
        Self {
            channel_kinds,
            channels: channels.into(),
            destination_kinds,
            destinations: destinations.into(),
            answers: Arc::default(),
        }
    }

    fn answers(
        &mut self,
        policy: &Policy,
        key: &ClassKey,
        vocabulary: &Vocabulary,
        fleet: &Fleet,
        asker: &Asker,
    ) -> Result<Answers, Diagnostic> {
        let projection = Projection::new(key, &policy.names, vocabulary);
        if let Some(answers) = self.answers.get(&projection) {
            return Ok(answers.clone());
        }
        let ask = |resource, relation| {
            (asker.satisfied(policy, &projection, resource, relation)).map_err(|error| {
                policy.origin.diagnostic(
                    format!("policy {} cannot be evaluated: {error}", policy.id),
                    Some("a policy that fails decides nothing: nothing is applied".into()),
                )
            })
        };
        let mut channels = Vec::with_capacity(self.channels.len());
        let kinds = self.channels.iter();
        for channel in kinds.filter_map(|number| fleet.channel_list().get(*number)) {
            let mut bits = 0;
            for (case, (relation, action)) in CASES.into_iter().enumerate() {
                let impossible = relation == Relation::Own
                    && (projection.is_service || !channel.template.has_owner());
                if !impossible {
                    let satisfied = ask(Resource::Channel(channel, action), relation)?;
                    bits |= u8::from(satisfied) << case;
                }
            }
            channels.push(bits);
        }
        let mut destinations = Vec::new();
        if !projection.is_service {
            for destination in self.destinations.iter() {
                let resource = Resource::Destination(destination);
                let own = ask(resource, Relation::Own)?;
                let other = ask(resource, Relation::Other)?;
                destinations.push(u8::from(own) | u8::from(other) << 1);
            }
        }
        let answers = Answers {
            channels: channels.into(),
            destinations: destinations.into(),
        };
        Arc::make_mut(&mut self.answers).insert(projection, answers.clone());
        Ok(answers)
    }
}

impl Projection {
    fn new(key: &ClassKey, names: &Names, vocabulary: &Vocabulary) -> Self {
        Self {
            is_service: key.service.is_some(),
            service: key.service.clone().filter(|id| names.services.contains(id)),
            product: key.product.clone().filter(|id| names.products.contains(id)),
            assurance: key.assurance.filter(|_| names.assurance),
            groups: (key.groups.iter())
                .filter_map(|group| vocabulary.group(*group))
                .filter(|group| names.groups.contains(*group))
                .cloned()
                .collect(),
        }
    }
}

/// Puts single questions to Cedar.
struct Asker {
    authorizer: Authorizer,
    types: Types,
}

struct Types {
    action: EntityTypeName,
    channel: EntityTypeName,
    destination: EntityTypeName,
    device: EntityTypeName,
    group: EntityTypeName,
    product: EntityTypeName,
    service: EntityTypeName,
}

// No name of a device, so none that a literal or a topic could hold.
const THIS_DEVICE: &str = "(this device)";
const ANOTHER_DEVICE: &str = "(another device)";
const NOBODY: &str = "";

impl Asker {
    fn new() -> Result<Self, String> {
        let name = |text: &str| EntityTypeName::from_str(text).map_err(|error| error.to_string());
        Ok(Self {
            authorizer: Authorizer::new(),
            types: Types {
                action: name("Action")?,
                channel: name("Channel")?,
                destination: name("Destination")?,
                device: name("Device")?,
                group: name("Group")?,
                product: name("Product")?,
                service: name("Service")?,
            },
        })
    }

    /// Does `policy`, permit or forbid, apply? An error is an error, never "no".
    fn satisfied(
        &self,
        policy: &Policy,
        projection: &Projection,
        resource: Resource<'_>,
        relation: Relation,
    ) -> Result<bool, String> {
        let principal = match (&projection.service, projection.is_service) {
            (Some(service), _) => uid(&self.types.service, service.as_str()),
            (None, true) => uid(&self.types.service, "(another service)"),
            (None, false) => uid(&self.types.device, THIS_DEVICE),
        };
        let (kind, id, direction, action, has_owner) = match resource {
            Resource::Channel(channel, action) => (
                &self.types.channel,
                channel.id.as_str(),
                channel.direction,
                action.name(),
                channel.template.has_owner(),
            ),
            Resource::Destination(id) => (
                &self.types.destination,
                id.as_str(),
                Direction::FromDevice,
                "connect",
                relation == Relation::Own,
            ),
        };
        let owner = match (has_owner, relation) {
            (false, _) => NOBODY,
            (true, Relation::Own) => THIS_DEVICE,
            (true, Relation::Other) => ANOTHER_DEVICE,
        };
        let resource = uid(kind, id);
        let parents: HashSet<EntityUid> = (projection.groups.iter())
            .map(|group| uid(&self.types.group, group.as_str()))
            .chain((projection.product.iter()).map(|id| uid(&self.types.product, id.as_str())))
            .collect();
        // A policy that does not ask sees what any device has at least.
        let assurance = projection.assurance.unwrap_or_default().name().to_owned();
        let of_principal = if projection.is_service {
            HashMap::new()
        } else {
            let assurance = RestrictedExpression::new_string(assurance);
            HashMap::from([("assurance".to_owned(), assurance)])
        };
        let attributes = HashMap::from([
            (
                "owner".to_owned(),
                RestrictedExpression::new_entity_uid(uid(&self.types.device, owner)),
            ),
            (
                "direction".to_owned(),
                RestrictedExpression::new_string(direction.name().to_owned()),
            ),
        ]);
        let error = |error: &dyn std::error::Error| error.to_string();
        let entities = Entities::from_entities(
            [
                Entity::new(principal.clone(), of_principal, parents).map_err(|e| error(&e))?,
                Entity::new(resource.clone(), attributes, HashSet::new()).map_err(|e| error(&e))?,
            ],
            None,
        )
        .map_err(|e| error(&e))?;
        let request = Request::new(
            principal,
            uid(&self.types.action, action),
            resource,
            Context::empty(),
            None,
        )
        .map_err(|e| error(&e))?;
        let response = self
            .authorizer
            .is_authorized(&request, &policy.set, &entities);
        match response.diagnostics().errors().next() {
            Some(e) => Err(error(e)),
            None => Ok(response.diagnostics().reason().next().is_some()),
        }
    }
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

#[cfg(test)]
mod tests {
    use crate::diagnostic::SourceFile;
    use crate::fleet::Fleet;
    use crate::policy::{Names, Origin, Policy};
    use crate::{Facts, Grants};
    use model::{DeviceId, PolicyId, Principal, ProductId};

    /// Cedar skips a forbid that fails and answers Allow. Reading refuses whatever could fail; if
    /// that ever lets something through, compiling refuses it.
    #[test]
    fn a_forbid_that_errors_does_not_become_a_permit() {
        let files = [
            ("fleet.toml", "name = \"x\""),
            ("products/p.toml", "[camera]"),
            (
                "channels/c.toml",
                "[up]\ntopic = \"up/{device}\"\ndirection = \"from-device\"\npayload_bytes_max = 1",
            ),
            (
                "policies/p.cedar",
                "@id(\"all\") permit (principal, action, resource);",
            ),
        ]
        .map(|(path, text)| SourceFile {
            path: path.into(),
            text: text.into(),
        });
        let fleet = Fleet::read(&files).unwrap();
        let facts = Facts {
            principal: Principal::Device(DeviceId::new("d").unwrap()),
            product: Some(ProductId::new("camera").unwrap()),
            groups: Vec::new(),
            attributes: Default::default(),
            containment: None,
            assurance: model::Assurance::default(),
        };
        let grants = Grants::compile(&fleet, [facts.clone()]).unwrap();
        assert!(grants.publish(&grants.subject(&facts), "up/d").is_ok());
        drop(grants);

        let failing = "@id(\"no\") forbid (principal, action, resource) \
                       when { 9223372036854775807 + 1 == 0 };";
        let set: cedar_policy::PolicySet = failing.parse().unwrap();
        let tree = set.policies().next().unwrap().to_pst().unwrap();
        let fleet = fleet.with_policy(Policy {
            id: PolicyId::new("no").unwrap(),
            is_permit: false,
            set,
            tree: tree.body().clone().into(),
            names: Names::default(),
            origin: Origin {
                path: "policies/no.cedar".into(),
                line: 1,
                column: 1,
            },
        });
        let wrong = Grants::compile(&fleet, [facts.clone()]).unwrap_err();
        assert!(
            wrong[0]
                .to_string()
                .contains("policy no cannot be evaluated"),
            "{wrong:?}"
        );
        // Nor does a device that comes later get in by it.
        let empty = Grants::compile(&fleet, []).unwrap();
        assert!(empty.extended(&facts).is_err());
        assert!(empty.publish(&empty.subject(&facts), "up/d").is_err());
    }
}
