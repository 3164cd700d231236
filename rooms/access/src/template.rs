//! A channel's topic template, and what can be proven about two of them.

use model::{AttributeId, AttributeValue};
use mqtt::Filter;
use std::fmt;

/// Levels of a template.
pub(crate) const LEVELS_MAX: usize = 16;
const BYTES_MAX: usize = 512;

/// The shape of a channel's topics: `v1/camera/{device}/telemetry/{rest...}`.
///
/// The first level is a literal that does not begin with `$`, `{device}` or an attribute; so no
/// template admits a topic that begins with `$` (MQTT 5 section 4.7.2 leaves those to the server).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Template {
    levels: Vec<Level>,
}

/// One level of a template.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Level {
    Literal(Box<str>),
    /// `{device}`: the owner's name, and nothing that is not a device's name.
    Device,
    /// `{attribute.site}`: the owner's attribute of that name, and nothing that cannot be one.
    Attribute(AttributeId),
    /// `{any}`: one level of any content, the empty one too (`+`).
    Any,
    /// `{rest...}`: the remaining levels, none or more (`#`). Last level only.
    Rest,
}

/// What of a device stands in the slots of a template.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slots<'a> {
    pub device: &'a str,
    pub attributes: &'a [(AttributeId, AttributeValue)],
}

impl<'a> Slots<'a> {
    pub(crate) fn attribute(&self, wanted: &AttributeId) -> Option<&'a str> {
        (self.attributes.iter())
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.as_str())
    }
}

/// Why a text is not a template: what is wrong, what to write, and at which byte.
pub(crate) struct TemplateFault {
    pub offset: usize,
    pub message: String,
    pub help: &'static str,
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateFault> {
        let fault = |offset, message: String, help| TemplateFault {
            offset,
            message,
            help,
        };
        if text.len() > BYTES_MAX {
            return Err(fault(
                0,
                format!("a template has at most {BYTES_MAX} bytes"),
                "use shorter levels",
            ));
        }
        let mut levels: Vec<Level> = Vec::new();
        let mut offset = 0;
        for text in text.split('/') {
            if matches!(levels.last(), Some(Level::Rest)) {
                return Err(fault(
                    offset,
                    "`{rest...}` is not the last level".into(),
                    "use {any} for one free level inside a template",
                ));
            }
            if levels.len() == LEVELS_MAX {
                return Err(fault(
                    offset,
                    format!("a template has at most {LEVELS_MAX} levels"),
                    "end with {rest...} to admit any depth",
                ));
            }
            let level =
                Level::parse(text).map_err(|(message, help)| fault(offset, message, help))?;
            if levels.is_empty() && matches!(level, Level::Any | Level::Rest) {
                return Err(fault(
                    offset,
                    format!(
                        "the first level cannot be {level}: it would admit topics that begin with `$`"
                    ),
                    "begin with a literal level, such as v1",
                ));
            }
            if levels.is_empty() && matches!(&level, Level::Literal(text) if text.starts_with('$'))
            {
                return Err(fault(
                    offset,
                    "topics that begin with `$` belong to the gateway".into(),
                    "begin with a literal level without $, such as v1",
                ));
            }
            if level == Level::Device && levels.contains(&Level::Device) {
                return Err(fault(
                    offset,
                    "a second {device}: a topic has one owner".into(),
                    "use {any} for the other level",
                ));
            }
            levels.push(level);
            offset += text.len() + 1;
        }
        Ok(Self { levels })
    }

    pub(crate) fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// True if each of its topics has an owner: the device that its `{device}` level names, or whose
    /// attributes stand in it.
    #[must_use]
    pub fn has_owner(&self) -> bool {
        self.levels.contains(&Level::Device) || self.has_attributes()
    }

    pub(crate) fn has_attributes(&self) -> bool {
        self.levels
            .iter()
            .any(|level| matches!(level, Level::Attribute(_)))
    }

    /// What tells its owners apart where no `{device}` does: two devices with the same would share
    /// topics. `None`: `{device}` does, nobody owns it, or the device lacks an attribute.
    pub(crate) fn shared_slots<'a>(&self, slots: Slots<'a>) -> Option<Vec<&'a str>> {
        if self.levels.contains(&Level::Device) || !self.has_attributes() {
            return None;
        }
        let wanted = self.levels.iter().filter_map(|level| match level {
            Level::Attribute(name) => Some(name),
            _ => None,
        });
        wanted.map(|name| slots.attribute(name)).collect()
    }

    /// Whether a topic of this template is that device's own.
    pub(crate) fn is_own(&self, topic: &str, slots: Slots<'_>) -> bool {
        let mut levels = self.levels.iter().zip(topic.split('/'));
        levels.all(|(level, text)| match level {
            Level::Device => text == slots.device,
            Level::Attribute(name) => slots.attribute(name) == Some(text),
            Level::Literal(_) | Level::Any | Level::Rest => true,
        })
    }

    /// A topic that both admit, if there is one. Exact: `None` means disjoint.
    pub(crate) fn common_topic(&self, other: &Self) -> Option<String> {
        let (mut left, mut right) = (self.levels.iter(), other.levels.iter());
        let mut topic: Vec<&str> = Vec::new();
        loop {
            match (left.next(), right.next()) {
                (None, None) => break,
                // `{rest...}` takes what the other still asks for, be it nothing.
                (Some(Level::Rest), rest) | (rest, Some(Level::Rest)) => {
                    let remaining = if right.len() > left.len() {
                        right
                    } else {
                        left
                    };
                    topic.extend(rest.into_iter().chain(remaining).filter_map(Level::example));
                    break;
                }
                (Some(left), Some(right)) => topic.push(left.common_level(right)?),
                (None, Some(_)) | (Some(_), None) => return None,
            }
        }
        Some(topic.join("/"))
    }

    /// The filter that matches its topics with this owner, or with any owner. `None` if the owner
    /// lacks an attribute, or the filter would be longer than MQTT allows.
    pub(crate) fn filter(&self, owner: Option<Slots<'_>>) -> Option<Filter> {
        Filter::new(&self.filter_text(owner)?).ok()
    }

    pub(crate) fn filter_text(&self, owner: Option<Slots<'_>>) -> Option<String> {
        let level = |level: &Level| -> Option<String> {
            Some(match (level, owner) {
                (Level::Literal(text), _) => text.to_string(),
                (Level::Device, Some(owner)) => owner.device.to_owned(),
                (Level::Attribute(name), Some(owner)) => owner.attribute(name)?.to_owned(),
                (Level::Device | Level::Attribute(_), None) | (Level::Any, _) => "+".to_owned(),
                (Level::Rest, _) => "#".to_owned(),
            })
        };
        let levels: Option<Vec<String>> = self.levels.iter().map(level).collect();
        Some(levels?.join("/"))
    }
}

/// As written in `fleet/`.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.levels
            .iter()
            .enumerate()
            .try_for_each(|(index, level)| {
                if index > 0 {
                    f.write_str("/")?;
                }
                level.fmt(f)
            })
    }
}

impl Level {
    fn parse(text: &str) -> Result<Self, (String, &'static str)> {
        match text {
            "{device}" => return Ok(Self::Device),
            "{any}" => return Ok(Self::Any),
            "{rest...}" => return Ok(Self::Rest),
            "" => {
                return Err((
                    "an empty level".into(),
                    "write one / between levels and none at the ends",
                ));
            }
            "+" => {
                return Err((
                    "`+` is a filter's wildcard".into(),
                    "write {any}, or {device} for the owner's name",
                ));
            }
            "#" => return Err(("`#` is a filter's wildcard".into(), "write {rest...}")),
            _ => {}
        }
        let attribute = (text.strip_prefix("{attribute."))
            .and_then(|rest| AttributeId::new(rest.strip_suffix('}')?).ok());
        if let Some(name) = attribute {
            return Ok(Self::Attribute(name));
        }
        if text.contains(['{', '}']) {
            return Err((
                format!("unknown slot in level {text:?}"),
                "a level is literal text, {device}, {attribute.NAME}, {any}, or at the end {rest...}",
            ));
        }
        if text.contains(['+', '#']) || text.chars().any(char::is_control) {
            return Err((
                format!("level {text:?} holds a character that no topic may hold"),
                "leave out + # and control characters",
            ));
        }
        Ok(Self::Literal(text.into()))
    }

    /// A content that both levels admit.
    fn common_level<'a>(&'a self, other: &'a Self) -> Option<&'a str> {
        match (self, other) {
            (Self::Literal(left), Self::Literal(right)) => (left == right).then_some(left),
            (Self::Literal(text), Self::Device) | (Self::Device, Self::Literal(text)) => {
                is_name(text).then_some(text)
            }
            (Self::Literal(text), Self::Attribute(_))
            | (Self::Attribute(_), Self::Literal(text)) => is_value(text).then_some(text),
            (Self::Literal(text), _) | (_, Self::Literal(text)) => Some(text),
            _ => Some("x"),
        }
    }

    fn example(&self) -> Option<&str> {
        match self {
            Self::Literal(text) => Some(text),
            Self::Device | Self::Attribute(_) | Self::Any => Some("x"),
            Self::Rest => None,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(text) => f.write_str(text),
            Self::Device => f.write_str("{device}"),
            Self::Attribute(name) => write!(f, "{{attribute.{name}}}"),
            Self::Any => f.write_str("{any}"),
            Self::Rest => f.write_str("{rest...}"),
        }
    }
}

/// The grammar of `model`'s names, without the allocation of making one: this runs per message.
pub(crate) fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= 64
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// The grammar of `model`'s attribute values, likewise.
pub(crate) fn is_value(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with('$')
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b'+' | b'#'))
}
