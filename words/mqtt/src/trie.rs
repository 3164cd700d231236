//! Subscriptions by filter, walked level by level.

use crate::topic::is_dollar;
use crate::{Filter, Level};
use std::collections::BTreeMap;

/// Filters with values. A value stands at most once per filter.
///
/// Ordered maps, not hashed ones: no choice of topics makes a lookup slow. The order of matches is a
/// function of the contents. Depth is bounded by [`Filter::LEVELS_MAX`].
#[derive(Debug, Clone)]
pub struct FilterTrie<V> {
    /// The first is the root and always there. Others may be in `free`.
    nodes: Vec<Node<V>>,
    free: Vec<NodeIndex>,
    len: usize,
}

type NodeIndex = u32;
const ROOT: NodeIndex = 0;

#[derive(Debug, Clone)]
struct Node<V> {
    literal: Children,
    any: Option<NodeIndex>,
    /// Values of the filter that ends here, ascending.
    here: Vec<V>,
    /// Values of the filter that goes on with `#`, ascending.
    rest: Vec<V>,
}

impl<V> Node<V> {
    const fn new() -> Self {
        Self {
            literal: Children::Few(Vec::new()),
            any: None,
            here: Vec::new(),
            rest: Vec::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.literal.is_empty()
            && self.any.is_none()
            && self.here.is_empty()
            && self.rest.is_empty()
    }
}

/// Where literal levels lead to. A fleet's nodes nearly all have one, for which a map's smallest node
/// would be ten times too large.
#[derive(Debug, Clone)]
enum Children {
    /// In no order, [`FEW`] at most.
    Few(Vec<(Box<str>, NodeIndex)>),
    Many(BTreeMap<Box<str>, NodeIndex>),
}

const FEW: usize = 8;

impl Children {
    fn is_empty(&self) -> bool {
        match self {
            Self::Few(few) => few.is_empty(),
            Self::Many(many) => many.is_empty(),
        }
    }

    fn get(&self, level: &str) -> Option<NodeIndex> {
        match self {
            Self::Few(few) => {
                (few.iter()).find_map(|(name, child)| (**name == *level).then_some(*child))
            }
            Self::Many(many) => many.get(level).copied(),
        }
    }

    /// One that is not there.
    fn insert(&mut self, level: &str, child: NodeIndex) {
        match self {
            Self::Few(few) if few.len() >= FEW => {
                let mut many: BTreeMap<_, _> = std::mem::take(few).into_iter().collect();
                many.insert(level.into(), child);
                *self = Self::Many(many);
            }
            Self::Few(few) => {
                if few.is_empty() {
                    // Most stay alone; a list makes room for four by itself.
                    few.reserve_exact(1);
                }
                few.push((level.into(), child));
            }
            Self::Many(many) => {
                many.insert(level.into(), child);
            }
        }
    }

    fn remove(&mut self, level: &str) {
        match self {
            Self::Few(few) => few.retain(|(name, _)| **name != *level),
            Self::Many(many) => {
                many.remove(level);
            }
        }
        if self.is_empty() {
            *self = Self::Few(Vec::new());
        }
    }
}

impl<V: Ord> FilterTrie<V> {
    #[must_use]
    pub fn new() -> Self {
        Self {
            nodes: vec![Node::new()],
            free: Vec::new(),
            len: 0,
        }
    }

    /// How many pairs of filter and value.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns false, and changes nothing, if the filter has this value already.
    pub fn insert(&mut self, filter: &Filter, value: V) -> bool {
        let mut at = ROOT;
        let mut rest = false;
        for level in filter.levels() {
            at = match level {
                Level::Rest => {
                    rest = true;
                    break;
                }
                Level::Any => self.any_child(at),
                Level::Literal(text) => self.literal_child(at, text),
            };
        }
        let Some(values) = self.values_mut(at, rest) else {
            return false;
        };
        let Err(place) = values.binary_search(&value) else {
            return false;
        };
        if values.is_empty() {
            values.reserve_exact(1);
        }
        values.insert(place, value);
        self.len += 1;
        true
    }

    /// Returns false if the filter did not have this value.
    pub fn remove(&mut self, filter: &Filter, value: &V) -> bool {
        // Parents, to take away what becomes empty. Filters are at most 128 levels deep.
        let mut path: Vec<(NodeIndex, Level<'_>)> = Vec::new();
        let mut at = ROOT;
        let mut rest = false;
        for level in filter.levels() {
            let child = match level {
                Level::Rest => {
                    rest = true;
                    break;
                }
                Level::Any => self.node(at).and_then(|node| node.any),
                Level::Literal(text) => self.node(at).and_then(|node| node.literal.get(text)),
            };
            let Some(child) = child else {
                return false;
            };
            path.push((at, level));
            at = child;
        }
        let Some(values) = self.values_mut(at, rest) else {
            return false;
        };
        let Ok(place) = values.binary_search(value) else {
            return false;
        };
        values.remove(place);
        if values.is_empty() {
            *values = Vec::new();
        }
        self.len -= 1;
        self.prune(at, path);
        true
    }

    /// Calls `f` for each value of each filter that matches `topic`, a valid topic name: once per
    /// matching filter, so a value under two matching filters is seen twice. Allocates nothing.
    /// The order depends on the contents alone.
    pub fn for_each_match<'t>(&'t self, topic: &str, mut f: impl FnMut(&'t V)) {
        let Some(root) = self.nodes.first() else {
            return;
        };
        let (level, remaining) = split_level(topic);
        if !is_dollar(topic) {
            root.rest.iter().for_each(&mut f);
            self.walk(root.any, remaining, &mut f);
        }
        self.walk(root.literal.get(level), remaining, &mut f);
    }

    /// `remaining` is what follows the level that led to `at`; `None`: nothing.
    fn walk<'t>(
        &'t self,
        at: Option<NodeIndex>,
        remaining: Option<&str>,
        f: &mut impl FnMut(&'t V),
    ) {
        let (mut at, mut remaining) = (at, remaining);
        while let Some(node) = at.and_then(|at| self.node(at)) {
            node.rest.iter().for_each(&mut *f);
            let Some(text) = remaining else {
                node.here.iter().for_each(&mut *f);
                return;
            };
            let (level, after) = split_level(text);
            let literal = node.literal.get(level);
            // One way on is a step of this loop; only a fork takes stack.
            at = match (node.any, literal) {
                (Some(any), Some(literal)) => {
                    self.walk(Some(any), after, f);
                    Some(literal)
                }
                (any, literal) => any.or(literal),
            };
            remaining = after;
        }
    }

    fn node(&self, at: NodeIndex) -> Option<&Node<V>> {
        self.nodes.get(at as usize)
    }

    fn node_mut(&mut self, at: NodeIndex) -> Option<&mut Node<V>> {
        self.nodes.get_mut(at as usize)
    }

    fn values_mut(&mut self, at: NodeIndex, rest: bool) -> Option<&mut Vec<V>> {
        self.node_mut(at)
            .map(|node| if rest { &mut node.rest } else { &mut node.here })
    }

    fn any_child(&mut self, at: NodeIndex) -> NodeIndex {
        if let Some(child) = self.node(at).and_then(|node| node.any) {
            return child;
        }
        let child = self.fresh();
        if let Some(node) = self.node_mut(at) {
            node.any = Some(child);
        }
        child
    }

    fn literal_child(&mut self, at: NodeIndex, text: &str) -> NodeIndex {
        if let Some(child) = self.node(at).and_then(|node| node.literal.get(text)) {
            return child;
        }
        let child = self.fresh();
        if let Some(node) = self.node_mut(at) {
            node.literal.insert(text, child);
        }
        child
    }

    fn fresh(&mut self) -> NodeIndex {
        self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::new());
            // 4 billion nodes are 300 GB: other limits are met first.
            NodeIndex::try_from(self.nodes.len() - 1).unwrap_or(NodeIndex::MAX)
        })
    }

    fn prune(&mut self, last: NodeIndex, mut path: Vec<(NodeIndex, Level<'_>)>) {
        let mut at = last;
        while let Some((parent, level)) = path.pop() {
            if !self.node(at).is_some_and(Node::is_empty) {
                return;
            }
            if let Some(parent) = self.node_mut(parent) {
                match level {
                    Level::Literal(text) => {
                        parent.literal.remove(text);
                    }
                    Level::Any => parent.any = None,
                    Level::Rest => {}
                }
            }
            self.free.push(at);
            at = parent;
        }
    }
}

impl<V: Ord> Default for FilterTrie<V> {
    fn default() -> Self {
        Self::new()
    }
}

/// The first level and what follows its slash.
fn split_level(topic: &str) -> (&str, Option<&str>) {
    match topic.split_once('/') {
        Some((level, after)) => (level, Some(after)),
        None => (topic, None),
    }
}
