//! Payload contracts: what a message of a channel must be, beyond its size.
//!
//! A payload is read once into a flat list of values, JSON and CBOR alike, and the list is held
//! against the rules of a schema. Nothing goes back, nothing is allocated once the list has grown,
//! and the time is bounded by the payload's length and by a number that is known when the fleet is
//! read. The schema is JSON Schema without what has no such bound (docs/access.md lists it).
//!
//! What a payload costs where messages come one by one is how many lines of memory have to be fetched
//! for it (docs/decisions/0037). So rules lie close together, and what most payloads do not need
//! stands in functions that are not inlined: what is not run is not fetched.

mod cbor;
mod check;
mod compile;
mod json;
mod number;
mod pattern;
mod schema;
mod values;

use crate::diagnostic::printable;
use check::{Fault, Rule};
use number::Number;
use std::fmt;
use std::sync::Arc;
use values::{Malformed, Value, Values};

pub(crate) use schema::Schema;
pub use values::Scratch as PayloadScratch;

/// What payloads of a channel must be. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Contract {
    pub encoding: Encoding,
    /// Arrays and objects in each other.
    pub depth_max: u8,
    /// Relative to `fleet/`.
    pub schema_path: Option<Arc<str>>,
    pub(crate) schema: Option<Arc<Schema>>,
}

/// How a payload says what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    Json,
    Cbor,
    Utf8,
}

/// Why a payload is not what its channel carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The offending field as a JSON pointer, cut and made printable; empty: the whole.
    pub field: String,
    /// The keyword of JSON Schema that is not held, or `encoding`.
    pub rule: &'static str,
    /// What it must be.
    pub text: String,
}

pub(crate) const DEPTH: u8 = 16;
pub(crate) const DEPTH_MAX: u8 = 64;
/// Of a field's path, in characters: a sender chooses its names.
const FIELD_MAX: usize = 128;

impl Contract {
    /// Whether a payload keeps it. `scratch` is kept by the caller for the next one.
    ///
    /// # Errors
    /// The first rule that is broken, with the field.
    pub fn check(&self, payload: &[u8], scratch: &mut PayloadScratch) -> Result<(), Violation> {
        scratch.begin();
        let read = match self.encoding {
            Encoding::Json => json::read(payload, self.depth_max, scratch),
            Encoding::Cbor => cbor::read(payload, self.depth_max, scratch),
            Encoding::Utf8 => std::str::from_utf8(payload).map(drop).map_err(|error| {
                let rule = "it is not UTF-8";
                let at = error.valid_up_to();
                Malformed { rule, at }
            }),
        };
        if let Err(malformed) = read {
            return Err(self.malformed(&malformed));
        }
        let Some(schema) = &self.schema else {
            return Ok(());
        };
        check::check(schema, payload, scratch)
            .map_err(|fault| violation(&fault, payload, &scratch.values))
    }

    #[cold]
    fn malformed(&self, Malformed { rule, at }: &Malformed) -> Violation {
        Violation {
            field: String::new(),
            rule: "encoding",
            text: format!("is no {}: {rule}, at byte {at}", self.encoding),
        }
    }

    /// How many rules of its schema may look at one value: what a payload costs, beside its length.
    #[must_use]
    pub fn overlap(&self) -> usize {
        self.schema.as_ref().map_or(0, |schema| schema.overlap)
    }
}

/// Two contracts are the same if their schemas' texts are.
impl PartialEq for Contract {
    fn eq(&self, other: &Self) -> bool {
        let digest = |contract: &Self| contract.schema.as_ref().map(|schema| schema.digest);
        self.encoding == other.encoding
            && self.depth_max == other.depth_max
            && self.schema_path == other.schema_path
            && digest(self) == digest(other)
    }
}

impl Eq for Contract {}

#[cold]
fn violation(fault: &Fault<'_>, payload: &[u8], values: &Values) -> Violation {
    let mut field = check::pointer(fault.at, payload, values);
    if let Rule::Required(name) = fault.rule {
        field.push('/');
        field.push_str(&String::from_utf8_lossy(name));
    }
    Violation {
        field: shown(&field),
        rule: fault.rule.name(),
        text: printable(&fault.rule.to_string()),
    }
}

fn shown(field: &str) -> String {
    let mut shown: String = field.chars().take(FIELD_MAX).collect();
    if shown.len() < field.len() {
        shown.push('…');
    }
    printable(&shown)
}

/// `/temperature must be at most 60`, or `the payload is no JSON: …`.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => write!(f, "the payload {}", self.text),
            field => write!(f, "{field} {}", self.text),
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "JSON",
            Self::Cbor => "CBOR",
            Self::Utf8 => "UTF-8 text",
        })
    }
}

/// A set of JSON Schema's types.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Types(u8);

const TYPES: [(&str, u8); 7] = [
    ("null", 1),
    ("boolean", 2),
    ("integer", 4),
    ("number", 8),
    ("string", 16),
    ("array", 32),
    ("object", 64),
];

impl Types {
    const ALL: Self = Self(127);

    fn named(name: &str) -> Option<Self> {
        let (_, bit) = TYPES.iter().find(|(known, _)| *known == name)?;
        Some(Self(*bit))
    }

    fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Arrays or objects are among them.
    fn has_parts(self) -> bool {
        self.0 & 96 != 0
    }

    fn has(self, value: Value) -> bool {
        let bits = match value {
            Value::Null => 1,
            Value::Bool(_) => 2,
            Value::Number(number) if Number::is_integer(number) => 12,
            Value::Number(_) => 8,
            Value::Text(_) => 16,
            Value::Array(_) => 32,
            Value::Object(_) => 64,
        };
        self.0 & bits != 0
    }
}

impl fmt::Display for Types {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = TYPES.iter().filter(|(_, bit)| self.0 & bit != 0);
        let names: Vec<&str> = named.map(|(name, _)| *name).collect();
        f.write_str(&names.join(" or "))
    }
}
