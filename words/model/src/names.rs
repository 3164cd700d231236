//! Identifiers. One grammar for all that may stand in a topic, a URI or a file name.

use std::fmt;
use std::sync::Arc;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} is not valid: {rule}")]
pub struct InvalidName {
    kind: &'static str,
    /// The offending text, cut to 64 characters; print it escaped.
    text: String,
    rule: &'static str,
}

impl InvalidName {
    pub(crate) fn new(kind: &'static str, text: &str, rule: &'static str) -> Self {
        Self {
            kind,
            text: text.chars().take(64).collect(),
            rule,
        }
    }
}

const NAME_RULE: &str = "use 1 to 64 of A-Z a-z 0-9 . _ - and begin with a letter or a digit";
const SERIAL_RULE: &str = "use 1 to 64 printable ASCII characters, no space at either end";
const VALUE_RULE: &str =
    "use 1 to 128 printable ASCII characters without space, / + #, and do not begin with $";

/// True for the grammar shared by all names: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
///
/// Narrow on purpose: no `/ + # $` (topics), no `: % ?` (URIs), no control or non-ASCII
/// characters (terminals, look-alikes), no leading dot or dash (files, flags).
fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= 64
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn is_serial(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| (0x20..0x7f).contains(&b))
        && text.trim() == text
}

/// What may be one level of a topic, and an MQTT client identifier.
fn is_value(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with('$')
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b'+' | b'#'))
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $check:ident, $rule:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// # Errors
            /// Says which rule the text breaks.
            pub fn new(text: &str) -> Result<Self, InvalidName> {
                if $check(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(InvalidName {
                        kind: $kind,
                        text: text.chars().take(64).collect(),
                        rule: $rule,
                    })
                }
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", $kind, &self.0)
            }
        }

        impl std::str::FromStr for $type {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }
    };
}

name!(
    /// One customer of a plane. One tenant per plane in 1.x.
    TenantId, "tenant", is_name, NAME_RULE
);
name!(
    /// A device's name in topics, certificates and the log. Unique in its tenant.
    DeviceId, "device", is_name, NAME_RULE
);
name!(
    /// A back-end program that speaks to devices.
    ServiceId, "service", is_name, NAME_RULE
);
name!(
    /// A person who operates a plane, as certificates name them.
    OperatorId, "operator", is_name, NAME_RULE
);
name!(
    /// A person at the control plane: an opaque name of ours, in rows and in the log. What they are
    /// called stands in their row alone.
    PersonId, "person", is_name, NAME_RULE
);
name!(
    /// A secret by which a program speaks to the API, without the secret.
    ApiTokenId, "token", is_name, NAME_RULE
);
name!(
    /// A key by which a person signs in, without the key.
    PasskeyId, "passkey", is_name, NAME_RULE
);
name!(
    /// An act that waits for a second person.
    ProposalId, "proposal", is_name, NAME_RULE
);
name!(
    /// One act that cut many devices off at once.
    GroupContainmentId, "group containment", is_name, NAME_RULE
);
name!(
    /// A kind of device: a model line with its own channels and lifetime.
    ProductId, "product", is_name, NAME_RULE
);
name!(
    /// A set of devices or services that policies name.
    GroupId, "group", is_name, NAME_RULE
);
name!(
    /// Whoever makes devices and vouches for them by a factory CA.
    ManufacturerId, "manufacturer", is_name, NAME_RULE
);
name!(
    /// A certificate that a batch of devices shares to ask for their first one.
    ClaimCertificateId, "claim certificate", is_name, NAME_RULE
);
name!(
    /// Whose a device is: an opaque name that a service gives. Never a person's own.
    OwnerId, "owner", is_value, VALUE_RULE
);
name!(
    /// An issuing CA of ours. It keeps its name when its key is replaced.
    AuthorityId, "issuing CA", is_name, NAME_RULE
);
name!(
    /// A Cedar policy, by its `@id`.
    PolicyId, "policy", is_name, NAME_RULE
);
name!(
    /// What an import says of a device besides its name: `site`, `client_id`.
    AttributeId, "attribute", is_name, NAME_RULE
);
name!(
    /// The value of an attribute. One level of a topic.
    AttributeValue, "attribute value", is_value, VALUE_RULE
);
name!(
    /// The serial number a manufacturer gave a device (X.520 `serialNumber`). Unique at that
    /// manufacturer only.
    SerialNumber, "serial number", is_serial, SERIAL_RULE
);

impl AuthorityId {
    /// The one that is made at the first start and serves whatever has none of its own.
    #[must_use]
    pub fn standard() -> Self {
        Self("default".into())
    }
}

/// Who speaks: the one question `identity` answers and all other rooms start from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Principal {
    Device(DeviceId),
    Service(ServiceId),
}

impl Principal {
    /// The name without its kind. A device and a service may share one: compare the whole value.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Device(id) => id.as_str(),
            Self::Service(id) => id.as_str(),
        }
    }
}

/// `device/<id>` or `service/<id>`: the form in logs, entries and certificates' URIs.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(id) => write!(f, "device/{id}"),
            Self::Service(id) => write!(f, "service/{id}"),
        }
    }
}

impl std::str::FromStr for Principal {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text.split_once('/') {
            Some(("device", id)) => DeviceId::new(id).map(Self::Device),
            Some(("service", id)) => ServiceId::new(id).map(Self::Service),
            _ => Err(InvalidName {
                kind: "principal",
                text: text.chars().take(64).collect(),
                rule: "write device/<id> or service/<id>",
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_could_act_elsewhere_are_refused() {
        for text in [
            "",
            ".",
            "-rf",
            "a/b",
            "a+b",
            "a#",
            "$SYS",
            "a b",
            "a\0",
            "a\u{1b}[31m",
            "=cmd()",
            "ä",
            "a:b",
            "a%2fb",
            &"x".repeat(65),
        ] {
            assert!(DeviceId::new(text).is_err(), "{text:?} was accepted");
        }
        assert!(DeviceId::new("cam-0042.eu_1").is_ok());
    }

    #[test]
    fn a_serial_may_hold_what_factories_print() {
        assert!(SerialNumber::new("SN 00/12:AB+7").is_ok());
        for text in ["", " SN", "SN ", "SN\n1", "SN\u{7f}"] {
            assert!(SerialNumber::new(text).is_err(), "{text:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn a_principal_reads_back_as_written(id in "[A-Za-z0-9][A-Za-z0-9._-]{0,63}", device: bool) {
            let principal = if device {
                Principal::Device(DeviceId::new(&id).unwrap())
            } else {
                Principal::Service(ServiceId::new(&id).unwrap())
            };
            prop_assert_eq!(principal.to_string().parse::<Principal>().unwrap(), principal);
        }
    }
}
