//! A channel's topic template, and what can be proven about two of them.

use mqtt::Filter;
use std::fmt;

/// Levels of a template.
pub(crate) const LEVELS_MAX: usize = 16;
const BYTES_MAX: usize = 512;

/// The shape of a channel's topics: `v1/camera/{device}/telemetry/{rest...}`.
///
/// The first level is a literal that does not begin with `$`, or `{device}`; so no template
/// admits a topic that begins with `$` (MQTT 5 section 4.7.2 leaves those to the server).
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
    /// `{any}`: one level of any content, the empty one too (`+`).
    Any,
    /// `{rest...}`: the remaining levels, none or more (`#`). Last level only.
    Rest,
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

    /// True if each of its topics has an owner: the device that its `{device}` level names.
    #[must_use]
    pub fn has_owner(&self) -> bool {
        self.levels.contains(&Level::Device)
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

    /// The filter that matches its topics with `device` as owner, or with any owner.
    /// `None` only if the filter would be longer than MQTT allows.
    pub(crate) fn filter(&self, device: Option<&str>) -> Option<Filter> {
        Filter::new(&self.filter_text(device)).ok()
    }

    pub(crate) fn filter_text(&self, device: Option<&str>) -> String {
        let level = |level: &Level| -> String {
            match level {
                Level::Literal(text) => text.to_string(),
                Level::Device => device.unwrap_or("+").to_owned(),
                Level::Any => "+".to_owned(),
                Level::Rest => "#".to_owned(),
            }
        };
        self.levels.iter().map(level).collect::<Vec<_>>().join("/")
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
        if text.contains(['{', '}']) {
            return Err((
                format!("unknown slot in level {text:?}"),
                "a level is literal text, {device}, {any}, or at the end {rest...}",
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
            (Self::Literal(text), _) | (_, Self::Literal(text)) => Some(text),
            _ => Some("x"),
        }
    }

    fn example(&self) -> Option<&str> {
        match self {
            Self::Literal(text) => Some(text),
            Self::Device | Self::Any => Some("x"),
            Self::Rest => None,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Literal(text) => text,
            Self::Device => "{device}",
            Self::Any => "{any}",
            Self::Rest => "{rest...}",
        })
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
