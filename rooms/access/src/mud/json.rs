//! JSON as a MUD file has it: a name that stands twice is refused, since two readers would
//! disagree about which counts.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::ops::Deref;

/// A value, and at which byte of the file it begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Json {
    pub at: usize,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Null,
    Bool,
    Number(u64),
    /// Negative, fractional or too large: nothing in a MUD file is.
    OtherNumber,
    Text(String),
    List(Vec<Json>),
    Object(Vec<(Key, Json)>),
}

/// The name of a member, and at which byte of the file it begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    pub at: usize,
    name: String,
}

impl Deref for Key {
    type Target = str;

    fn deref(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Reads a whole file.
///
/// # Errors
/// It is no JSON, or a name stands twice.
pub(crate) fn read(text: &str) -> serde_json::Result<Json> {
    let mut whole: Json = serde_json::from_str(text)?;
    whole.place(&mut beginnings(text).into_iter());
    Ok(whole)
}

impl Json {
    /// The member of this name; a module's prefix (`ietf-mud:`) may stand before it.
    pub(crate) fn member(&self, name: &str) -> Option<&Self> {
        let found = self.members()?.iter().find(|(key, _)| bare(key) == name);
        found.map(|(_, value)| value)
    }

    pub(crate) fn members(&self) -> Option<&[(Key, Self)]> {
        match &self.kind {
            Kind::Object(members) => Some(members),
            _ => None,
        }
    }

    pub(crate) fn list(&self) -> Option<&[Self]> {
        match &self.kind {
            Kind::List(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn number(&self, max: u64) -> Option<u64> {
        match self.kind {
            Kind::Number(number) if number <= max => Some(number),
            _ => None,
        }
    }

    /// YANG's `empty`: `[null]`.
    pub(crate) fn is_empty_leaf(&self) -> bool {
        matches!(
            self.list(),
            Some([Self {
                kind: Kind::Null,
                ..
            }])
        )
    }

    /// Gives every value and every name its beginning, in their order in the file.
    fn place(&mut self, beginnings: &mut impl Iterator<Item = usize>) {
        self.at = beginnings.next().unwrap_or_default();
        match &mut self.kind {
            Kind::List(items) => items.iter_mut().for_each(|item| item.place(beginnings)),
            Kind::Object(members) => {
                for (key, value) in members {
                    key.at = beginnings.next().unwrap_or_default();
                    value.place(beginnings);
                }
            }
            _ => {}
        }
    }
}

/// Without the module: `direction-initiated` of `ietf-mud:direction-initiated`.
pub(crate) fn bare(key: &str) -> &str {
    key.rsplit_once(':').map_or(key, |(_, name)| name)
}

/// Where values and names begin in a text that is JSON.
fn beginnings(text: &str) -> Vec<usize> {
    let mut found = Vec::new();
    let mut bytes = text.bytes().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => {
                found.push(at);
                while let Some((_, byte)) = bytes.next()
                    && byte != b'"'
                {
                    if byte == b'\\' {
                        bytes.next();
                    }
                }
            }
            b'{' | b'[' => found.push(at),
            b'-' | b'0'..=b'9' | b'a'..=b'z' => {
                found.push(at);
                let is_inside = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
                while bytes.next_if(|(_, byte)| is_inside(*byte)).is_some() {}
            }
            _ => {}
        }
    }
    found
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let kind = from.deserialize_any(Reading)?;
        Ok(Self { at: 0, kind })
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Kind, E> {
        Ok(Kind::Bool)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Number(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Kind, E> {
        Ok(Kind::OtherNumber)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Kind, E> {
        Ok(Kind::OtherNumber)
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Kind, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Kind::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Kind, A::Error> {
        let mut members: Vec<(Key, Json)> = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            // With and without the module it is the same node.
            if members.iter().any(|(known, _)| bare(known) == bare(&key)) {
                return Err(A::Error::custom(format_args!("{key:?} stands twice")));
            }
            members.push((Key { at: 0, name: key }, entries.next_value()?));
        }
        Ok(Kind::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every value and name, by the text at its place.
    fn check(json: &Json, text: &str) {
        let here = &text[json.at..];
        let begins = |with: &[char]| here.starts_with(with);
        match &json.kind {
            Kind::Null => assert!(here.starts_with("null")),
            Kind::Bool => assert!(here.starts_with("true") || here.starts_with("false")),
            Kind::Number(_) | Kind::OtherNumber => {
                assert!(begins(&[
                    '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'
                ]));
            }
            Kind::Text(said) => assert_eq!(string_at(text, json.at), *said),
            Kind::List(items) => {
                assert!(begins(&['[']));
                items.iter().for_each(|item| check(item, text));
            }
            Kind::Object(members) => {
                assert!(begins(&['{']));
                for (key, value) in members {
                    assert_eq!(string_at(text, key.at), key.name);
                    check(value, text);
                }
            }
        }
    }

    fn string_at(text: &str, at: usize) -> String {
        let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter();
        values.next().unwrap().unwrap()
    }

    fn values() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            (-1e9..1e9).prop_map(serde_json::Value::from),
            "[a-zä\"\\\\\n{}:,0-9 -]{0,6}".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
                prop::collection::btree_map("[a-zä\"\\\\{ -]{0,6}", inner, 0..5)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_value_and_every_name_is_where_it_is_said_to_be(value in values(), pretty in any::<bool>()) {
            let text = match pretty {
                true => serde_json::to_string_pretty(&value).unwrap(),
                false => value.to_string(),
            };
            check(&read(&text).unwrap(), &text);
        }
    }
}
