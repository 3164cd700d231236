//! Playbooks: planned responses, from a closed list of actions, read from `fleet/playbooks/*.toml`.

use crate::text::{is_name, printable};
use model::{Containment, DeviationKind, Severity};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::time::Duration;
use toml::Spanned;

/// Playbooks of one fleet; [`crate::Responder::playbooks`] takes no more.
pub const PLAYBOOKS_MAX: usize = 64;
/// A file larger than this is refused unread.
pub const FILE_BYTES_MAX: usize = 256 * 1024;

pub(crate) const STEPS_MAX: usize = 8;
pub(crate) const CONTAIN_MAX_MAX: u64 = 10_000;
pub(crate) const SECONDS_MAX: u32 = 86_400;
const WITHIN_SECONDS: u32 = 3600;
pub(crate) const WITHIN_SECONDS_MAX: u32 = 604_800;
const DESCRIPTION_CHARACTERS_MAX: usize = 200;

/// A planned response to what one device does.
///
/// It begins when, within [`Playbook::within`], at least `kinds_min` of its `kinds` were surely
/// seen on one device, `outside_min` of them by somebody other than the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Playbook {
    pub name: String,
    pub description: String,
    pub mode: Mode,
    /// Which deviations count.
    pub kinds: Vec<DeviationKind>,
    pub kinds_min: u32,
    /// At least 1 where a step takes something away.
    pub outside_min: u32,
    /// Milder alerts do not count.
    pub severity_min: Severity,
    pub within: Duration,
    /// Devices an hour that it may cut off; `None`: 5, or 0.1 % of the group where that is more.
    pub contain_max: Option<u64>,
    pub steps: Vec<PlaybookStep>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Says what it would have done.
    Observe,
    /// Does it.
    Enforce,
}

impl Mode {
    pub const ALL: [Self; 2] = [Self::Observe, Self::Enforce];

    /// The name in playbooks, the API and the CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// Begun in the order written; seconds count from the moment the playbook began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaybookStep {
    pub action: Action,
    pub after: Duration,
    /// Waits until so many distinct kinds were surely seen; `None`: as many as the playbook needs.
    pub kinds_min: Option<u32>,
}

/// All that a playbook can do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    Quarantine,
    Isolate,
    /// Cannot be undone: the device needs a new identity.
    Revoke,
    /// Tells a receiver of this name.
    Notify {
        to: String,
    },
}

impl Action {
    const NAMES: &'static str = "quarantine, isolate, revoke, notify";

    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Quarantine => "quarantine",
            Self::Isolate => "isolate",
            Self::Revoke => "revoke",
            Self::Notify { .. } => "notify",
        }
    }

    /// Takes something away from the device.
    #[must_use]
    pub const fn withdraws(&self) -> bool {
        !matches!(self, Self::Notify { .. })
    }

    #[must_use]
    pub const fn containment(&self) -> Option<Containment> {
        match self {
            Self::Quarantine => Some(Containment::Quarantined),
            Self::Isolate => Some(Containment::Isolated),
            Self::Revoke | Self::Notify { .. } => None,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Notify { to } => write!(f, "notify {to}"),
            other => f.write_str(other.name()),
        }
    }
}

impl Playbook {
    /// The table that reads back as this playbook.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let kinds: Vec<String> = (self.kinds.iter())
            .map(|kind| format!("\"{}\"", kind.name()))
            .collect();
        let mut text = format!(
            "[{}]\ndescription = {}\nmode = \"{}\"\nkinds = [{}]\nkinds_min = {}\n\
             outside_min = {}\nseverity_min = \"{}\"\nwithin_seconds = {}\n",
            quoted(&self.name),
            quoted(&self.description),
            self.mode.name(),
            kinds.join(", "),
            self.kinds_min,
            self.outside_min,
            self.severity_min.name(),
            self.within.as_secs(),
        );
        if let Some(devices) = self.contain_max {
            text.push_str(&format!("contain_max = {devices}\n"));
        }
        text.push_str("steps = [\n");
        for step in &self.steps {
            text.push_str(&format!("  {{ action = \"{}\"", step.action.name()));
            if let Action::Notify { to } = &step.action {
                text.push_str(&format!(", to = {}", quoted(to)));
            }
            if !step.after.is_zero() {
                text.push_str(&format!(", after_seconds = {}", step.after.as_secs()));
            }
            if let Some(kinds_min) = step.kinds_min {
                text.push_str(&format!(", when_kinds_min = {kinds_min}"));
            }
            text.push_str(" },\n");
        }
        text.push_str("]\n");
        text
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// What must be changed in a playbook file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlaybookError {
    /// Relative to `fleet/`.
    pub path: String,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

/// `fleet/playbooks/contain.toml:3:8: what is wrong (help: what to write)`.
impl fmt::Display for PlaybookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            line,
            column,
            message,
            help,
        } = self;
        write!(f, "fleet/{path}:{line}:{column}: {message}")?;
        match help {
            Some(help) => write!(f, " (help: {help})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for PlaybookError {}

/// True for a path below `fleet/` that [`read`] is for.
#[must_use]
pub fn is_playbook_file(path: &str) -> bool {
    path.starts_with("playbooks/") && path.ends_with(".toml")
}

/// Reads one file; every top-level table is a playbook and its name is the playbook's. Two files
/// may not declare the same: [`crate::Responder::playbooks`] keeps the first.
///
/// # Errors
/// All that is wrong, in the order of lines; a file with any error declares nothing.
pub fn read(path: &str, text: &str) -> Result<Vec<Playbook>, Vec<PlaybookError>> {
    let mut file = File {
        path: printable(path),
        text,
        wrong: Vec::new(),
    };
    if text.len() > FILE_BYTES_MAX {
        file.refuse(0..0, "the file is too large", "256 KiB are the limit");
        return Err(file.wrong);
    }
    let tables: BTreeMap<Spanned<String>, Table> = match toml::from_str(text) {
        Ok(tables) => tables,
        Err(error) => {
            let span = error.span().unwrap_or(0..0);
            file.refuse(span, error.message(), None);
            return Err(file.wrong);
        }
    };
    if tables.len() > PLAYBOOKS_MAX {
        file.refuse(
            0..0,
            format!("{} playbooks", tables.len()),
            format!("{PLAYBOOKS_MAX} are the limit").as_str(),
        );
        return Err(file.wrong);
    }
    let playbooks: Vec<Playbook> = tables
        .into_iter()
        .filter_map(|(name, table)| file.playbook(&name, table))
        .collect();
    if file.wrong.is_empty() {
        Ok(playbooks)
    } else {
        file.wrong.sort();
        Err(file.wrong)
    }
}

/// What to say of a file that declares a playbook which `first` declares too.
#[must_use]
pub fn declared_twice(path: &str, text: &str, name: &str, first: &str) -> PlaybookError {
    let tables: BTreeMap<Spanned<String>, IgnoredAny> = toml::from_str(text).unwrap_or_default();
    let mut names = tables.keys();
    let span = names.find(|key| key.get_ref() == name).map(Spanned::span);
    let file = File {
        path: printable(path),
        text,
        wrong: Vec::new(),
    };
    let message = format!("playbook {name} is declared in {first} too");
    file.error(
        span.unwrap_or_default(),
        &message,
        Some("give each its own name"),
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    description: Option<Spanned<String>>,
    mode: Option<Spanned<String>>,
    kinds: Spanned<Vec<Spanned<String>>>,
    kinds_min: Option<Spanned<u32>>,
    outside_min: Option<Spanned<u32>>,
    severity_min: Option<Spanned<String>>,
    within_seconds: Option<Spanned<u32>>,
    contain_max: Option<Spanned<u64>>,
    steps: Spanned<Vec<Spanned<StepTable>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepTable {
    action: Spanned<String>,
    to: Option<Spanned<String>>,
    after_seconds: Option<Spanned<u32>>,
    when_kinds_min: Option<Spanned<u32>>,
}

struct File<'a> {
    path: String,
    text: &'a str,
    wrong: Vec<PlaybookError>,
}

impl File<'_> {
    fn refuse<'h>(
        &mut self,
        at: Range<usize>,
        message: impl AsRef<str>,
        help: impl Into<Option<&'h str>>,
    ) {
        let error = self.error(at, message.as_ref(), help.into());
        self.wrong.push(error);
    }

    fn error(&self, at: Range<usize>, message: &str, help: Option<&str>) -> PlaybookError {
        let before = self.text.get(..at.start).unwrap_or_default();
        let line = before.matches('\n').count().saturating_add(1);
        let last = before.rsplit('\n').next().unwrap_or_default();
        let column = last.chars().count().saturating_add(1);
        PlaybookError {
            path: self.path.clone(),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
            message: printable(message),
            help: help.map(printable),
        }
    }

    /// The value if it lies in the range; else refused, and the low end so that reading goes on.
    fn within<T: PartialOrd + Copy + fmt::Display>(
        &mut self,
        key: &str,
        value: &Option<Spanned<T>>,
        default: T,
        low: T,
        high: T,
    ) -> T {
        let Some(value) = value else {
            return default;
        };
        let number = *value.get_ref();
        if number < low || number > high {
            self.refuse(
                value.span(),
                format!("{key} = {number} is out of range"),
                format!("write a number from {low} to {high}").as_str(),
            );
            return low;
        }
        number
    }

    fn playbook(&mut self, name: &Spanned<String>, table: Table) -> Option<Playbook> {
        let wrong_before = self.wrong.len();
        if !is_name(name.get_ref()) {
            self.refuse(
                name.span(),
                format!("{:?} is no name for a playbook", name.get_ref()),
                "use 1 to 64 of A-Z a-z 0-9 . _ - and begin with a letter or a digit",
            );
        }
        let description = self.description(table.description);
        let mode = match &table.mode {
            None => Mode::Observe,
            Some(mode) => Mode::from_name(mode.get_ref()).unwrap_or_else(|| {
                self.refuse(
                    mode.span(),
                    format!("{:?} is no mode", mode.get_ref()),
                    "write observe (says what it would have done) or enforce",
                );
                Mode::Observe
            }),
        };
        let kinds = self.kinds(&table.kinds);
        let kinds_len = u32::try_from(kinds.len().max(1)).unwrap_or(1);
        let kinds_min = self.within(
            "kinds_min",
            &table.kinds_min,
            kinds_len.min(2),
            1,
            kinds_len,
        );
        let steps = self.steps(&table.steps, kinds_min, kinds_len);
        let withdraws = steps.iter().any(|step| step.action.withdraws());
        let outside_min = self.within(
            "outside_min",
            &table.outside_min,
            1,
            u32::from(withdraws),
            kinds_min,
        );
        let severity_min = match &table.severity_min {
            None => Severity::Medium,
            Some(severity) => Severity::from_name(severity.get_ref()).unwrap_or_else(|| {
                let names: Vec<&str> = Severity::ALL.into_iter().map(Severity::name).collect();
                self.refuse(
                    severity.span(),
                    format!("{:?} is no severity", severity.get_ref()),
                    format!("write one of {}", names.join(", ")).as_str(),
                );
                Severity::Medium
            }),
        };
        let within = self.within(
            "within_seconds",
            &table.within_seconds,
            WITHIN_SECONDS,
            1,
            WITHIN_SECONDS_MAX,
        );
        let contain_max = table
            .contain_max
            .is_some()
            .then(|| self.within("contain_max", &table.contain_max, 1, 1, CONTAIN_MAX_MAX));
        (self.wrong.len() == wrong_before).then(|| Playbook {
            name: name.get_ref().clone(),
            description,
            mode,
            kinds,
            kinds_min,
            outside_min,
            severity_min,
            within: Duration::from_secs(u64::from(within)),
            contain_max,
            steps,
        })
    }

    fn description(&mut self, description: Option<Spanned<String>>) -> String {
        let Some(description) = description else {
            return String::new();
        };
        let text = description.get_ref();
        if text.chars().count() > DESCRIPTION_CHARACTERS_MAX || printable(text) != *text {
            self.refuse(
                description.span(),
                "the description is too long, or holds characters that do not print",
                "write one line of at most 200 characters",
            );
        }
        description.into_inner()
    }

    fn kinds(&mut self, names: &Spanned<Vec<Spanned<String>>>) -> Vec<DeviationKind> {
        let all: Vec<&str> = DeviationKind::ALL
            .into_iter()
            .map(DeviationKind::name)
            .collect();
        if names.get_ref().is_empty() {
            self.refuse(
                names.span(),
                "no kinds: it would never begin",
                format!("write some of {}", all.join(", ")).as_str(),
            );
        }
        let mut kinds = Vec::new();
        for name in names.get_ref() {
            match DeviationKind::from_name(name.get_ref()) {
                None => self.refuse(
                    name.span(),
                    format!("{:?} is no kind of deviation", name.get_ref()),
                    format!("write one of {}", all.join(", ")).as_str(),
                ),
                Some(kind) if kinds.contains(&kind) => self.refuse(
                    name.span(),
                    format!("{kind} stands here twice"),
                    "write each kind once",
                ),
                Some(kind) => kinds.push(kind),
            }
        }
        kinds
    }

    fn steps(
        &mut self,
        tables: &Spanned<Vec<Spanned<StepTable>>>,
        kinds_min: u32,
        kinds_len: u32,
    ) -> Vec<PlaybookStep> {
        if !(1..=STEPS_MAX).contains(&tables.get_ref().len()) {
            self.refuse(
                tables.span(),
                format!("{} steps", tables.get_ref().len()),
                format!("write 1 to {STEPS_MAX} steps").as_str(),
            );
            return Vec::new();
        }
        let mut seen = BTreeSet::new();
        let mut steps = Vec::new();
        for table in tables.get_ref() {
            let Some(action) = self.action(table) else {
                continue;
            };
            if !seen.insert(action.clone()) {
                self.refuse(
                    table.span(),
                    format!("the step {action} stands here twice"),
                    "write each step once: nothing is done twice",
                );
            }
            let step = table.get_ref();
            let after = self.within("after_seconds", &step.after_seconds, 0, 0, SECONDS_MAX);
            let when = step.when_kinds_min.is_some().then(|| {
                self.within(
                    "when_kinds_min",
                    &step.when_kinds_min,
                    kinds_min,
                    kinds_min,
                    kinds_len,
                )
            });
            steps.push(PlaybookStep {
                action,
                after: Duration::from_secs(u64::from(after)),
                kinds_min: when,
            });
        }
        steps
    }

    fn action(&mut self, table: &Spanned<StepTable>) -> Option<Action> {
        let StepTable { action, to, .. } = table.get_ref();
        let named = match action.get_ref().as_str() {
            "quarantine" => Action::Quarantine,
            "isolate" => Action::Isolate,
            "revoke" => Action::Revoke,
            "notify" => {
                let Some(to) = to else {
                    self.refuse(
                        table.span(),
                        "whom does it notify?",
                        "add to = \"security\", the name that the message shall carry",
                    );
                    return None;
                };
                if !is_name(to.get_ref()) {
                    self.refuse(
                        to.span(),
                        format!("{:?} is no name of a receiver", to.get_ref()),
                        "use 1 to 64 of A-Z a-z 0-9 . _ - and begin with a letter or a digit",
                    );
                    return None;
                }
                return Some(Action::Notify {
                    to: to.get_ref().clone(),
                });
            }
            other => {
                self.refuse(
                    action.span(),
                    format!("{other:?} is no action"),
                    format!("write one of {}", Action::NAMES).as_str(),
                );
                return None;
            }
        };
        if let Some(to) = to {
            self.refuse(
                to.span(),
                format!("{named} has no receiver"),
                "leave out `to`; a step of its own notifies",
            );
            return None;
        }
        Some(named)
    }
}
