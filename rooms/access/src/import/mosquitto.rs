//! Mosquitto's `acl_file` (2.0), in the order in which its broker asks it: a user's own lines, then the
//! patterns, and in both those that deny first.
//!
//! A user is a service. Users whose lines are the same but for their own name in them are devices of one
//! product; so is everybody to whom patterns apply.

use super::write::named;
use super::{
    BYTES_MAX, ImportNames, ImportRemark, Imported, Party, RULES_MAX, Rule, Step, Verb, import,
    in_order,
};
use crate::template::is_name;
use std::collections::BTreeMap;

/// Mosquitto takes any size that MQTT knows; a channel of ours takes so much.
const PAYLOAD_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// Imports one file. `place` is what it is called in remarks.
///
/// # Errors
/// What cannot be carried over, by line.
pub fn import_mosquitto(
    place: &str,
    text: &str,
    names: &ImportNames,
) -> Result<Imported, Vec<ImportRemark>> {
    if text.len() > BYTES_MAX {
        let what = format!("it has more than {BYTES_MAX} bytes");
        return Err(vec![ImportRemark::new(place, what, "is it an acl_file?")]);
    }
    let mut file = File {
        place,
        ..File::default()
    };
    for (number, line) in (1_usize..).zip(text.lines()) {
        file.read(number, line);
    }
    if file.rules > RULES_MAX {
        let what = format!("it has more than {RULES_MAX} lines that say something");
        let help = "say it with patterns: a line for each device is not meant here";
        file.refused.push(ImportRemark::new(place, what, help));
    }
    if !file.refused.is_empty() {
        return Err(in_order(file.refused));
    }
    let (parties, devices) = file.parties(names);
    if parties.is_empty() {
        let help = "it must have a `user` or a `pattern` line";
        return Err(vec![ImportRemark::new(
            place,
            "it lets nobody do anything",
            help,
        )]);
    }
    import(&parties, names, PAYLOAD_BYTES_MAX, file.left_out, devices)
}

#[derive(Default)]
struct File<'a> {
    place: &'a str,
    user: Option<String>,
    users: BTreeMap<String, Vec<Rule>>,
    patterns: Vec<Rule>,
    rules: usize,
    left_out: Vec<ImportRemark>,
    refused: Vec<ImportRemark>,
}

impl File<'_> {
    fn read(&mut self, number: usize, line: &str) {
        let place = format!("{}:{number}", self.place);
        // Only a line that begins with it is a comment.
        let line = line.trim_end_matches([' ', '\t', '\r']);
        if line.starts_with('#') || line.trim().is_empty() {
            return;
        }
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim_start_matches(' ');
        match word {
            "user" if is_name(rest) => {
                self.user = Some(rest.to_owned());
                self.users.entry(rest.to_owned()).or_default();
            }
            "user" => self.refuse(
                &place,
                format!("{rest:?} is no name here"),
                "names are 1 to 64 of A-Z a-z 0-9 . _ - and begin with a letter or a digit",
            ),
            "topic" | "pattern" => self.rule(&place, word == "pattern", rest),
            _ => self.refuse(
                &place,
                format!("{word:?} is no word of an acl_file"),
                "the words are user, topic and pattern",
            ),
        }
    }

    fn rule(&mut self, place: &str, is_pattern: bool, rest: &str) {
        let (access, topic) = match rest.split_once(' ') {
            Some((access, topic)) => (access, topic.trim_start_matches(' ')),
            None => ("readwrite", rest),
        };
        let (allow, verbs) = match access {
            "read" => (true, vec![Verb::Receive]),
            "write" => (true, vec![Verb::Publish]),
            "readwrite" => (true, vec![Verb::Publish, Verb::Receive]),
            "deny" => (false, vec![Verb::Publish, Verb::Receive]),
            _ => {
                let help = "write read, write, readwrite or deny";
                return self.refuse(place, format!("{access:?} is no kind of access"), help);
            }
        };
        let topics = match steps(topic, is_pattern) {
            Ok(topics) => topics,
            Err((text, help)) => return self.refuse(place, text, help),
        };
        self.rules += 1;
        let rule = Rule {
            allow,
            verbs,
            topics,
            place: place.to_owned(),
        };
        match (is_pattern, &self.user) {
            (true, _) => self.patterns.push(rule),
            (false, Some(user)) => self.users.entry(user.clone()).or_default().push(rule),
            (false, None) if allow => self.left_out.push(ImportRemark::new(
                place,
                format!("{topic} is for clients without a name, and here everybody has one"),
                "nothing to do: a client without a certificate is let in nowhere",
            )),
            (false, None) => {}
        }
    }

    fn refuse(&mut self, place: &str, text: impl AsRef<str>, help: &str) {
        self.refused.push(ImportRemark::new(place, text, help));
    }

    /// Users as services, but for those who are devices of a kind; and everybody else.
    fn parties(&mut self, names: &ImportNames) -> (Vec<Party>, BTreeMap<String, Vec<String>>) {
        let mut kinds: BTreeMap<Vec<Bare>, Vec<String>> = BTreeMap::new();
        for (user, rules) in &self.users {
            let bare: Vec<Bare> = rules.iter().map(|rule| bare(rule, user)).collect();
            kinds.entry(bare).or_default().push(user.clone());
        }
        let (mut parties, mut devices) = (Vec::new(), BTreeMap::new());
        let device = |name: String, own: Vec<Rule>, patterns: &[Rule]| Party {
            name,
            is_device: true,
            tiers: vec![own, patterns.to_vec()],
            subscribes: false,
            client_ids: "own",
        };
        if !self.patterns.is_empty() {
            parties.push(device(names.product.clone(), Vec::new(), &self.patterns));
        }
        for (bare, users) in kinds {
            let names_itself = |(_, _, topics): &Bare| topics.contains(&Step::Own);
            if users.len() > 1 && bare.iter().any(names_itself) {
                let product = match parties.iter().filter(|one| one.is_device).count() {
                    0 => names.product.clone(),
                    count => named(&format!("{}-{}", names.product, count + 1), "device"),
                };
                let place = users.first().and_then(|user| self.users.get(user));
                let rules = place.into_iter().flatten().zip(bare);
                let rules = rules.map(|(rule, (_, _, topics))| Rule {
                    topics,
                    ..rule.clone()
                });
                parties.push(device(product.clone(), rules.collect(), &self.patterns));
                devices.insert(product, users);
                continue;
            }
            for user in users {
                let own = self.users.get(&user).cloned().unwrap_or_default();
                self.tell_patterns_of(&user);
                parties.push(Party {
                    name: user,
                    is_device: false,
                    tiers: vec![own, self.patterns.clone()],
                    subscribes: false,
                    client_ids: "own",
                });
            }
        }
        (parties, devices)
    }

    /// A service owns no topic, be it named like a device.
    fn tell_patterns_of(&mut self, user: &str) {
        let own = self.patterns.iter().filter(|rule| rule.allow);
        for rule in own.filter(|rule| rule.topics.contains(&Step::Own)) {
            let text = format!(
                "the pattern gives user {user} topics with its own name in them; a service has none"
            );
            let help = "nothing to do, unless that service does use them";
            (self.left_out).push(ImportRemark::new(&rule.place, text, help));
        }
    }
}

/// A rule without its place, with its user's name taken out.
type Bare = (bool, Vec<u8>, Vec<Step>);

fn bare(rule: &Rule, user: &str) -> Bare {
    let topics = rule.topics.iter().map(|step| match step {
        Step::Literal(text) if text == user => Step::Own,
        other => other.clone(),
    });
    let verbs = rule.verbs.iter().map(|verb| match verb {
        Verb::Publish => 0,
        Verb::Receive => 1,
        Verb::Subscribe => 2,
    });
    (rule.allow, verbs.collect(), topics.collect())
}

fn steps(topic: &str, is_pattern: bool) -> Result<Vec<Step>, (String, &'static str)> {
    if mqtt::Filter::new(topic).is_err() {
        return Err((format!("{topic:?} is no topic filter"), "correct it"));
    }
    let levels = topic.split('/').map(|level| match level {
        "+" => Ok(Step::Any),
        "#" => Ok(Step::Rest),
        "%u" | "%c" if is_pattern => Ok(Step::Own),
        "" => Err((
            format!("{topic:?} has an empty level"),
            "a channel has none: take the / out at both ends",
        )),
        _ if is_pattern && (level.contains("%u") || level.contains("%c")) => Err((
            format!("{level:?} has a name and more in one level"),
            "give the name a level of its own",
        )),
        _ if level.contains(['{', '}']) || level.chars().any(char::is_control) => Err((
            format!("{level:?} cannot be a level of a channel"),
            "leave out { } and control characters",
        )),
        _ => Ok(Step::Literal(level.to_owned())),
    });
    levels.collect()
}
