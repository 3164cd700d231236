//! How an incident lies in a store: one JSON value with a format number, read back strictly.

use crate::incident::{Incident, IncidentState};
use crate::playbook::Mode;
use model::{Attribution, Containment, DeviationKind, Severity, Source};
use serde::{Deserialize, Serialize};

const FORMAT: u32 = 1;
/// An incident at all its caps is a quarter of this.
const BYTES_MAX: usize = 1024 * 1024;

#[derive(Serialize)]
struct Written<'a> {
    format: u32,
    incident: &'a Incident,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    format: u32,
    incident: Incident,
}

/// The stored bytes are no incident of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a stored incident cannot be read ({0}); operator: restore a backup, or a newer program")]
pub struct UnreadableIncident(pub(crate) String);

impl Incident {
    /// For the store; [`Incident::from_bytes`] reads it back. At most 1 MiB.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let written = Written {
            format: FORMAT,
            incident: self,
        };
        // Nothing in it can fail to be written: no map with other keys than text, no foreign type.
        serde_json::to_vec(&written).unwrap_or_default()
    }

    /// # Errors
    /// Another format, unknown fields, or values that no incident has.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, UnreadableIncident> {
        if bytes.len() > BYTES_MAX {
            return Err(UnreadableIncident("too large".into()));
        }
        let read: Read =
            serde_json::from_slice(bytes).map_err(|e| UnreadableIncident(e.to_string()))?;
        if read.format != FORMAT {
            return Err(UnreadableIncident(format!("format {}", read.format)));
        }
        Ok(read.incident)
    }
}

/// A closed list with one name for each.
pub(crate) trait Named: Sized {
    fn to_name(&self) -> &'static str;
    fn of_name(name: &str) -> Option<Self>;
}

macro_rules! named {
    ($($type:ty),*) => {$(
        impl Named for $type {
            fn to_name(&self) -> &'static str {
                self.name()
            }
            fn of_name(name: &str) -> Option<Self> {
                Self::from_name(name)
            }
        }
    )*};
}

named!(
    Attribution,
    Containment,
    DeviationKind,
    IncidentState,
    Mode,
    Severity,
    Source
);

pub(crate) mod name {
    use super::Named;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use std::borrow::Cow;

    pub fn serialize<T: Named, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(value.to_name())
    }

    pub fn deserialize<'de, T: Named, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        let name = Cow::<str>::deserialize(from)?;
        T::of_name(&name).ok_or_else(|| D::Error::custom("no name of the list"))
    }
}

pub(crate) mod name_option {
    use super::Named;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<T: Named, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => to.serialize_some(value.to_name()),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, T: Named, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<T>, D::Error> {
        Option::<String>::deserialize(from)?
            .map(|name| T::of_name(&name).ok_or_else(|| D::Error::custom("no name of the list")))
            .transpose()
    }
}

pub(crate) mod text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use std::borrow::Cow;
    use std::fmt::Display;
    use std::str::FromStr;

    pub fn serialize<T: Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr,
        T::Err: Display,
        D: Deserializer<'de>,
    {
        let text = Cow::<str>::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }
}

pub(crate) mod text_option {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use std::fmt::Display;
    use std::str::FromStr;

    pub fn serialize<T: Display, S: Serializer>(
        value: &Option<T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => to.collect_str(value),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr,
        T::Err: Display,
        D: Deserializer<'de>,
    {
        Option::<String>::deserialize(from)?
            .map(|text| text.parse().map_err(D::Error::custom))
            .transpose()
    }
}

pub(crate) mod millis {
    use model::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(at.as_millis())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        u64::deserialize(from).map(Timestamp::from_millis)
    }
}

pub(crate) mod millis_option {
    use model::Timestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(at: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
        at.map(Timestamp::as_millis).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Timestamp::from_millis))
    }
}

pub(crate) mod incident_id {
    use model::IncidentId;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(id: &IncidentId, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(id.0)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<IncidentId, D::Error> {
        u64::deserialize(from).map(IncidentId)
    }
}
