//! The Cedar half of `fleet/`: policies, each validated and within the subset that is compiled.

use crate::behaviour::DestinationId;
use crate::declared::Declared;
use crate::diagnostic::{Diagnostic, Place, SourceFile, help_with, nearest};
use crate::fleet::{ChannelId, Part, caps, part_of};
use crate::subset;
use crate::template::is_name;
use cedar_policy::pst::Template;
use cedar_policy::{Effect, EntityUid, PolicySet, Schema, ValidationMode, Validator};
use model::{GroupId, PolicyId, ProductId, ServiceId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

/// The built-in Cedar schema, with comments: what a policy may speak of.
#[must_use]
pub fn schema() -> &'static str {
    include_str!("schema.cedarschema")
}

const POLICY_BYTES_MAX: usize = 16 * 1024;
/// Brackets within brackets: Cedar's parser calls itself for each.
const DEPTH_MAX: usize = 32;
/// `a && b && c` makes a tree as deep as it is long, and Cedar walks it by recursion: with 120 it
/// ran out of 2 MiB of stack in a debug build, and said so as an evaluation error.
const OPERATORS_MAX: usize = 64;

const SHAPE: &str = "a policy reads: @id(\"..\") permit (principal is Device, action == \
                     Action::\"publish\", resource) when { resource.owner == principal };";
const KINDS: &str = "`fleetward access schema` prints what a policy may speak of";
const NEVER: &str = "as written it can never apply: a service has no product and owns no topic, and \
                     only devices and services publish and receive; only devices connect";

/// One policy, ready to be asked.
pub(crate) struct Policy {
    pub id: PolicyId,
    pub is_permit: bool,
    /// Of this policy alone.
    pub set: PolicySet,
    /// The same as a tree, for proofs.
    pub tree: Arc<Template>,
    pub names: Names,
    pub origin: Origin,
}

/// Everything in the fleet that a policy names: two principals that differ in nothing of it are
/// the same to this policy.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    pub groups: BTreeSet<GroupId>,
    pub products: BTreeSet<ProductId>,
    pub services: BTreeSet<ServiceId>,
    pub channels: BTreeSet<ChannelId>,
    pub destinations: BTreeSet<DestinationId>,
    /// Whether it asks for a device's assurance.
    pub assurance: bool,
}

/// Where a policy begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    pub path: String,
    pub line: u32,
    pub column: u32,
}

impl Origin {
    pub(crate) fn diagnostic(&self, message: String, help: Option<String>) -> Diagnostic {
        Diagnostic {
            path: self.path.clone(),
            line: self.line,
            column: self.column,
            message,
            help,
        }
    }
}

/// Reads all Cedar files; what is wrong is added to `wrong`. Sorted by id.
pub(crate) fn read(
    files: &[SourceFile],
    declared: &Declared,
    wrong: &mut Vec<Diagnostic>,
) -> Vec<Policy> {
    let validator = match Schema::from_cedarschema_str(schema()) {
        Ok((schema, _warnings)) => Validator::new(schema),
        Err(error) => {
            // Ours is wrong, not theirs; a test reads it.
            let place = Place {
                path: "schema.cedarschema",
                text: "",
                offset: 0,
            };
            wrong.push(Diagnostic::new(place, error.to_string(), None));
            return Vec::new();
        }
    };
    let mut policies: BTreeMap<PolicyId, Policy> = BTreeMap::new();
    let mut count = 0usize;
    for file in files
        .iter()
        .filter(|file| part_of(&file.path) == Some(Part::Policies))
    {
        let spans = split(&file.text);
        let (spans_count, wrong_before) = (spans.len(), wrong.len());
        for span in spans {
            count += 1;
            if count > caps::POLICIES {
                let place = Place::in_file(file, span);
                let message = format!("a fleet has at most {} policies", caps::POLICIES);
                let help = String::from("say it of groups and products rather than one by one");
                wrong.push(Diagnostic::new(place, message, help));
                return Vec::new();
            }
            let source = Source { file, span };
            let Some(policy) = source.read(&validator, declared, wrong) else {
                continue;
            };
            match policies.get(&policy.id) {
                Some(first) => wrong.push(source.diagnostic(
                    0,
                    format!("policy id {} is taken", policy.id),
                    Some(format!(
                        "another id, or take away the one in {}:{}",
                        first.origin.path, first.origin.line
                    )),
                )),
                None => {
                    policies.insert(policy.id.clone(), policy);
                }
            }
        }
        if wrong.len() > wrong_before {
            // Perhaps too deep for Cedar's parser.
            continue;
        }
        // The file was cut into policies here; Cedar itself must find as many, so that no text
        // can be a comment to one and a policy to the other.
        let whole = PolicySet::from_str(&file.text).map(|set| set.policies().count());
        if !matches!(whole, Ok(count) if count == spans_count) {
            wrong.push(Diagnostic::new(
                Place::start_of(file),
                "it is not clear where the policies of this file begin and end",
                String::from("write one policy per file"),
            ));
        }
    }
    policies.into_values().collect()
}

/// The text of one policy and where it stands.
struct Source<'a> {
    file: &'a SourceFile,
    span: Range<usize>,
}

impl<'a> Source<'a> {
    fn text(&self) -> &'a str {
        self.file.text.get(self.span.clone()).unwrap_or_default()
    }

    /// `offset` is within this policy.
    fn diagnostic(&self, offset: usize, message: String, help: Option<String>) -> Diagnostic {
        let start = self.span.start + offset;
        Diagnostic::new(Place::in_file(self.file, start..start), message, help)
    }

    /// At the first place where `token` stands outside of comments; else where the policy begins.
    fn at_token(&self, token: &str, message: String, help: Option<String>) -> Diagnostic {
        self.diagnostic(find(self.text(), token).unwrap_or(0), message, help)
    }

    /// As `at_token`, in the conditions: from the first brace on, which no scope holds.
    fn in_conditions(&self, token: &str, message: String, help: &str) -> Diagnostic {
        let mut significant = significant(self.text());
        let start = significant
            .find(|(_, c)| *c == '{')
            .map_or(0, |(offset, _)| offset);
        let conditions = self.text().get(start..).unwrap_or_default();
        let offset = find(conditions, token).map_or(0, |offset| start + offset);
        self.diagnostic(offset, message, Some(help.to_owned()))
    }

    /// At the place that cedar-policy names.
    fn cedar(&self, error: &dyn miette::Diagnostic, otherwise: &str) -> Diagnostic {
        let offset = (error.labels())
            .and_then(|mut labels| labels.next())
            .map_or(0, |label| label.offset());
        let help = (error.help()).map_or(otherwise.to_owned(), |help| help.to_string());
        self.diagnostic(offset.min(self.span.len()), error.to_string(), Some(help))
    }

    fn read(
        &self,
        validator: &Validator,
        declared: &Declared,
        wrong: &mut Vec<Diagnostic>,
    ) -> Option<Policy> {
        let wrong_before = wrong.len();
        if let Err(diagnostic) = self.check_size() {
            wrong.push(diagnostic);
            return None;
        }
        let policy = match cedar_policy::Policy::parse(None, self.text()) {
            Ok(policy) => policy,
            Err(errors) => {
                wrong.push(self.cedar(&errors, SHAPE));
                return None;
            }
        };
        let id = self.id(&policy, wrong);
        let mut names = self.names(&policy, declared, wrong);
        let tree = self.tree(&policy, wrong);
        names.assurance = tree.as_deref().is_some_and(subset::asks_assurance);
        let (id, tree) = (id?, tree?);
        let policy = policy.new_id(cedar_policy::PolicyId::new(id.as_str()));
        let is_permit = policy.effect() == Effect::Permit;
        let set = match PolicySet::from_policies([policy]) {
            Ok(set) => set,
            Err(error) => {
                wrong.push(self.cedar(&error, SHAPE));
                return None;
            }
        };
        // What is refused above would only be said a second time, in other words.
        if wrong.len() == wrong_before {
            let result = validator.validate(&set, ValidationMode::Strict);
            let errors = result.validation_errors();
            wrong.extend(errors.map(|error| self.cedar(error, KINDS)));
            if wrong.len() == wrong_before {
                let warnings = result.validation_warnings();
                wrong.extend(warnings.map(|warning| self.cedar(warning, NEVER)));
            }
        }
        let start = self.diagnostic(0, String::new(), None);
        (wrong.len() == wrong_before).then(|| Policy {
            id,
            is_permit,
            set,
            tree,
            names,
            origin: Origin {
                path: start.path,
                line: start.line,
                column: start.column,
            },
        })
    }

    fn check_size(&self) -> Result<(), Diagnostic> {
        let text = self.text();
        if text.len() > POLICY_BYTES_MAX {
            let message = format!("a policy has at most {POLICY_BYTES_MAX} bytes");
            return Err(self.diagnostic(0, message, Some("write several policies".into())));
        }
        let (mut depth, mut operators) = (0usize, 0usize);
        let mut before = ' ';
        for (offset, token) in significant(text) {
            match token {
                '(' | '[' => depth += 1,
                // A clause, which Cedar joins to the ones before by &&.
                '{' => (depth, operators) = (depth + 1, operators + 1),
                // An `if` within an `else` needs no bracket.
                'f' if before == 'i' => operators += 1,
                ')' | ']' | '}' => depth = depth.saturating_sub(1),
                '&' | '|' | '!' | '=' | '.' | '+' | '-' | '*' | '<' | '>' => operators += 1,
                _ => {}
            }
            before = token;
            if depth > DEPTH_MAX || operators > OPERATORS_MAX {
                let message = format!(
                    "a policy has at most {DEPTH_MAX} brackets within brackets and \
                     {OPERATORS_MAX} characters of operators"
                );
                let help =
                    "write several policies, or resource in [Channel::\"..\", ..] for a list";
                return Err(self.diagnostic(offset, message, Some(help.into())));
            }
        }
        Ok(())
    }

    fn id(&self, policy: &cedar_policy::Policy, wrong: &mut Vec<Diagnostic>) -> Option<PolicyId> {
        for (key, _) in policy.annotations() {
            if !matches!(key, "id" | "description") {
                wrong.push(self.at_token(
                    &format!("@{key}"),
                    format!("unknown annotation @{key}"),
                    Some("a policy has @id(\"...\") and may have @description(\"...\")".into()),
                ));
            }
        }
        let Some(text) = policy.annotation("id") else {
            wrong.push(self.diagnostic(
                0,
                "this policy has no id".into(),
                Some("write @id(\"...\") above it: it names the policy in refusals and in the log".into()),
            ));
            return None;
        };
        match PolicyId::new(text) {
            Ok(id) => Some(id),
            Err(error) => {
                let help = Some("choose another id".into());
                wrong.push(self.at_token("@id", error.to_string(), help));
                None
            }
        }
    }

    /// A literal that names nothing would make a `forbid` forbid nothing.
    fn names(
        &self,
        policy: &cedar_policy::Policy,
        declared: &Declared,
        wrong: &mut Vec<Diagnostic>,
    ) -> Names {
        let mut names = Names::default();
        for literal in policy.entity_literals() {
            if let Err((message, help)) = names.add(&literal, declared) {
                wrong.push(self.at_token(&literal.to_string(), message, Some(help)));
            }
        }
        names
    }

    /// What the policy says as a tree; what of it is not in the subset is said.
    fn tree(
        &self,
        policy: &cedar_policy::Policy,
        wrong: &mut Vec<Diagnostic>,
    ) -> Option<Arc<Template>> {
        match policy.to_pst() {
            Ok(policy) => {
                let refusals = subset::refusals(policy.body()).into_iter();
                wrong.extend(refusals.map(|refusal| {
                    self.in_conditions(&refusal.token, refusal.message, refusal.help)
                }));
                Some(Arc::new(policy.body().clone()))
            }
            Err(error) => {
                wrong.push(self.diagnostic(0, error.to_string(), Some(SHAPE.into())));
                None
            }
        }
    }
}

impl Names {
    fn add(&mut self, literal: &EntityUid, declared: &Declared) -> Result<(), (String, String)> {
        let id = literal.id().unescaped();
        let kind = literal.type_name().to_string();
        let found = match kind.as_str() {
            "Group" => GroupId::new(id)
                .ok()
                .filter(|id| declared.groups.contains_key(id))
                .map(|id| self.groups.insert(id)),
            "Product" => ProductId::new(id)
                .ok()
                .filter(|id| declared.products.contains_key(id))
                .map(|id| self.products.insert(id)),
            "Service" => ServiceId::new(id)
                .ok()
                .filter(|id| declared.services.contains_key(id))
                .map(|id| self.services.insert(id)),
            "Channel" => ChannelId::new(id)
                .filter(|id| declared.channels.contains_key(id))
                .map(|id| self.channels.insert(id)),
            "Destination" => (declared.destinations.keys())
                .find(|known| known.as_str() == id)
                .map(|known| self.destinations.insert(known.clone())),
            "Action" => matches!(id, "publish" | "receive" | "connect").then_some(true),
            "Device" => {
                return Err((
                    "a policy cannot name a device".into(),
                    "put the device in a group and write: principal in Group::\"...\"".into(),
                ));
            }
            _ => {
                return Err((
                    format!("{kind} is no kind of entity"),
                    "the kinds are Device, Service, Product, Group, Channel, Destination and Action".into(),
                ));
            }
        };
        match found {
            Some(_) => Ok(()),
            None => Err((
                format!("{literal} does not exist in this fleet"),
                match kind.as_str() {
                    _ if !is_name(id) => "names are of A-Z a-z 0-9 . _ - only; a character that \
                                          looks like one of these is another: type the name anew"
                        .into(),
                    "Action" => "the actions are publish, receive and connect".into(),
                    "Group" => help_with(
                        meant(&kind, id, declared),
                        &format!("write [groups.{id}] in fleet.toml, or correct the name"),
                    ),
                    _ => help_with(
                        meant(&kind, id, declared),
                        &format!(
                            "write [{id}] in a file of {}s/, or correct the name",
                            kind.to_lowercase()
                        ),
                    ),
                },
            )),
        }
    }
}

/// The declared name that was probably meant.
fn meant<'d>(kind: &str, id: &str, declared: &'d Declared) -> Option<&'d str> {
    match kind {
        "Group" => nearest(id, declared.groups.keys().map(GroupId::as_str)),
        "Product" => nearest(id, declared.products.keys().map(ProductId::as_str)),
        "Service" => nearest(id, declared.services.keys().map(ServiceId::as_str)),
        "Channel" => nearest(id, declared.channels.keys().map(ChannelId::as_str)),
        "Destination" => nearest(id, declared.destinations.keys().map(DestinationId::as_str)),
        _ => None,
    }
}

/// The spans of the policies of a file: from the first character that is no comment to the `;`.
fn split(text: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut start = None;
    for (offset, c) in significant(text) {
        let from = *start.get_or_insert(offset);
        if c == ';' {
            spans.push(from..offset + 1);
            start = None;
        }
    }
    // What is left has no `;`: Cedar says so.
    spans.extend(start.map(|from| from..text.len()));
    spans
}

/// The characters outside of spaces, comments and strings; of a string its quotation marks.
fn significant(text: &str) -> impl Iterator<Item = (usize, char)> {
    #[derive(PartialEq)]
    enum In {
        Code,
        String,
        Comment,
    }
    let mut characters = text.char_indices().peekable();
    let mut within = In::Code;
    std::iter::from_fn(move || {
        loop {
            let (offset, c) = characters.next()?;
            let next = characters.peek().map(|(_, c)| *c);
            match (&within, c) {
                (In::Comment, '\n' | '\r') => within = In::Code,
                (In::Comment, _) => {}
                (In::String, '\\') => {
                    characters.next();
                }
                (In::String, '"') => {
                    within = In::Code;
                    return Some((offset, c));
                }
                (In::String, _) => {}
                (In::Code, '/') if next == Some('/') => within = In::Comment,
                (In::Code, '"') => {
                    within = In::String;
                    return Some((offset, c));
                }
                (In::Code, c) if c.is_whitespace() => {}
                (In::Code, _) => return Some((offset, c)),
            }
        }
    })
}

/// Where `token` stands in `text` and begins outside of strings and comments, as a whole word.
fn find(text: &str, token: &str) -> Option<usize> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if token.is_empty() {
        return None;
    }
    significant(text).map(|(offset, _)| offset).find(|offset| {
        let Some((before, rest)) = text.split_at_checked(*offset) else {
            return false;
        };
        let Some(after) = rest.strip_prefix(token) else {
            return false;
        };
        let joined = |outer: Option<char>, inner: Option<char>| {
            outer.is_some_and(is_word) && inner.is_some_and(is_word)
        };
        !joined(before.chars().next_back(), token.chars().next())
            && !joined(after.chars().next(), token.chars().next_back())
    })
}
