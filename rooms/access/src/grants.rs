//! Grants: what each principal may publish and receive, decided before it asks.

use crate::behaviour::Destination;
use crate::builtin::Builtin;
use crate::class::{CLASSES_MAX, Class, ClassKey, Facts, Unclassified, Vocabulary, too_many};
use crate::compile::{Action, Cell, Cells, Compiler, Connects, Memo, Relation};
use crate::contract::Contract;
use crate::diagnostic::Diagnostic;
use crate::fleet::{Channel, Fleet};
use crate::template::Slots;
use crate::topics::Topics;
use model::{AttributeId, AttributeValue, Containment, DenyReason, PolicyId, Principal, Verdict};
use mqtt::Filter;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::Arc;

/// The policies of a fleet, compiled for the classes of its principals. Immutable; what is large
/// in it is shared between clones and between one and its `extended`.
#[derive(Debug, Clone)]
pub struct Grants {
    rules: Arc<Rules>,
    classes: Vec<Arc<Class>>,
    by_key: BTreeMap<ClassKey, u32>,
    memo: Memo,
    /// Whether the topics of Device Defender are among the plane's own.
    device_defender: bool,
}

/// What does not depend on the population.
#[derive(Debug)]
struct Rules {
    fleet: Fleet,
    vocabulary: Vocabulary,
    topics: Topics,
    /// For each channel the filter of its topics, whoever owns them.
    filters: Vec<Filter>,
    /// Tells messages resolved by this fleet from those resolved by another.
    epoch: u64,
}

/// A principal with its class: made once per session, asked with every message. At most 64 bytes.
/// It is of the grants that made it: others (of another fleet) deny it everything.
#[derive(Debug, Clone)]
pub struct Subject {
    principal: Principal,
    attributes: Arc<[(AttributeId, AttributeValue)]>,
    class: u32,
    containment: Option<Containment>,
    tag: u64,
}

/// Something that was checked and permitted. Only `Grants` makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permitted<T>(T);

/// A topic with its place in the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish<'t> {
    pub topic: &'t str,
    /// The device that owns the topic; `None` in a channel that nobody owns.
    pub owner: Option<&'t str>,
    /// Of the payload, by its channel.
    pub payload_bytes_max: u32,
    /// Of one publisher in this channel; `None` is unlimited by the channel.
    pub rate_per_minute: Option<u32>,
    /// Topics of its channel that may have a retained message.
    pub retained_max: u32,
    /// How long a retained message is kept.
    pub retained_days: u32,
    channel: u16,
    epoch: u64,
}

/// A filter that lies within what its subject may receive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    filter: Filter,
}

/// A refusal, cheap to make and to copy. [`Grants::verdict`] names its policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied {
    pub reason: DenyReason,
    policy: Option<u16>,
}

const NO_CLASS: u32 = u32::MAX;

impl Grants {
    /// Grants of an empty fleet, for the time before the first apply: deny everything.
    #[must_use]
    pub fn none() -> Self {
        Self::of_rules(Fleet::empty(), Vec::new())
    }

    /// Compiles the fleet's policies for every class in `population`; the services that `fleet`
    /// declares are always in it. A principal whose product or group the fleet does not declare
    /// is in no class and denied everything ([`Grants::unclassified`] says why).
    ///
    /// # Errors
    /// More than 10,000 classes; a policy that cannot be evaluated; a class that may receive a
    /// channel from other devices but not its own topics of it (no filter says that).
    pub fn compile(
        fleet: &Fleet,
        population: impl IntoIterator<Item = Facts>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut grants = Self::of_rules(fleet.clone(), channel_filters(fleet)?);
        let rules = Arc::clone(&grants.rules);
        let mut keys = BTreeSet::new();
        let services = fleet.services().map(|service| Facts {
            principal: Principal::Service(service.id.clone()),
            product: None,
            groups: Vec::new(),
            attributes: Default::default(),
            containment: None,
            assurance: model::Assurance::default(),
        });
        for facts in services.chain(population) {
            for assurance in rules.vocabulary.assurances() {
                let facts = Facts {
                    assurance: *assurance,
                    ..facts.clone()
                };
                if let Ok(key) = rules.vocabulary.classify(fleet, &facts) {
                    keys.insert(key);
                }
            }
            if keys.len() > CLASSES_MAX {
                return Err(vec![too_many(fleet, &rules.vocabulary, &keys)]);
            }
        }
        let mut compiler = Compiler::new(fleet, &rules.vocabulary, Memo::default())
            .map_err(|wrong| vec![wrong])?;
        let mut wrong = BTreeSet::new();
        for key in &keys {
            match compiler.class(key) {
                Ok(class) => grants.add(class),
                Err(diagnostics) => wrong.extend(diagnostics),
            }
        }
        if wrong.is_empty() {
            grants.memo = compiler.into_memo();
            Ok(grants)
        } else {
            Err(wrong
                .into_iter()
                .take(crate::fleet::caps::DIAGNOSTICS)
                .collect())
        }
    }

    /// These grants with the class of `facts`, for a principal that comes after they were
    /// compiled. `None` if nothing needs to be added. Subjects of these grants stay good.
    ///
    /// # Errors
    /// As for [`Grants::compile`].
    pub fn extended(&self, facts: &Facts) -> Result<Option<Self>, Vec<Diagnostic>> {
        let Rules {
            fleet, vocabulary, ..
        } = self.rules.as_ref();
        let Ok(key) = vocabulary.classify(fleet, facts) else {
            return Ok(None);
        };
        if self.by_key.contains_key(&key) {
            return Ok(None);
        }
        if self.classes.len() >= CLASSES_MAX {
            let keys = self.by_key.keys().cloned().chain([key]).collect();
            return Err(vec![too_many(fleet, vocabulary, &keys)]);
        }
        let mut compiler =
            Compiler::new(fleet, vocabulary, self.memo.clone()).map_err(|wrong| vec![wrong])?;
        let mut extended = self.clone();
        extended.add(compiler.class(&key)?);
        extended.memo = compiler.into_memo();
        Ok(Some(extended))
    }

    /// The same grants, by which devices may or may not send reports of AWS IoT Device Defender to
    /// the plane. Without a word they may not.
    #[must_use]
    pub fn with_device_defender(self, device_defender: bool) -> Self {
        Self {
            device_defender,
            ..self
        }
    }

    /// The plane's own channel that a topic is of, and whose.
    fn builtin<'t>(&self, topic: &'t str) -> Option<(Builtin, &'t str)> {
        Builtin::of(topic).filter(|(builtin, _)| self.has(*builtin))
    }

    pub(crate) fn has(&self, builtin: Builtin) -> bool {
        self.device_defender || !builtin.is_of_defender()
    }

    /// The subject that these grants know `facts` as. One of an unknown class (see `extended`,
    /// `unclassified`) is denied everything.
    #[must_use]
    pub fn subject(&self, facts: &Facts) -> Subject {
        let class = self.class_of(facts).unwrap_or(NO_CLASS);
        Subject {
            principal: facts.principal.clone(),
            attributes: Arc::clone(&facts.attributes),
            class,
            containment: facts.containment,
            tag: (self.class_at(class)).map_or(0, |class| class.tag),
        }
    }

    /// Why `facts` are in no class of this fleet, whatever is compiled: what to declare or to
    /// correct. `None` if they are in one.
    #[must_use]
    pub fn unclassified(&self, facts: &Facts) -> Option<String> {
        self.classify(facts).err().map(|reason| reason.to_string())
    }

    /// May `subject` send a message to `topic`? Allocates nothing. A device may always send the
    /// plane its own report and its own request, unless it is isolated; a contained one nothing else.
    ///
    /// # Errors
    /// The refusal.
    pub fn publish<'t>(
        &self,
        subject: &Subject,
        topic: &'t str,
    ) -> Result<Permitted<Publish<'t>>, Denied> {
        if let Some((builtin, _)) = self.builtin(topic)
            && builtin.is_to_plane()
            && let Some(publish) = self.resolve(topic)
            && subject.is_quarantined_at_most()
            && self.relation(subject, &publish) == Relation::Own
        {
            return Ok(Permitted(publish));
        }
        if subject.containment.is_some() {
            return Err(Denied::new(DenyReason::Contained));
        }
        let class = self
            .class(subject)
            .ok_or(Denied::new(DenyReason::UnknownClass))?;
        let publish = (self.resolve(topic)).ok_or(Denied::new(DenyReason::UnlistedTopic))?;
        // Of the plane's own channels, which have no cells, nothing is permitted here.
        let cells = class.cells.get(usize::from(publish.channel));
        let relation = self.relation(subject, &publish);
        let cell = cells
            .copied()
            .unwrap_or_default()
            .of(relation, Action::Publish);
        if cell.is_permit() {
            Ok(Permitted(publish))
        } else {
            Err(Denied::by(cell))
        }
    }

    /// May `message` be delivered to `subject`? Allocates nothing. A message that other grants
    /// resolved is resolved again.
    #[must_use]
    pub fn receive(&self, subject: &Subject, message: &Publish<'_>) -> bool {
        if let Some(builtin) = Builtin::of_channel(message.channel) {
            return !builtin.is_to_plane()
                && self.has(builtin)
                && subject.is_quarantined_at_most()
                && self.relation(subject, message) == Relation::Own;
        }
        if subject.containment.is_some() {
            return false;
        }
        let Some(class) = self.class(subject) else {
            return false;
        };
        let message = if message.epoch == self.rules.epoch {
            *message
        } else {
            match self.resolve(message.topic) {
                Some(message) => message,
                None => return false,
            }
        };
        (class.cells.get(usize::from(message.channel))).is_some_and(|cells| {
            cells
                .of(self.relation(subject, &message), Action::Receive)
                .is_permit()
        })
    }

    /// Whether `message` lies in topics of the subject's own. Allocates nothing.
    #[must_use]
    pub fn is_own(&self, subject: &Subject, message: &Publish<'_>) -> bool {
        self.relation(subject, message) == Relation::Own
    }

    /// A channel by its number ([`Publish::channel_index`]); `None` for the plane's own.
    #[must_use]
    pub fn channel_numbered(&self, index: u16) -> Option<&Channel> {
        self.channel_at(index)
    }

    /// The place of `topic` in this fleet, for messages that were permitted before (the journal's).
    /// `None` if it has none: such a message is delivered to nobody. Allocates nothing.
    #[must_use]
    pub fn resolve<'t>(&self, topic: &'t str) -> Option<Publish<'t>> {
        if let Some((builtin, owner)) = self.builtin(topic) {
            return Some(Publish {
                topic,
                owner: Some(owner),
                channel: builtin.channel(),
                payload_bytes_max: builtin.payload_bytes_max(),
                rate_per_minute: None,
                retained_max: 0,
                retained_days: 0,
                epoch: self.rules.epoch,
            });
        }
        let resolved = self.rules.topics.resolve(topic)?;
        let channel = self.channel_at(resolved.channel)?;
        Some(Publish {
            topic,
            owner: resolved.owner,
            channel: resolved.channel,
            payload_bytes_max: channel.payload_bytes_max,
            rate_per_minute: channel.rate_per_minute,
            retained_max: channel.retained_max,
            retained_days: channel.retained_days,
            epoch: self.rules.epoch,
        })
    }

    /// May `subject` subscribe to `filter`? Only if every topic that the filter matches lies in
    /// some grant to receive: the filter is covered by their union. `$share/..` is taken off by
    /// the caller.
    ///
    /// # Errors
    /// The refusal.
    pub fn subscribe(
        &self,
        subject: &Subject,
        filter: &Filter,
    ) -> Result<Permitted<Subscription>, Denied> {
        if self.is_word_of_plane(subject, filter) && subject.is_quarantined_at_most() {
            return Ok(Permitted(Subscription {
                filter: filter.clone(),
            }));
        }
        if subject.containment.is_some() {
            return Err(Denied::new(DenyReason::Contained));
        }
        let class = self
            .class(subject)
            .ok_or(Denied::new(DenyReason::UnknownClass))?;
        let touched = self.touched(class, subject, filter);
        let union: Vec<Filter> = (touched.iter())
            .filter(|part| part.cell.is_permit())
            .map(|part| part.filter.clone())
            .collect();
        if union.is_empty() {
            // Nothing of it is granted: say what the parts say.
            let forbidden = touched.iter().find(|part| part.cell.policy().is_some());
            return Err(match (touched.first(), forbidden) {
                (None, _) => Denied::new(DenyReason::UnlistedTopic),
                (_, Some(part)) => Denied::by(part.cell),
                (Some(part), None) => Denied::by(part.cell),
            });
        }
        if mqtt::covered_by_union(filter, &union) {
            Ok(Permitted(Subscription {
                filter: filter.clone(),
            }))
        } else {
            Err(Denied::new(DenyReason::FilterTooWide))
        }
    }

    /// May `subject` take part in the shared subscription `name`? Whoever does takes messages away
    /// from the others, so the name is a grant of its own, of services that `fleet/` gives it.
    ///
    /// # Errors
    /// The refusal.
    pub fn share(&self, subject: &Subject, name: &str) -> Result<(), Denied> {
        let declared = match &subject.principal {
            Principal::Service(id) => self.rules.fleet.service(id),
            Principal::Device(_) => None,
        };
        if declared.is_some_and(|service| service.shares.iter().any(|share| share == name)) {
            Ok(())
        } else {
            Err(Denied::new(DenyReason::ShareNotGranted))
        }
    }

    /// The widest filters that `subject` may subscribe to, by channel of the fleet.
    #[must_use]
    pub fn receivable(&self, subject: &Subject) -> Vec<Filter> {
        if subject.containment.is_some() {
            return Vec::new();
        }
        let Some(class) = self.class(subject) else {
            return Vec::new();
        };
        (0u16..)
            .zip(self.rules.fleet.channel_list())
            .filter_map(|(index, channel)| {
                let cells = class.cells.get(usize::from(index))?;
                if cells.of(Relation::Other, Action::Receive).is_permit() {
                    self.rules.filters.get(usize::from(index)).cloned()
                } else if cells.of(Relation::Own, Action::Receive).is_permit() {
                    own_filter(channel, subject)
                } else {
                    None
                }
            })
            .collect()
    }

    /// The refusal with the policy that decided. `denied` is of these grants.
    #[must_use]
    pub fn verdict(&self, denied: &Denied) -> Verdict {
        Verdict::Deny {
            reason: denied.reason,
            policy: denied
                .policy
                .and_then(|policy| self.policy_id(policy))
                .cloned(),
        }
    }

    /// The channel of a message. `None` if other grants resolved it.
    #[must_use]
    pub fn channel(&self, message: &Publish<'_>) -> Option<&Channel> {
        (message.epoch == self.rules.epoch)
            .then(|| self.channel_at(message.channel))
            .flatten()
    }

    /// What the payload of a message must be; `None`: anything of its size.
    #[must_use]
    pub fn contract(&self, message: &Publish<'_>) -> Option<&Contract> {
        self.channel(message)?.contract.as_ref()
    }

    #[must_use]
    pub fn fleet(&self) -> &Fleet {
        &self.rules.fleet
    }

    /// How many grant classes are compiled.
    #[must_use]
    pub fn class_count(&self) -> usize {
        self.classes.len()
    }
}

/// One channel as far as a filter reaches into it, seen by one principal.
pub(crate) struct Part<'a> {
    pub channel: &'a Channel,
    pub relation: Relation,
    /// The topics of this part.
    pub filter: Filter,
    pub cell: Cell,
}

impl Grants {
    fn of_rules(fleet: Fleet, filters: Vec<Filter>) -> Self {
        let digest = fleet.digest().0;
        Self {
            rules: Arc::new(Rules {
                vocabulary: Vocabulary::new(&fleet),
                topics: Topics::new(fleet.channel_list()),
                filters,
                epoch: (digest.iter().take(8)).fold(0, |epoch, byte| epoch << 8 | u64::from(*byte)),
                fleet,
            }),
            classes: Vec::new(),
            by_key: BTreeMap::new(),
            memo: Memo::default(),
            device_defender: false,
        }
    }

    /// Whether a filter is a topic on which the plane tells this device.
    fn is_word_of_plane(&self, subject: &Subject, filter: &Filter) -> bool {
        let Some((builtin, owner)) = self.builtin(filter.as_str()) else {
            return false;
        };
        !builtin.is_to_plane() && is_owner(subject, builtin, owner)
    }

    fn add(&mut self, class: Class) {
        // At most CLASSES_MAX.
        let index = u32::try_from(self.classes.len()).unwrap_or(NO_CLASS);
        self.by_key.insert(class.key.clone(), index);
        self.classes.push(Arc::new(class));
    }

    pub(crate) fn classify(&self, facts: &Facts) -> Result<ClassKey, Unclassified> {
        self.rules.vocabulary.classify(&self.rules.fleet, facts)
    }

    fn class_at(&self, index: u32) -> Option<&Class> {
        self.classes
            .get(usize::try_from(index).ok()?)
            .map(Arc::as_ref)
    }

    fn class(&self, subject: &Subject) -> Option<&Class> {
        self.class_at(subject.class)
            .filter(|class| class.tag == subject.tag)
    }

    fn channel_at(&self, index: u16) -> Option<&Channel> {
        self.rules.fleet.channel_list().get(usize::from(index))
    }

    pub(crate) fn policy_id(&self, index: u16) -> Option<&PolicyId> {
        let policies = self.rules.fleet.policy_list();
        policies.get(usize::from(index)).map(|policy| &policy.id)
    }

    /// A device owns what bears its name, or in its slots its attributes; a service owns nothing.
    /// Allocates nothing.
    pub(crate) fn relation(&self, subject: &Subject, message: &Publish<'_>) -> Relation {
        let Some(slots) = subject.slots() else {
            return Relation::Other;
        };
        if let (Some(builtin), Some(owner)) = (Builtin::of_channel(message.channel), message.owner)
        {
            return match is_owner(subject, builtin, owner) {
                true => Relation::Own,
                false => Relation::Other,
            };
        }
        let is_own = match self.channel_at(message.channel) {
            Some(channel) if channel.template.has_attributes() => {
                channel.template.is_own(message.topic, slots)
            }
            _ => message.owner == Some(slots.device),
        };
        if is_own {
            Relation::Own
        } else {
            Relation::Other
        }
    }

    pub(crate) fn is_known(&self, subject: &Subject) -> bool {
        self.class(subject).is_some()
    }

    /// None for a service, and for whoever is in no class.
    pub(crate) fn destinations_with_connects(
        &self,
        subject: &Subject,
    ) -> impl Iterator<Item = (&Destination, Connects)> {
        let connects = self.class(subject).map(|class| class.connects.iter());
        let destinations = self.rules.fleet.destinations();
        destinations.zip(connects.into_iter().flatten().copied())
    }

    pub(crate) fn channels_with_cells(
        &self,
        subject: &Subject,
    ) -> impl Iterator<Item = (&Channel, Cells)> {
        let cells = self.class(subject).map(|class| class.cells.iter());
        let channels = self.rules.fleet.channel_list().iter();
        channels.zip(cells.into_iter().flatten().copied())
    }

    /// The class that `facts` are in, if it is compiled.
    pub(crate) fn class_of(&self, facts: &Facts) -> Option<u32> {
        let key = self.classify(facts).ok()?;
        self.by_key.get(&key).copied()
    }

    pub(crate) fn cells_of(&self, class: u32) -> impl Iterator<Item = (&Channel, Cells)> {
        let cells = self.class_at(class).map(|class| class.cells.iter());
        let channels = self.rules.fleet.channel_list().iter();
        channels.zip(cells.into_iter().flatten().copied())
    }

    pub(crate) fn cells(&self, subject: &Subject, message: &Publish<'_>) -> Option<Cells> {
        let class = self.class(subject)?;
        class.cells.get(usize::from(message.channel)).copied()
    }

    /// The parts of the fleet's channels that `filter` reaches, as `subject` stands to them.
    pub(crate) fn parts(&self, subject: &Subject, filter: &Filter) -> Vec<Part<'_>> {
        match self.class(subject) {
            Some(class) => self.touched(class, subject, filter),
            None => Vec::new(),
        }
    }

    fn touched<'a>(&'a self, class: &Class, subject: &Subject, filter: &Filter) -> Vec<Part<'a>> {
        let mut parts = Vec::new();
        let channels = self.rules.fleet.channel_list().iter();
        for ((channel, all), cells) in channels.zip(&self.rules.filters).zip(class.cells.iter()) {
            if !all.intersects(filter) {
                continue;
            }
            let other = cells.of(Relation::Other, Action::Receive);
            let own = (own_filter(channel, subject)).filter(|own| own.intersects(filter));
            if let Some(own) = own {
                let is_own_only = own.covers(filter);
                parts.push(Part {
                    channel,
                    relation: Relation::Own,
                    filter: own,
                    cell: cells.of(Relation::Own, Action::Receive),
                });
                if is_own_only {
                    continue;
                }
            }
            parts.push(Part {
                channel,
                relation: Relation::Other,
                // With its own topics in it: who may receive others' may receive its own.
                filter: all.clone(),
                cell: other,
            });
        }
        parts
    }
}

/// Whether a topic of the plane's own that is said to be `owner`'s is this subject's. As a thing it
/// may be called what its list says that it has always been called.
fn is_owner(subject: &Subject, builtin: Builtin, owner: &str) -> bool {
    let Some(slots) = subject.slots() else {
        return false;
    };
    let is_called = |(name, value): &(AttributeId, AttributeValue)| {
        name.as_str() == "client_id" && value.as_str() == owner
    };
    owner == slots.device || builtin.is_of_defender() && slots.attributes.iter().any(is_called)
}

/// The filter of `subject`'s own topics of `channel`, if it can have any. A service never does, be
/// its name that of a device.
fn own_filter(channel: &Channel, subject: &Subject) -> Option<Filter> {
    if !channel.template.has_owner() {
        return None;
    }
    channel.template.filter(Some(subject.slots()?))
}

fn channel_filters(fleet: &Fleet) -> Result<Vec<Filter>, Vec<Diagnostic>> {
    let filter = |channel: &Channel| {
        channel.template.filter(None).ok_or_else(|| {
            vec![Diagnostic {
                path: "fleet.toml".into(),
                line: 1,
                column: 1,
                message: format!("the topics of channel {} are no MQTT filter", channel.id),
                help: None,
            }]
        })
    };
    fleet.channels().map(filter).collect()
}

impl Subject {
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    #[must_use]
    pub fn containment(&self) -> Option<Containment> {
        self.containment
    }

    /// The same subject as it would be if it were not contained: for what must outlast a
    /// containment without having an effect in it.
    #[must_use]
    pub fn uncontained(&self) -> Self {
        Self {
            containment: None,
            ..self.clone()
        }
    }

    fn is_quarantined_at_most(&self) -> bool {
        self.containment != Some(Containment::Isolated)
    }

    /// Whether a filter is the topic on which the plane tells this device what state it should have.
    #[must_use]
    pub fn is_own_desired_state(&self, filter: &Filter) -> bool {
        match (Builtin::of(filter.as_str()), &self.principal) {
            (Some((Builtin::Desired, owner)), Principal::Device(id)) => owner == id.as_str(),
            _ => false,
        }
    }

    /// What of a device stands in slots. A service has none, be its name that of a device.
    pub(crate) fn slots(&self) -> Option<Slots<'_>> {
        match &self.principal {
            Principal::Device(id) => Some(Slots {
                device: id.as_str(),
                attributes: &self.attributes,
            }),
            Principal::Service(_) => None,
        }
    }
}

impl<T> Permitted<T> {
    #[must_use]
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Permitted<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl Publish<'_> {
    /// Which channel, as a number: a key for counters per channel while the fleet is the same.
    #[must_use]
    pub fn channel_index(&self) -> u16 {
        self.channel
    }

    /// In one of the plane's own channels.
    #[must_use]
    pub fn is_of_plane(&self) -> bool {
        Builtin::of(self.topic).is_some()
    }

    /// A report of its owner to the plane, which goes to no subscriber.
    #[must_use]
    pub fn is_report(&self) -> bool {
        self.channel == Builtin::Report.channel()
    }

    /// Its owner's request for a certificate, which goes to no subscriber either.
    #[must_use]
    pub fn is_request(&self) -> bool {
        self.channel == Builtin::Enroll.channel()
    }

    /// The state that its owner has, by its own word: for the plane alone.
    #[must_use]
    pub fn is_reported_state(&self) -> bool {
        self.channel == Builtin::Reported.channel()
    }

    /// A report of its owner's Device Defender agent, which goes to no subscriber either.
    #[must_use]
    pub fn is_defender_report(&self) -> bool {
        let builtin = Builtin::of_channel(self.channel);
        builtin.is_some_and(|one| one.is_of_defender() && one.is_to_plane())
    }

    /// A word of a device to the plane.
    #[must_use]
    pub fn is_to_plane(&self) -> bool {
        Builtin::of_channel(self.channel).is_some_and(Builtin::is_to_plane)
    }
}

impl Subscription {
    #[must_use]
    pub fn filter(&self) -> &Filter {
        &self.filter
    }
}

impl Denied {
    /// A refusal that no policy decided: the gateway's own, such as a payload too large.
    #[must_use]
    pub const fn new(reason: DenyReason) -> Self {
        Self {
            reason,
            policy: None,
        }
    }

    /// Of a cell that does not permit.
    pub(crate) fn by(cell: Cell) -> Self {
        Self {
            reason: match cell.policy() {
                Some(_) => DenyReason::Forbidden,
                None => DenyReason::NoPermit,
            },
            policy: cell.policy(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_shared_between_shards_and_a_subject_is_small() {
        fn shared<T: Send + Sync>() {}
        shared::<Grants>();
        shared::<Subject>();
        assert!(size_of::<Subject>() <= 64, "{}", size_of::<Subject>());
        assert!(
            size_of::<Publish<'_>>() <= 64,
            "{}",
            size_of::<Publish<'_>>()
        );
    }

    #[test]
    fn before_the_first_apply_everything_is_denied() {
        let grants = Grants::none();
        let device = model::DeviceId::new("d").unwrap();
        let subject = grants.subject(&Facts {
            principal: Principal::Device(device),
            product: None,
            groups: Vec::new(),
            attributes: Default::default(),
            containment: None,
            assurance: model::Assurance::default(),
        });
        let denied = grants.publish(&subject, "a").unwrap_err();
        assert_eq!(denied.reason, DenyReason::UnknownClass);
        assert!(grants.resolve("a").is_none());
        assert!(
            grants
                .subscribe(&subject, &Filter::new("a").unwrap())
                .is_err()
        );
    }
}
