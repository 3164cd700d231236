//! Topic → channel and owner: one tree over levels, walked for every message.

use crate::fleet::Channel;
use crate::template::{Level, is_name};

/// The templates of all channels as one tree.
///
/// Templates are pairwise disjoint, so a topic has one channel at most, and each node is visited
/// at most once per topic: the work is bounded by the size of the tree, and is a handful of
/// comparisons in a fleet whose templates differ in their first levels. Nothing is allocated.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    /// Sorted by text.
    literals: Vec<(Box<str>, Node)>,
    device: Option<Box<Node>>,
    any: Option<Box<Node>>,
    /// The channel of topics that go on as they like, or end here.
    rest: Option<u16>,
    /// The channel of the topic that ends here.
    end: Option<u16>,
}

/// A topic's place in the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resolved<'t> {
    pub channel: u16,
    pub owner: Option<&'t str>,
}

impl Topics {
    /// `channels` are at most 65,535 (the cap of `fleet` is far lower).
    pub(crate) fn new(channels: &[Channel]) -> Self {
        let mut topics = Self::default();
        for (index, channel) in (0u16..).zip(channels) {
            topics.root.insert(channel.template.levels(), index);
        }
        topics
    }

    pub(crate) fn resolve<'t>(&self, topic: &'t str) -> Option<Resolved<'t>> {
        self.root.resolve(Some(topic), None)
    }
}

impl Node {
    fn insert(&mut self, levels: &[Level], channel: u16) {
        let Some((level, levels)) = levels.split_first() else {
            self.end = Some(channel);
            return;
        };
        match level {
            Level::Literal(text) => {
                let at = match self.literals.binary_search_by(|(other, _)| other.cmp(text)) {
                    Ok(at) => at,
                    Err(at) => {
                        self.literals.insert(at, (text.clone(), Self::default()));
                        at
                    }
                };
                if let Some((_, node)) = self.literals.get_mut(at) {
                    node.insert(levels, channel);
                }
            }
            Level::Device => self.device.get_or_insert_default().insert(levels, channel),
            Level::Any => self.any.get_or_insert_default().insert(levels, channel),
            Level::Rest => self.rest = Some(channel),
        }
    }

    /// `rest` is what of the topic is below this node; `None` at its end. The depth of the
    /// recursion is that of the tree: 16 levels.
    fn resolve<'t>(&self, rest: Option<&'t str>, owner: Option<&'t str>) -> Option<Resolved<'t>> {
        let found = |channel| Resolved { channel, owner };
        let Some(rest) = rest else {
            return self.end.or(self.rest).map(found);
        };
        let (level, below) = match rest.split_once('/') {
            Some((level, below)) => (level, Some(below)),
            None => (rest, None),
        };
        let literal = (self.literals)
            .binary_search_by(|(text, _)| text.as_ref().cmp(level))
            .ok()
            .and_then(|at| self.literals.get(at))
            .and_then(|(_, node)| node.resolve(below, owner));
        // What is no device's name is owned by nobody, and admitted nowhere: a topic cannot
        // smuggle an owner such as "+" or "" past a comparison of names.
        literal
            .or_else(|| {
                let node = self.device.as_ref().filter(|_| is_name(level))?;
                node.resolve(below, Some(level))
            })
            .or_else(|| self.any.as_ref()?.resolve(below, owner))
            .or_else(|| self.rest.map(found))
    }
}
