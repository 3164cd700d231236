//! A payload as a flat list of values: one pass, no tree, no allocation once the list has grown.

use super::number::Number;

/// Room for the values of one payload, kept from one to the next.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) values: Values,
    /// Indices of values, to be sorted.
    pub(super) order: Vec<u32>,
}

#[derive(Debug, Default)]
pub(super) struct Values {
    pub nodes: Vec<Node>,
    /// Strings that were written with escapes.
    pub texts: Vec<u8>,
}

/// The keys of an object while it is read: whether one may be there twice.
#[derive(Debug, Default)]
pub(super) struct Keys {
    seen: Marks,
    may_repeat: bool,
}

/// A set of numbers below 256.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Marks([u64; 4]);

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
    /// In [`Values::texts`], else in the payload.
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
/// What is kept from one payload to the next.
const KEPT_NODES: usize = 4096;
const KEPT_TEXT_BYTES: usize = 64 * 1024;

impl Scratch {
    pub(super) fn begin(&mut self) {
        let Values { nodes, texts } = &mut self.values;
        nodes.clear();
        texts.clear();
        self.order.clear();
        let kept = nodes.capacity().max(self.order.capacity());
        if kept > KEPT_NODES || texts.capacity() > KEPT_TEXT_BYTES {
            self.let_go();
        }
    }

    /// One large payload does not hold its memory for good.
    #[cold]
    fn let_go(&mut self) {
        *self = Self {
            values: Values {
                nodes: Vec::with_capacity(KEPT_NODES),
                texts: Vec::new(),
            },
            order: Vec::new(),
        };
    }

    /// Adds a value; of an array or object, before what is in it.
    pub(super) fn push(&mut self, value: Value, at: usize) -> Result<usize, Malformed> {
        let nodes = &mut self.values.nodes;
        let index = nodes.len();
        if index >= VALUES_MAX {
            let rule = "it holds more than 65536 values";
            return Err(Malformed { rule, at });
        }
        nodes.push(Node {
            value,
            end: index as u32 + 1,
            at: u32::try_from(at).unwrap_or(u32::MAX),
        });
        Ok(index)
    }

    /// All that is in an array or object was added.
    pub(super) fn close(&mut self, index: usize, value: Value) {
        let nodes = &mut self.values.nodes;
        let end = nodes.len() as u32;
        if let Some(node) = nodes.get_mut(index) {
            node.value = value;
            node.end = end;
        }
    }

    /// Closes an object, if no key is in it twice.
    pub(super) fn close_object(
        &mut self,
        index: usize,
        members: u32,
        keys: &Keys,
        payload: &[u8],
    ) -> Result<(), Malformed> {
        self.close(index, Value::Object(members));
        if !keys.may_repeat {
            return Ok(());
        }
        match self.pair_of_keys(index, payload) {
            None => Ok(()),
            Some(at) => Err(Malformed {
                rule: "a key is there twice",
                at: at as usize,
            }),
        }
    }

    #[inline(never)]
    fn pair_of_keys(&mut self, object: usize, payload: &[u8]) -> Option<u32> {
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        order.extend(members(&self.values.nodes, object as u32).map(|(key, _)| key));
        order.sort_unstable_by(|left, right| {
            let text = |key| self.values.text(key, payload);
            text(*left).cmp(text(*right))
        });
        let text = |key| self.values.text(key, payload);
        let twice = order.windows(2).find_map(|pair| match pair {
            [left, right] if text(*left) == text(*right) => Some(*left.max(right)),
            _ => None,
        });
        self.order = order;
        twice.and_then(|key| Some(self.values.nodes.get(key as usize)?.at))
    }
}

impl Values {
    /// The text of a string; nothing of anything else.
    pub fn text<'p>(&'p self, index: u32, payload: &'p [u8]) -> &'p [u8] {
        match self.nodes.get(index as usize).map(|node| node.value) {
            Some(Value::Text(span)) => span.of(payload, &self.texts),
            _ => &[],
        }
    }
}

impl Keys {
    /// Most keys differ in what is looked at here.
    pub fn see(&mut self, key: &[u8]) {
        let byte = |at: usize| key.get(at).copied().unwrap_or_default();
        let last = byte(key.len().wrapping_sub(1));
        let mix = (byte(0).wrapping_mul(31))
            .wrapping_add(byte(key.len() / 2).wrapping_mul(7))
            .wrapping_add(last.wrapping_mul(13))
            .wrapping_add(key.len() as u8);
        let mark = usize::from(mix);
        self.may_repeat |= self.seen.has(mark);
        self.seen.add(mark);
    }
}

impl Marks {
    pub fn add(&mut self, number: usize) {
        if let Some(word) = self.0.get_mut(number / 64) {
            *word |= 1 << (number % 64);
        }
    }

    pub fn has(&self, number: usize) -> bool {
        (self.0.get(number / 64)).is_some_and(|word| word & 1 << (number % 64) != 0)
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
