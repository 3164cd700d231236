//! AWS IoT Core policies: who is denied by any statement is denied, who is allowed by one is allowed.
//!
//! A document whose resources name the thing that asks is a product's; another is a service's. To hear a
//! topic one must be allowed to receive it and to subscribe to a filter that matches it: only both are a
//! permit to receive.

use super::write::named;
use super::{
    BYTES_MAX, ImportNames, ImportRemark, Imported, Party, RULES_MAX, Rule, Step, Verb, import,
    in_order,
};
use crate::diagnostic::SourceFile;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The largest message that AWS IoT Core takes.
const PAYLOAD_BYTES_MAX: u32 = 128 * 1024;
/// What stands for the name of the thing that asks.
const NAMES: [&str; 3] = [
    "${iot:Connection.Thing.ThingName}",
    "${iot:ClientId}",
    "${iot:Certificate.Subject.CommonName}",
];

/// Imports policy documents, one party each. A document is as IAM has it, or as `aws iot get-policy`
/// prints it.
///
/// # Errors
/// What cannot be carried over, by file and statement.
pub fn import_aws(
    documents: &[SourceFile],
    names: &ImportNames,
) -> Result<Imported, Vec<ImportRemark>> {
    let (mut refused, mut left_out) = (Vec::new(), Vec::new());
    let mut parties: Vec<Party> = Vec::new();
    let mut taken = BTreeSet::new();
    for document in documents {
        let mut reader = Reader {
            path: &document.path,
            refused: &mut refused,
            left_out: &mut left_out,
        };
        let Some(party) = reader.party(&document.text) else {
            continue;
        };
        if !taken.insert(party.name.clone()) {
            refused.push(ImportRemark::new(
                &document.path,
                format!("a second document is called {}", party.name),
                "give the files names of their own; statements for one and the same belong into one",
            ));
        }
        parties.push(party);
    }
    if parties
        .iter()
        .flat_map(|one| one.tiers.iter().flatten())
        .count()
        > RULES_MAX
    {
        let what = format!("there are more than {RULES_MAX} rules");
        let help = "import the policies that are attached, without old versions";
        refused.push(ImportRemark::new("all", what, help));
    }
    if !refused.is_empty() {
        return Err(in_order(refused));
    }
    import(
        &parties,
        names,
        PAYLOAD_BYTES_MAX,
        left_out,
        BTreeMap::new(),
    )
}

struct Reader<'a> {
    path: &'a str,
    refused: &'a mut Vec<ImportRemark>,
    left_out: &'a mut Vec<ImportRemark>,
}

/// What a statement is about.
struct Statement<'a> {
    allow: bool,
    actions: Vec<&'a str>,
    resources: Vec<&'a str>,
    place: String,
}

/// What a resource is: a kind, and what stands behind it.
struct Resource<'a> {
    kind: &'a str,
    rest: &'a str,
}

impl Reader<'_> {
    fn party(&mut self, text: &str) -> Option<Party> {
        let stem = self.path.rsplit('/').next().unwrap_or(self.path);
        let stem = stem.strip_suffix(".json").unwrap_or(stem);
        let (name, document) = self.document(text, stem)?;
        let statements = match document.get("Statement") {
            Some(Value::Array(list)) => list.iter().collect(),
            Some(one @ Value::Object(_)) => vec![one],
            _ => {
                let path = self.path;
                self.refuse(path, "it has no Statement", "is it a policy document?");
                return None;
            }
        };
        let mut rules = Vec::new();
        let mut client_ids = "own";
        let mut names_things = false;
        for (number, statement) in (1_usize..).zip(statements) {
            let place = format!("{}, statement {number}", self.path);
            let Some(statement) = self.statement(statement, place) else {
                continue;
            };
            names_things |= statement
                .resources
                .iter()
                .any(|resource| resource.contains("${"));
            client_ids = self.connect(&statement, client_ids);
            self.rules(&statement, &mut rules);
        }
        Some(Party {
            name: named(&name, "imported"),
            is_device: names_things,
            tiers: vec![rules],
            subscribes: true,
            client_ids,
        })
    }

    /// The document, and what it is called.
    fn document(&mut self, text: &str, stem: &str) -> Option<(String, Map<String, Value>)> {
        let path = self.path;
        if text.len() > BYTES_MAX {
            self.refuse(path, "it is too large", "is it a policy document?");
            return None;
        }
        let parsed = serde_json::from_str(text);
        let Ok(Value::Object(mut outer)) = parsed else {
            let why = parsed.err().map_or_else(
                || "it is no JSON object".to_owned(),
                |error| format!("it is no JSON ({error})"),
            );
            self.refuse(
                path,
                why,
                "save it with `aws iot get-policy --policy-name ...`",
            );
            return None;
        };
        let name = outer.get("policyName").and_then(Value::as_str);
        let name = name.unwrap_or(stem).to_owned();
        let document = match outer.remove("policyDocument") {
            None => outer,
            Some(Value::Object(document)) => document,
            Some(Value::String(text)) => match serde_json::from_str(&text) {
                Ok(Value::Object(document)) => document,
                _ => {
                    self.refuse(
                        path,
                        "its policyDocument is no JSON object",
                        "save it again",
                    );
                    return None;
                }
            },
            Some(_) => {
                self.refuse(path, "its policyDocument is no document", "save it again");
                return None;
            }
        };
        for key in document.keys() {
            if !matches!(key.as_str(), "Version" | "Statement" | "Id") && !is_of_get_policy(key) {
                self.refuse(path, format!("{key:?} is not understood"), "take it out");
            }
        }
        Some((name, document))
    }

    fn statement<'s>(&mut self, statement: &'s Value, place: String) -> Option<Statement<'s>> {
        let object = statement.as_object()?;
        for key in object.keys() {
            let help = match key.as_str() {
                "Effect" | "Action" | "Resource" | "Sid" => continue,
                "Condition" if is_always_true(object.get("Condition")) => continue,
                "Condition" => {
                    "say it with groups: put the things that fulfil it into one and name that"
                }
                "NotAction" => "name the actions that are meant",
                "NotResource" => "name the topics that are meant",
                _ => "take it out",
            };
            self.refuse(&place, format!("{key} cannot be carried over"), help);
        }
        let allow = match object.get("Effect").and_then(Value::as_str) {
            Some("Allow") => true,
            Some("Deny") => false,
            _ => {
                self.refuse(&place, "it has no Effect", "write Allow or Deny");
                return None;
            }
        };
        Some(Statement {
            allow,
            actions: texts(object.get("Action")),
            resources: texts(object.get("Resource")),
            place,
        })
    }

    /// How things may call themselves.
    fn connect(&mut self, statement: &Statement<'_>, so_far: &'static str) -> &'static str {
        if !statement.allow || !covers_action(&statement.actions, "iot:Connect") {
            return so_far;
        }
        let clients = statement.resources.iter().filter_map(|text| resource(text));
        let mut clients = clients.filter(|one| one.kind == "client" || one.kind == "*");
        if clients.any(|one| !NAMES.contains(&one.rest)) {
            "free"
        } else {
            so_far
        }
    }

    fn rules(&mut self, statement: &Statement<'_>, rules: &mut Vec<Rule>) {
        let verbs: Vec<Verb> = [
            (Verb::Publish, "iot:Publish"),
            (Verb::Receive, "iot:Receive"),
            (Verb::Subscribe, "iot:Subscribe"),
        ]
        .into_iter()
        .filter(|(_, action)| covers_action(&statement.actions, action))
        .map(|(verb, _)| verb)
        .collect();
        self.tell_actions(statement);
        if !statement.allow && verbs == [Verb::Subscribe] {
            let what = "a denied iot:Subscribe forbids filters, not what is heard by others";
            self.refuse(&statement.place, what, "deny iot:Receive of these topics");
            return;
        }
        for text in &statement.resources {
            let Some(resource) = resource(text) else {
                let what = format!("{text:?} is no resource of AWS IoT");
                self.refuse(&statement.place, what, "correct it, or take it out");
                continue;
            };
            let applies: Vec<Verb> = (verbs.iter().copied())
                .filter(|verb| match resource.kind {
                    "*" => true,
                    "topic" => *verb != Verb::Subscribe,
                    "topicfilter" => *verb == Verb::Subscribe,
                    _ => false,
                })
                .collect();
            if applies.is_empty() {
                continue;
            }
            let is_filter = resource.kind == "topicfilter";
            match steps(resource.rest, is_filter) {
                Ok(topics) if is_of_aws(&topics) => self.left_out.push(ImportRemark::new(
                    &statement.place,
                    format!("{} is a service of AWS itself", resource.rest),
                    "shadows are twins here, jobs are updates: docs/gateway.md",
                )),
                Ok(topics) => rules.push(Rule {
                    allow: statement.allow,
                    verbs: applies,
                    topics,
                    place: statement.place.clone(),
                }),
                Err((what, help)) => self.refuse(&statement.place, what, help),
            }
        }
    }

    /// Actions that are not about messages.
    fn tell_actions(&mut self, statement: &Statement<'_>) {
        const KNOWN: [&str; 5] = [
            "iot:Connect",
            "iot:Publish",
            "iot:Receive",
            "iot:Subscribe",
            "*",
        ];
        for action in &statement.actions {
            if KNOWN.contains(action) || *action == "iot:*" || !statement.allow {
                continue;
            }
            let help = match *action {
                "iot:RetainPublish" => "write retained_max at the channels that retain messages",
                _ => "that is a service of AWS itself: see twins and commands in docs/gateway.md",
            };
            let what = format!("{action} is not carried over");
            (self.left_out).push(ImportRemark::new(&statement.place, what, help));
        }
    }

    fn refuse(&mut self, place: &str, text: impl AsRef<str>, help: &str) {
        self.refused.push(ImportRemark::new(place, text, help));
    }
}

/// Whatever else `aws iot get-policy` prints.
fn is_of_get_policy(key: &str) -> bool {
    matches!(
        key,
        "policyName"
            | "policyArn"
            | "defaultVersionId"
            | "creationDate"
            | "lastModifiedDate"
            | "generationId"
    )
}

/// That the certificate is the thing's: so it is for everybody here.
fn is_always_true(condition: Option<&Value>) -> bool {
    let Some(Value::Object(operators)) = condition else {
        return false;
    };
    operators.iter().all(|(operator, keys)| {
        operator == "Bool"
            && keys.as_object().is_some_and(|keys| {
                keys.iter().all(|(key, value)| {
                    let says = |value: &Value| *value == "true" || *value == true;
                    let is_true = match value {
                        Value::Array(list) => list.iter().all(says),
                        one => says(one),
                    };
                    key == "iot:Connection.Thing.IsAttached" && is_true
                })
            })
    })
}

fn texts(value: Option<&Value>) -> Vec<&str> {
    match value {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn covers_action(actions: &[&str], action: &str) -> bool {
    (actions.iter()).any(|one| *one == action || *one == "iot:*" || *one == "*")
}

/// `arn:aws:iot:eu-west-1:123456789012:topic/a/b`, or `*`.
fn resource(text: &str) -> Option<Resource<'_>> {
    if text == "*" {
        return Some(Resource {
            kind: "*",
            rest: "*",
        });
    }
    let mut parts = text.splitn(6, ':');
    let is_iot = parts.next()? == "arn" && parts.next().is_some() && parts.next()? == "iot";
    let (_region, _account, last) = (parts.next()?, parts.next()?, parts.next()?);
    let (kind, rest) = match last {
        "*" => ("*", "*"),
        _ => last.split_once('/')?,
    };
    is_iot.then_some(Resource { kind, rest })
}

fn is_of_aws(topics: &[Step]) -> bool {
    matches!(topics.first(), Some(Step::Literal(text)) if text.starts_with('$'))
}

/// A pattern of topics. `*` is any text, so only at the end, behind a `/`, it is whole levels.
fn steps(text: &str, is_filter: bool) -> Result<Vec<Step>, (String, &'static str)> {
    let mut levels: Vec<&str> = text.split('/').collect();
    let mut rest = Vec::new();
    match levels.last() {
        // Of filters that begin so: `a/#` is one, and hears all below `a`.
        Some(&"*") if is_filter || levels.len() == 1 => rest.push(Step::Rest),
        // One level at least, which may be empty.
        Some(&"*") => rest.extend([Step::Any, Step::Rest]),
        Some(&"#") if is_filter => rest.push(Step::Rest),
        _ => {}
    }
    if !rest.is_empty() {
        levels.pop();
    }
    let steps = levels.into_iter().map(|level| match level {
        "+" if is_filter => Ok(Step::Any),
        _ if NAMES.contains(&level) => Ok(Step::Own),
        "" => Err((
            format!("{text:?} has an empty level"),
            "a channel has none: take the / out at both ends",
        )),
        _ if level.contains("${") => Err((
            format!("{level:?} is not understood, or not alone in its level"),
            "only the thing's name and its client identifier can stand here, each in a level of \
             its own; other attributes are {attribute.NAME} in a channel's topic",
        )),
        _ if level.contains(['*', '?']) => Err((
            format!("{text:?} has a wildcard that is not the end of it"),
            "a * matches any text there, several levels too: name the levels that are meant",
        )),
        _ if level.contains(['+', '#', '{', '}']) || level.chars().any(char::is_control) => Err((
            format!("{level:?} cannot be a level of a topic"),
            "leave out + # { } and control characters",
        )),
        _ => Ok(Step::Literal(level.to_owned())),
    });
    let mut all: Vec<Step> = steps.collect::<Result<_, _>>()?;
    all.extend(rest);
    Ok(all)
}
