//! Random fleets, policies and requests: the grants, Cedar's own authorizer over real entities,
//! and an interpreter of a few lines must agree on every single decision.

use crate::{device, filter, lines, service, sources};
use access::{
    Facts, Fleet, Grants, SourceFile, certificate_topic, containment_topic, enroll_topic,
    report_topic, schema,
};
use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityUid, PolicySet, Request,
    RestrictedExpression, Schema,
};
use model::{Containment, DenyReason, DeviceId, Principal};
use mqtt::Filter;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

pub const GROUPS: usize = 4;
pub const PRODUCTS: [&str; 2] = ["p0", "p1"];
/// A device is named like a service on purpose.
const DEVICES: [&str; 3] = ["d0", "d1", "s0"];
pub const SERVICES: [&str; 2] = ["s0", "s1"];
/// Pairwise disjoint. With `{device}`, and without.
pub const TEMPLATES: [&str; 5] = [
    "a/{device}/up",
    "a/{device}/z/{rest...}",
    "z/{any}",
    "{device}/q/q",
    "up/x/{any}/{rest...}",
];

/// A condition that policies of a fleet may use, and a `forbid` or `permit` around it.
#[derive(Debug, Clone)]
pub enum Condition {
    True,
    IsDevice,
    InGroup(usize),
    InProduct(usize),
    IsTheService(usize),
    InChannels(Vec<usize>),
    Owns,
    OwnsNot,
    FromDevice,
    Publishes,
    Not(Box<Condition>),
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
}

#[derive(Debug, Clone)]
pub struct Rule {
    pub is_permit: bool,
    /// Some(true): devices only; Some(false): services only.
    pub devices: Option<bool>,
    pub when: Condition,
    pub unless: Option<Condition>,
}

#[derive(Debug, Clone)]
pub struct World {
    /// For each group those it is in: lower numbers only.
    pub parents: Vec<Vec<usize>>,
    pub products: Vec<usize>,
    pub device_groups: Vec<Vec<usize>>,
    pub service_groups: Vec<Vec<usize>>,
    pub from_device: Vec<bool>,
}

/// One question in plain values.
pub struct Question<'a> {
    /// A device's or a service's number.
    pub device: Option<usize>,
    pub service: Option<usize>,
    pub publishes: bool,
    pub channel: usize,
    pub owner: Option<&'a str>,
}

impl Condition {
    fn text(&self) -> String {
        match self {
            Self::True => "true".into(),
            Self::IsDevice => "principal is Device".into(),
            Self::InGroup(g) => format!("principal in Group::\"g{g}\""),
            Self::InProduct(p) => format!("principal in Product::\"p{p}\""),
            Self::IsTheService(s) => format!("principal == Service::\"s{s}\""),
            Self::InChannels(channels) => {
                let names: Vec<String> = channels
                    .iter()
                    .map(|c| format!("Channel::\"c{c}\""))
                    .collect();
                format!("resource in [{}]", names.join(", "))
            }
            Self::Owns => "resource.owner == principal".into(),
            Self::OwnsNot => "principal != resource.owner".into(),
            Self::FromDevice => "resource.direction == \"from-device\"".into(),
            Self::Publishes => "action == Action::\"publish\"".into(),
            Self::Not(inner) => format!("!({})", inner.text()),
            Self::And(left, right) => format!("({} && {})", left.text(), right.text()),
            Self::Or(left, right) => format!("({} || {})", left.text(), right.text()),
        }
    }

    fn holds(&self, world: &World, q: &Question<'_>) -> bool {
        match self {
            Self::True => true,
            Self::IsDevice => q.device.is_some(),
            Self::InGroup(group) => {
                let direct = match (q.device, q.service) {
                    (Some(device), _) => &world.device_groups[device],
                    (_, service) => &world.service_groups[service.unwrap()],
                };
                direct.iter().any(|from| world.is_within(*from, *group))
            }
            Self::InProduct(product) => q.device.is_some_and(|d| world.products[d] == *product),
            Self::IsTheService(service) => q.service == Some(*service),
            Self::InChannels(channels) => channels.contains(&q.channel),
            Self::Owns => q
                .device
                .is_some_and(|device| q.owner == Some(DEVICES[device])),
            Self::OwnsNot => !Self::Owns.holds(world, q),
            Self::FromDevice => world.from_device[q.channel],
            Self::Publishes => q.publishes,
            Self::Not(inner) => !inner.holds(world, q),
            Self::And(left, right) => left.holds(world, q) && right.holds(world, q),
            Self::Or(left, right) => left.holds(world, q) || right.holds(world, q),
        }
    }
}

impl Rule {
    fn text(&self, id: usize) -> String {
        let effect = if self.is_permit { "permit" } else { "forbid" };
        let scope = match self.devices {
            None => "principal",
            Some(true) => "principal is Device",
            Some(false) => "principal is Service",
        };
        let unless = (self.unless.as_ref())
            .map(|unless| format!(" unless {{ {} }}", unless.text()))
            .unwrap_or_default();
        let when = self.when.text();
        format!("@id(\"r{id}\")\n{effect} ({scope}, action, resource) when {{ {when} }}{unless};\n")
    }

    pub fn applies(&self, world: &World, q: &Question<'_>) -> bool {
        self.devices
            .is_none_or(|devices| devices == q.device.is_some())
            && self.when.holds(world, q)
            && !self
                .unless
                .as_ref()
                .is_some_and(|unless| unless.holds(world, q))
    }
}

impl World {
    pub fn is_within(&self, from: usize, group: usize) -> bool {
        from == group
            || self.parents[from]
                .iter()
                .any(|up| self.is_within(*up, group))
    }

    pub fn allows(&self, rules: &[Rule], q: &Question<'_>) -> bool {
        let applies = |is_permit| {
            rules
                .iter()
                .any(|rule| rule.is_permit == is_permit && rule.applies(self, q))
        };
        applies(true) && !applies(false)
    }

    pub fn files(&self, rules: &[Rule]) -> Vec<SourceFile> {
        let list = |groups: &[usize]| {
            let names: Vec<String> = groups.iter().map(|g| format!("\"g{g}\"")).collect();
            format!("[{}]", names.join(", "))
        };
        let groups: String = (self.parents.iter().enumerate())
            .map(|(g, parents)| format!("[groups.g{g}]\nin = {}\n", list(parents)))
            .collect();
        let services: String = (self.service_groups.iter().enumerate())
            .map(|(s, groups)| format!("[s{s}]\ngroups = {}\n", list(groups)))
            .collect();
        let channels: String = (TEMPLATES.iter().zip(&self.from_device).enumerate())
            .map(|(c, (topic, from_device))| {
                let direction = if *from_device { "from-device" } else { "to-device" };
                format!("[c{c}]\ntopic = \"{topic}\"\ndirection = \"{direction}\"\npayload_bytes_max = 1\n")
            })
            .collect();
        let policies: String = rules
            .iter()
            .enumerate()
            .map(|(id, rule)| rule.text(id))
            .collect();
        sources([
            ("fleet.toml", format!("name = \"x\"\n{groups}")),
            ("products/p.toml", "[p0]\n[p1]\n".into()),
            ("services/s.toml", services),
            ("channels/c.toml", channels),
            ("policies/p.cedar", policies),
        ])
    }

    fn principals(&self) -> Vec<(Option<usize>, Option<usize>, Facts)> {
        let devices = (0..DEVICES.len()).map(|d| {
            let groups: Vec<String> = self.device_groups[d]
                .iter()
                .map(|g| format!("g{g}"))
                .collect();
            let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
            (
                Some(d),
                None,
                device(DEVICES[d], PRODUCTS[self.products[d]], &groups),
            )
        });
        let services = (0..SERVICES.len()).map(|s| (None, Some(s), service(SERVICES[s])));
        devices.chain(services).collect()
    }

    /// The whole world as Cedar sees it, group above group.
    fn entities(&self, schema: &Schema) -> Entities {
        let set = |kind: &str, prefix: &str, ids: &[usize]| -> HashSet<EntityUid> {
            ids.iter()
                .map(|id| uid(kind, &format!("{prefix}{id}")))
                .collect()
        };
        let mut all: Vec<Entity> = Vec::new();
        for (g, parents) in self.parents.iter().enumerate() {
            all.push(Entity::new_no_attrs(
                uid("Group", &format!("g{g}")),
                set("Group", "g", parents),
            ));
        }
        for p in PRODUCTS {
            all.push(Entity::new_no_attrs(uid("Product", p), HashSet::new()));
        }
        for (d, name) in DEVICES.iter().enumerate() {
            let mut parents = set("Group", "g", &self.device_groups[d]);
            parents.insert(uid("Product", PRODUCTS[self.products[d]]));
            let assurance = RestrictedExpression::new_string("identified".to_owned());
            let attributes = HashMap::from([("assurance".to_owned(), assurance)]);
            all.push(Entity::new(uid("Device", name), attributes, parents).unwrap());
        }
        for (s, name) in SERVICES.iter().enumerate() {
            let parents = set("Group", "g", &self.service_groups[s]);
            all.push(Entity::new_no_attrs(uid("Service", name), parents));
        }
        Entities::from_entities(all, Some(schema)).unwrap()
    }
}

fn uid(kind: &str, id: &str) -> EntityUid {
    format!("{kind}::\"{id}\"").parse().unwrap()
}

pub fn condition() -> impl Strategy<Value = Condition> {
    let leaf = prop_oneof![
        1 => Just(Condition::True),
        1 => Just(Condition::IsDevice),
        4 => (0..GROUPS).prop_map(Condition::InGroup),
        2 => (0..PRODUCTS.len()).prop_map(Condition::InProduct),
        1 => (0..SERVICES.len()).prop_map(Condition::IsTheService),
        3 => prop::collection::vec(0..TEMPLATES.len(), 1..4).prop_map(Condition::InChannels),
        3 => Just(Condition::Owns),
        1 => Just(Condition::OwnsNot),
        2 => Just(Condition::FromDevice),
        1 => Just(Condition::Publishes),
    ];
    leaf.prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|c| Condition::Not(Box::new(c))),
            (inner.clone(), inner.clone())
                .prop_map(|(a, b)| Condition::And(Box::new(a), Box::new(b))),
            (inner.clone(), inner).prop_map(|(a, b)| Condition::Or(Box::new(a), Box::new(b))),
        ]
    })
}

pub fn rule() -> impl Strategy<Value = Rule> {
    (
        prop::bool::weighted(0.75),
        prop_oneof![1 => Just(None), 4 => Just(Some(true)), 2 => Just(Some(false))],
        condition(),
        prop::option::weighted(0.2, condition()),
    )
        .prop_map(|(is_permit, devices, when, unless)| Rule {
            is_permit,
            devices,
            when,
            unless,
        })
}

pub fn world() -> impl Strategy<Value = World> {
    let groups = || prop::collection::vec(0..GROUPS, 0..3);
    (
        prop::collection::vec(groups(), GROUPS),
        prop::collection::vec(0..PRODUCTS.len(), DEVICES.len()),
        prop::collection::vec(groups(), DEVICES.len()),
        prop::collection::vec(groups(), SERVICES.len()),
        prop::collection::vec(any::<bool>(), TEMPLATES.len()),
    )
        .prop_map(
            |(mut parents, products, device_groups, service_groups, from_device)| {
                for (group, parents) in parents.iter_mut().enumerate() {
                    parents.retain(|parent| *parent < group);
                }
                World {
                    parents,
                    products,
                    device_groups,
                    service_groups,
                    from_device,
                }
            },
        )
}

/// (topic, channel, owner): what each channel admits, as one would write it out by hand.
fn topics() -> Vec<(String, usize, Option<&'static str>)> {
    let mut topics = Vec::new();
    for owner in ["d0", "d1", "s0", "s1", "ghost"] {
        topics.push((format!("a/{owner}/up"), 0, Some(owner)));
        for rest in ["", "/x", "/x/", "/up/d0"] {
            topics.push((format!("a/{owner}/z{rest}"), 1, Some(owner)));
        }
        topics.push((format!("{owner}/q/q"), 3, Some(owner)));
    }
    for any in ["", "d0", "$x"] {
        topics.push((format!("z/{any}"), 2, None));
        topics.push((format!("up/x/{any}/x/y"), 4, None));
    }
    // Literals are names too: the nearest to a clash that disjoint templates allow.
    topics.push(("a/q/q".into(), 3, Some("a")));
    topics.push(("a/q".into(), usize::MAX, None));
    topics
}

/// Drops what is refused on its own: conditions that can never hold are, and comparisons of
/// things of different kinds.
pub fn accepted(world: &World, mut rules: Vec<Rule>) -> Vec<Rule> {
    // Each is two lines of the file.
    let rule_of = |line: u32| usize::try_from((line - 1) / 2).unwrap();
    while let Err(wrong) = Fleet::read(&world.files(&rules)) {
        let refused: HashSet<usize> = (wrong.iter())
            .filter(|one| one.path == "policies/p.cedar")
            .map(|one| rule_of(one.line))
            .collect();
        assert!(!refused.is_empty(), "{}", lines(&wrong));
        let mut number = 0;
        rules.retain(|_| {
            number += 1;
            !refused.contains(&(number - 1))
        });
    }
    rules
}

fn check(world: &World, rules: Vec<Rule>, filters: &[String]) -> Result<(), TestCaseError> {
    let rules = accepted(world, rules);
    let files = world.files(&rules);
    let fleet = Fleet::read(&files).map_err(|wrong| TestCaseError::fail(lines(&wrong)))?;
    let principals = world.principals();
    let devices = principals.iter().map(|(_, _, facts)| facts.clone());
    let unfilterable = principals.iter().any(|(device, _, _)| {
        device.is_some_and(|device| {
            [0, 1, 3].into_iter().any(|channel| {
                let allows = |owner| {
                    let q = Question {
                        device: Some(device),
                        service: None,
                        publishes: false,
                        channel,
                        owner: Some(owner),
                    };
                    world.allows(&rules, &q)
                };
                allows("ghost") && !allows(DEVICES[device])
            })
        })
    });
    let grants = match Grants::compile(&fleet, devices) {
        Ok(grants) => grants,
        Err(wrong) => {
            prop_assert!(unfilterable, "refused without reason: {}", lines(&wrong));
            return Ok(());
        }
    };
    prop_assert!(
        !unfilterable,
        "others' topics without one's own were accepted"
    );
    check_decisions(world, &rules, &grants, &files)?;
    check_contained(world, &grants, filters)?;
    check_filters(world, &grants, filters)
}

/// Whatever policies say: a contained device has the plane's own channels or not even those.
fn check_contained(
    world: &World,
    grants: &Grants,
    filters: &[String],
) -> Result<(), TestCaseError> {
    for (_, _, facts) in world.principals() {
        let Principal::Device(id) = &facts.principal else {
            continue;
        };
        for containment in Containment::ALL {
            let is_quarantined = containment == Containment::Quarantined;
            let subject = grants.subject(&Facts {
                containment: Some(containment),
                ..facts.clone()
            });
            for (topic, ..) in topics() {
                let denied = grants.publish(&subject, &topic).unwrap_err();
                prop_assert_eq!(denied.reason, DenyReason::Contained);
                let message = grants.resolve(&topic);
                prop_assert!(!message.is_some_and(|it| grants.receive(&subject, &it)));
            }
            for filter in filters.iter().filter_map(|text| Filter::new(text).ok()) {
                prop_assert!(grants.subscribe(&subject, &filter).is_err());
            }
            prop_assert!(grants.receivable(&subject).is_empty());
            for (report, told) in [
                (
                    report_topic as fn(&DeviceId) -> String,
                    containment_topic as fn(&DeviceId) -> String,
                ),
                (enroll_topic, certificate_topic),
            ] {
                let (own_report, own_told) = (report(id), told(id));
                prop_assert_eq!(
                    grants.publish(&subject, &own_report).is_ok(),
                    is_quarantined
                );
                prop_assert!(grants.publish(&subject, &own_told).is_err());
                let message = grants.resolve(&own_told).unwrap();
                prop_assert_eq!(grants.receive(&subject, &message), is_quarantined);
                let filter = Filter::new(&own_told).unwrap();
                prop_assert_eq!(grants.subscribe(&subject, &filter).is_ok(), is_quarantined);
                for other in DEVICES.iter().filter(|other| **other != id.as_str()) {
                    let other = DeviceId::new(other).unwrap();
                    prop_assert!(grants.publish(&subject, &report(&other)).is_err());
                    let told = told(&other);
                    let message = grants.resolve(&told).unwrap();
                    prop_assert!(!grants.receive(&subject, &message));
                    let filter = Filter::new(&told).unwrap();
                    prop_assert!(grants.subscribe(&subject, &filter).is_err());
                }
            }
        }
    }
    Ok(())
}

fn check_decisions(
    world: &World,
    rules: &[Rule],
    grants: &Grants,
    files: &[SourceFile],
) -> Result<(), TestCaseError> {
    let schema = Schema::from_cedarschema_str(schema()).unwrap().0;
    let entities = world.entities(&schema);
    let policies: PolicySet = files.last().unwrap().text.parse().unwrap();
    for (device, service, facts) in world.principals() {
        let subject = grants.subject(&facts);
        let principal = match &facts.principal {
            Principal::Device(id) => uid("Device", id.as_str()),
            Principal::Service(id) => uid("Service", id.as_str()),
        };
        for (topic, channel, owner) in topics() {
            let Some(message) = grants.resolve(&topic) else {
                prop_assert_eq!(channel, usize::MAX, "{} is in no channel", topic);
                prop_assert!(grants.publish(&subject, &topic).is_err());
                continue;
            };
            prop_assert_eq!(
                grants.channel(&message).unwrap().id.as_str(),
                format!("c{channel}")
            );
            prop_assert_eq!(message.owner, owner);
            for publishes in [true, false] {
                let ours = if publishes {
                    grants.publish(&subject, &topic).is_ok()
                } else {
                    grants.receive(&subject, &message)
                };
                let by_hand = world.allows(
                    rules,
                    &Question {
                        device,
                        service,
                        publishes,
                        channel,
                        owner,
                    },
                );
                prop_assert_eq!(ours, by_hand, "{} {} {}", facts.principal, publishes, topic);
                let resource = uid("Channel", &format!("c{channel}"));
                let direction = if world.from_device[channel] {
                    "from-device"
                } else {
                    "to-device"
                };
                let attributes = HashMap::from([
                    (
                        "owner".into(),
                        RestrictedExpression::new_entity_uid(uid("Device", owner.unwrap_or(""))),
                    ),
                    (
                        "direction".into(),
                        RestrictedExpression::new_string(direction.into()),
                    ),
                ]);
                let entity = Entity::new(resource.clone(), attributes, HashSet::new()).unwrap();
                let entities = entities
                    .clone()
                    .add_entities([entity], Some(&schema))
                    .unwrap();
                let action = uid("Action", if publishes { "publish" } else { "receive" });
                let context = Context::empty();
                let request =
                    Request::new(principal.clone(), action, resource, context, Some(&schema));
                let response =
                    Authorizer::new().is_authorized(&request.unwrap(), &policies, &entities);
                prop_assert!(response.diagnostics().errors().next().is_none());
                let cedars = response.decision() == Decision::Allow;
                prop_assert_eq!(
                    ours,
                    cedars,
                    "Cedar: {} {} {}",
                    facts.principal,
                    publishes,
                    topic
                );
            }
        }
    }
    Ok(())
}

/// All topics of up to four levels over a small alphabet; `n` stands in no template and names no
/// device of the fleet.
fn all_topics() -> Vec<String> {
    const LEVELS: [&str; 7] = ["a", "z", "up", "q", "d0", "s0", "n"];
    let mut all: Vec<String> = Vec::new();
    let mut last: Vec<String> = vec![String::new()];
    for depth in 0..4 {
        last = (last.iter())
            .flat_map(|topic| {
                LEVELS.iter().map(move |level| match depth {
                    0 => (*level).to_owned(),
                    _ => format!("{topic}/{level}"),
                })
            })
            .collect();
        all.extend(last.iter().cloned());
    }
    all
}

/// A subscription is granted exactly if every topic its filter matches may be received.
fn check_filters(world: &World, grants: &Grants, filters: &[String]) -> Result<(), TestCaseError> {
    let all = all_topics();
    for (_, _, facts) in world.principals() {
        let subject = grants.subject(&facts);
        let receivable: Vec<bool> = (all.iter())
            .map(|topic| (grants.resolve(topic)).is_some_and(|m| grants.receive(&subject, &m)))
            .collect();
        let widest = grants.receivable(&subject).into_iter();
        for wanted in widest.chain(filters.iter().map(|text| filter(text))) {
            let every = (all.iter().zip(&receivable))
                .all(|(topic, receivable)| *receivable || !wanted.matches(topic));
            let granted = grants.subscribe(&subject, &wanted).is_ok();
            prop_assert_eq!(granted, every, "{} {}", facts.principal, wanted);
        }
    }
    Ok(())
}

fn a_filter() -> impl Strategy<Value = String> {
    let level = prop::sample::select(vec!["a", "z", "up", "q", "d0", "s0", "+", "+"]);
    let end = prop::sample::select(vec!["", "", "#"]);
    (prop::collection::vec(level, 1..4), end).prop_map(|(levels, end)| {
        let mut levels = levels;
        if !end.is_empty() {
            levels.push(end);
        }
        levels.join("/")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, rng_seed: prop::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn grants_are_what_cedar_and_an_interpreter_say(
        world in world(),
        rules in prop::collection::vec(rule(), 1..7),
        filters in prop::collection::vec(a_filter(), 12),
    ) {
        check(&world, rules, &filters)?;
    }
}

/// The random test would pass idly if most of its policies were refused or nothing were allowed.
#[test]
fn the_random_policies_are_mostly_accepted_and_decide_something() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut made, mut kept, mut permitted, mut denied) = (0, 0, 0, 0);
    for _ in 0..40 {
        let world = world().new_tree(&mut runner).unwrap().current();
        let rules = prop::collection::vec(rule(), 4)
            .new_tree(&mut runner)
            .unwrap()
            .current();
        made += rules.len();
        let rules = accepted(&world, rules);
        kept += rules.len();
        for (device, service, _) in world.principals() {
            for (_, channel, owner) in topics().into_iter().filter(|topic| topic.1 != usize::MAX) {
                let publishes = true;
                let q = Question {
                    device,
                    service,
                    publishes,
                    channel,
                    owner,
                };
                if world.allows(&rules, &q) {
                    permitted += 1
                } else {
                    denied += 1
                }
            }
        }
    }
    assert!(kept * 2 > made, "{kept} of {made} policies are accepted");
    assert!(
        permitted * 5 > denied,
        "{permitted} permitted, {denied} denied"
    );
}
