//! JSON as a MUD file has it: a name that stands twice is refused, since two readers would
//! disagree about which counts.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(u64),
    /// Negative, fractional or too large: nothing in a MUD file is.
    OtherNumber,
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// The member of this name; a module's prefix (`ietf-mud:`) may stand before it.
    pub(crate) fn member(&self, name: &str) -> Option<&Self> {
        let members = match self {
            Self::Object(members) => members,
            _ => return None,
        };
        let found = members.iter().find(|(key, _)| bare(key) == name);
        found.map(|(_, value)| value)
    }

    pub(crate) fn members(&self) -> Option<&[(String, Self)]> {
        match self {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }

    pub(crate) fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn number(&self, max: u64) -> Option<u64> {
        match self {
            Self::Number(number) if *number <= max => Some(*number),
            _ => None,
        }
    }

    /// YANG's `empty`: `[null]`.
    pub(crate) fn is_empty_leaf(&self) -> bool {
        matches!(self.list(), Some([Self::Null]))
    }
}

/// Without the module: `direction-initiated` of `ietf-mud:direction-initiated`.
pub(crate) fn bare(key: &str) -> &str {
    key.rsplit_once(':').map_or(key, |(_, name)| name)
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reading)
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
        Ok(Json::OtherNumber)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::OtherNumber)
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut members: Vec<(String, Json)> = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            // With and without the module it is the same node.
            if members.iter().any(|(known, _)| bare(known) == bare(&key)) {
                return Err(A::Error::custom(format_args!("{key:?} stands twice")));
            }
            members.push((key, entries.next_value()?));
        }
        Ok(Json::Object(members))
    }
}
