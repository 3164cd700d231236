//! A payload as a flat list of values: one pass, no tree, no allocation once the list has grown.

use super::number::Number;

/// Room for the values of one payload, kept from one to the next.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) nodes: Vec<Node>,
    /// Strings that were written with escapes.
    pub(super) texts: Vec<u8>,
    /// Indices of values, to be sorted.
    pub(super) order: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub value: Value,
    /// The index behind it and all in it.
    pub end: u32,
    /// Where in the text it begins.
    pub at: u32,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(Span),
    /// How many; they follow.
    Array(u32),
    /// How many members; key and value of each follow.
    Object(u32),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    start: u32,
    end: u32,
    /// In [`Scratch::texts`], else in the payload.
    is_unescaped: bool,
}

/// What a payload may not hold, whatever its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed {
    pub rule: &'static str,
    pub at: usize,
}

/// Values of one payload.
pub(super) const VALUES_MAX: usize = 65_536;
/// Members of an object that are compared pair by pair.
const PAIRS_MAX: u32 = 16;
/// What is kept from one payload to the next.
const KEPT_NODES: usize = 4096;
const KEPT_TEXT_BYTES: usize = 64 * 1024;

impl Scratch {
    pub(super) fn begin(&mut self) {
        self.nodes.clear();
        self.texts.clear();
        self.order.clear();
        // One large payload does not hold its memory for good.
        if self.nodes.capacity() > KEPT_NODES {
            self.nodes = Vec::with_capacity(KEPT_NODES);
        }
        if self.texts.capacity() > KEPT_TEXT_BYTES {
            self.texts = Vec::new();
        }
        if self.order.capacity() > KEPT_NODES {
            self.order = Vec::new();
        }
    }

    /// Adds a value; of an array or object, before what is in it.
    pub(super) fn push(&mut self, value: Value, at: usize) -> Result<usize, Malformed> {
        let index = self.nodes.len();
        if index >= VALUES_MAX {
            let rule = "it holds more than 65536 values";
            return Err(Malformed { rule, at });
        }
        self.nodes.push(Node {
            value,
            end: index as u32 + 1,
            at: u32::try_from(at).unwrap_or(u32::MAX),
        });
        Ok(index)
    }

    /// All that is in an array or object was added.
    pub(super) fn close(&mut self, index: usize, value: Value) {
        let end = self.nodes.len() as u32;
        if let Some(node) = self.nodes.get_mut(index) {
            node.value = value;
            node.end = end;
        }
    }

    /// Closes an object, if no key is in it twice.
    pub(super) fn close_object(
        &mut self,
        index: usize,
        members: u32,
        payload: &[u8],
    ) -> Result<(), Malformed> {
        self.close(index, Value::Object(members));
        let twice = if members <= PAIRS_MAX {
            self.pair_of_keys(index, payload)
        } else {
            self.sorted_pair_of_keys(index, payload)
        };
        match twice {
            None => Ok(()),
            Some(at) => Err(Malformed {
                rule: "a key is there twice",
                at: at as usize,
            }),
        }
    }

    fn pair_of_keys(&self, object: usize, payload: &[u8]) -> Option<u32> {
        // Most keys differ in this; those that do are not compared.
        let mut seen = 0_u64;
        for (key, _) in members(&self.nodes, object as u32) {
            let text = self.text(key, payload);
            let byte = |at: usize| text.get(at).copied().unwrap_or_default();
            let few = [
                byte(0),
                byte(text.len() / 2),
                byte(text.len().wrapping_sub(1)),
            ];
            let mix = few.iter().fold(text.len() as u8, |mix, byte| {
                mix.wrapping_mul(31).wrapping_add(*byte)
            });
            let bit = 1_u64 << (mix & 63);
            if seen & bit != 0 {
                let earlier =
                    members(&self.nodes, object as u32).take_while(|(other, _)| *other < key);
                if earlier
                    .into_iter()
                    .any(|(other, _)| self.text(other, payload) == text)
                {
                    return self.nodes.get(key as usize).map(|node| node.at);
                }
            }
            seen |= bit;
        }
        None
    }

    fn sorted_pair_of_keys(&mut self, object: usize, payload: &[u8]) -> Option<u32> {
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        order.extend(members(&self.nodes, object as u32).map(|(key, _)| key));
        order.sort_unstable_by(|left, right| {
            (self.text(*left, payload)).cmp(self.text(*right, payload))
        });
        let twice = order.windows(2).find_map(|pair| match pair {
            [left, right] if self.text(*left, payload) == self.text(*right, payload) => {
                Some(*left.max(right))
            }
            _ => None,
        });
        self.order = order;
        twice.and_then(|key| Some(self.nodes.get(key as usize)?.at))
    }

    /// The text of a string; nothing of anything else.
    pub(super) fn text<'p>(&'p self, index: u32, payload: &'p [u8]) -> &'p [u8] {
        match self.nodes.get(index as usize).map(|node| node.value) {
            Some(Value::Text(span)) => span.of(payload, &self.texts),
            _ => &[],
        }
    }
}

impl Span {
    pub fn in_payload(start: usize, end: usize) -> Self {
        Self::new(start, end, false)
    }

    pub fn in_texts(start: usize, end: usize) -> Self {
        Self::new(start, end, true)
    }

    fn new(start: usize, end: usize, is_unescaped: bool) -> Self {
        Self {
            start: u32::try_from(start).unwrap_or(u32::MAX),
            end: u32::try_from(end).unwrap_or(u32::MAX),
            is_unescaped,
        }
    }

    /// UTF-8.
    pub fn of<'p>(self, payload: &'p [u8], texts: &'p [u8]) -> &'p [u8] {
        let from = if self.is_unescaped { texts } else { payload };
        from.get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// Key and value of each member, as indices.
pub(super) fn members(nodes: &[Node], object: u32) -> impl Iterator<Item = (u32, u32)> {
    let count = match nodes.get(object as usize).map(|node| node.value) {
        Some(Value::Object(count)) => count,
        _ => 0,
    };
    let mut next = object + 1;
    (0..count).map(move |_| {
        let key = next;
        next = end_of(nodes, key + 1);
        (key, key + 1)
    })
}

/// Each value of an array, as index.
pub(super) fn items(nodes: &[Node], array: u32) -> impl Iterator<Item = u32> {
    let count = match nodes.get(array as usize).map(|node| node.value) {
        Some(Value::Array(count)) => count,
        _ => 0,
    };
    let mut next = array + 1;
    (0..count).map(move |_| {
        let item = next;
        next = end_of(nodes, item);
        item
    })
}

pub(super) fn end_of(nodes: &[Node], index: u32) -> u32 {
    nodes.get(index as usize).map_or(index + 1, |node| node.end)
}
