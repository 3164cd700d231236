//! Grant classes: principals between which no policy of the fleet can tell a difference.

use crate::compile::{Cells, Connects};
use crate::diagnostic::Diagnostic;
use crate::fleet::Fleet;
use model::{
    Assurance, AttributeId, AttributeValue, Containment, GroupId, Principal, ProductId, ServiceId,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Above this the policies name too much: memory and the time of an apply would follow.
pub(crate) const CLASSES_MAX: usize = 10_000;

/// What is stored about a principal: all that policies may see of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub principal: Principal,
    /// A device's product. Not looked at for a service.
    pub product: Option<ProductId>,
    /// A device's groups. Not looked at for a service, whose groups `fleet/` declares.
    pub groups: Vec<GroupId>,
    /// What stands in the slots of channels that name attributes, and under `client_id` how a
    /// device may call itself besides its name. From a list, never from the device. No policy sees
    /// them.
    pub attributes: Arc<[(AttributeId, AttributeValue)]>,
    /// How far a device is cut off; `None`: it is free. No policy sees it, and none outweighs it.
    pub containment: Option<Containment>,
    /// How far a device is shown to be what it says. Not looked at for a service.
    pub assurance: Assurance,
}

/// What all policies together can see of a principal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClassKey {
    /// Each service is a class of its own: they are few, and a policy may name one.
    pub service: Option<ServiceId>,
    /// Only if a policy names it.
    pub product: Option<ProductId>,
    /// Of a device, and only if a policy asks it.
    pub assurance: Option<Assurance>,
    /// Those that some policy names, ancestors included, as numbers of the vocabulary. Sorted.
    pub groups: Vec<u16>,
}

/// A class with its decisions: one `Cells` per channel, one `Connects` per destination, in the order
/// of the fleet's.
#[derive(Debug)]
pub(crate) struct Class {
    pub tag: u64,
    pub key: ClassKey,
    pub cells: Box<[Cells]>,
    /// Of a service: none.
    pub connects: Box<[Connects]>,
}

/// The groups and products that policies name.
#[derive(Debug, Default)]
pub(crate) struct Vocabulary {
    /// Sorted; a group's place is its number.
    groups: Vec<GroupId>,
    products: BTreeSet<ProductId>,
    asks_assurance: bool,
    /// For every declared group: the named ones among it and its ancestors.
    named: BTreeMap<GroupId, Vec<u16>>,
}

/// Why a principal is in no class. It is denied everything: that a group is unknown might be the
/// one thing that a `forbid` should have seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unclassified {
    Service(ServiceId),
    NoProduct,
    Product(ProductId),
    Group(GroupId),
}

impl Vocabulary {
    pub(crate) fn new(fleet: &Fleet) -> Self {
        let mut groups = BTreeSet::new();
        let mut products = BTreeSet::new();
        for policy in fleet.policy_list() {
            groups.extend(policy.names.groups.iter().cloned());
            products.extend(policy.names.products.iter().cloned());
        }
        let groups: Vec<GroupId> = groups.into_iter().collect();
        let named = (fleet.groups())
            .map(|group| {
                let ancestors = fleet.ancestors([&group.id]);
                let named = (0u16..).zip(&groups);
                let named = named.filter(|(_, named)| ancestors.contains(named));
                (group.id.clone(), named.map(|(number, _)| number).collect())
            })
            .collect();
        Self {
            groups,
            products,
            asks_assurance: (fleet.policy_list().iter()).any(|policy| policy.names.assurance),
            named,
        }
    }

    /// The levels that policies can tell apart: a device may come to any of them while it speaks.
    pub(crate) fn assurances(&self) -> &'static [Assurance] {
        if self.asks_assurance {
            &Assurance::ALL
        } else {
            &[Assurance::Identified]
        }
    }

    pub(crate) fn group(&self, number: u16) -> Option<&GroupId> {
        self.groups.get(usize::from(number))
    }

    pub(crate) fn classify(&self, fleet: &Fleet, facts: &Facts) -> Result<ClassKey, Unclassified> {
        let (service, product, groups) = match &facts.principal {
            Principal::Service(id) => {
                let declared =
                    (fleet.service(id)).ok_or_else(|| Unclassified::Service(id.clone()))?;
                (Some(id.clone()), None, &declared.groups)
            }
            Principal::Device(_) => {
                let product = facts.product.as_ref().ok_or(Unclassified::NoProduct)?;
                if fleet.product(product).is_none() {
                    return Err(Unclassified::Product(product.clone()));
                }
                (None, self.products.get(product).cloned(), &facts.groups)
            }
        };
        let mut numbers = BTreeSet::new();
        for group in groups {
            let named =
                (self.named.get(group)).ok_or_else(|| Unclassified::Group(group.clone()))?;
            numbers.extend(named);
        }
        let is_device = matches!(facts.principal, Principal::Device(_));
        Ok(ClassKey {
            service,
            product,
            assurance: (is_device && self.asks_assurance).then_some(facts.assurance),
            groups: numbers.into_iter().collect(),
        })
    }
}

impl ClassKey {
    /// For messages: `product camera, groups indoor, eu`.
    pub(crate) fn describe(&self, vocabulary: &Vocabulary) -> String {
        let groups: Vec<&str> = (self.groups.iter())
            .filter_map(|group| vocabulary.group(*group))
            .map(GroupId::as_str)
            .collect();
        let product = match (&self.service, &self.product) {
            (Some(service), _) => format!("service {service}"),
            (None, Some(product)) => format!("product {product}"),
            (None, None) => "any product".to_owned(),
        };
        let product = match self.assurance {
            Some(assurance) => format!("{product}, {}", assurance.name()),
            None => product,
        };
        match groups.as_slice() {
            [] => format!("{product}, in no group that a policy names"),
            groups => format!("{product}, groups {}", groups.join(", ")),
        }
    }
}

/// The refusal of a fleet whose policies split its devices into too many classes, naming what
/// splits them most. `keys` is at least the first that were too many.
pub(crate) fn too_many(
    fleet: &Fleet,
    vocabulary: &Vocabulary,
    keys: &BTreeSet<ClassKey>,
) -> Diagnostic {
    // How many classes would be left if policies did not name this group?
    let mut without: Vec<(usize, &GroupId)> = (0u16..)
        .zip(&vocabulary.groups)
        .map(|(number, group)| {
            let merged: BTreeSet<_> = (keys.iter())
                .map(|key| {
                    let groups = key.groups.iter().copied().filter(|other| *other != number);
                    let groups: Vec<u16> = groups.collect();
                    (&key.service, &key.product, key.assurance, groups)
                })
                .collect();
            (merged.len(), group)
        })
        .collect();
    without.sort();
    let splitters: Vec<String> = (without.iter().take(3))
        .map(|(left, group)| format!("{group} (without it {left} remain)"))
        .collect();
    let first_naming = without.first().and_then(|(_, group)| {
        let mut policies = fleet.policy_list().iter();
        policies.find(|policy| policy.names.groups.contains(*group))
    });
    let message = format!(
        "the policies split this fleet's devices into more than {CLASSES_MAX} grant classes; what \
         splits them most: {}",
        splitters.join(", ")
    );
    let help = "name fewer groups in policies: put groups that are treated alike into one group \
                by `in = [..]` in fleet.toml and name that one";
    match first_naming {
        Some(policy) => policy.origin.diagnostic(message, Some(help.into())),
        None => Diagnostic {
            path: "fleet.toml".into(),
            line: 1,
            column: 1,
            message,
            help: Some(help.into()),
        },
    }
}

impl fmt::Display for Unclassified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(id) => write!(
                f,
                "service {id} is not declared in fleet/: write [{id}] in a file of services/"
            ),
            Self::NoProduct => f.write_str("the device has no product: register it with one"),
            Self::Product(id) => write!(
                f,
                "the device's product {id} is not declared in fleet/: write [{id}] in a file of \
                 products/, or correct the device's product"
            ),
            Self::Group(id) => write!(
                f,
                "the device's group {id} is not declared in fleet/: write [groups.{id}] in \
                 fleet.toml, or take the device out of it"
            ),
        }
    }
}
