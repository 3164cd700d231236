//! Random policies about topics, and the questions that are asked of them.

use super::cedar::{Cedar, Resource};
use super::decisions::{GROUPS, PRODUCTS, Random};
use access::{Grants, Host, Subject};
use mqtt::{Filter, Qos, Reason};
use sim::{Refusal, Session};
use std::collections::HashMap;

/// Channel, its template, a topic of it where `*` is the owner, and its direction.
const CHANNELS: [(&str, &str, &str, &str); 5] = [
    ("up", "v1/{device}/up/{any}", "v1/*/up/x", "from-device"),
    ("alarm", "v1/{device}/alarm", "v1/*/alarm", "from-device"),
    (
        "state",
        "v1/{device}/state/{rest...}",
        "v1/*/state/a/b",
        "from-device",
    ),
    ("down", "v1/{device}/down/{any}", "v1/*/down/x", "to-device"),
    ("notice", "notice/{any}", "notice/x", "to-device"),
];
const POLICIES: usize = 10;
/// Unacknowledged at once: less than the plane takes.
const AT_ONCE: usize = 100;

/// May this device publish to, or receive, this topic?
#[derive(Debug)]
pub struct Question {
    pub device: usize,
    pub publishes: bool,
    channel: usize,
    owner: Option<String>,
    topic: String,
}

pub fn channels() -> String {
    let channel = |(id, template, _, direction): &(&str, &str, &str, &str)| {
        format!(
            "[{id}]\ntopic = \"{template}\"\ndirection = \"{direction}\"\npayload_bytes_max = 16\n"
        )
    };
    CHANNELS.iter().map(channel).collect()
}

pub fn policies(random: &mut Random) -> String {
    let mut text = String::new();
    for number in 0..POLICIES {
        let effect = *random.one_of(&["permit", "permit", "permit", "forbid"]);
        let principal = match random.below(3) {
            0 => "principal is Device".to_owned(),
            1 => format!("principal in Group::\"{}\"", random.one_of(&GROUPS)),
            _ => format!(
                "principal is Device in Product::\"{}\"",
                random.one_of(&PRODUCTS)
            ),
        };
        let action = *random.one_of(&["publish", "receive"]);
        let resource = match random.below(3) {
            0 => format!("resource == Channel::\"{}\"", random.one_of(&CHANNELS).0),
            _ => "resource".to_owned(),
        };
        let condition = match random.below(6) {
            0 => "resource.direction == \"from-device\"".to_owned(),
            1 => format!("!(principal in Group::\"{}\")", random.one_of(&GROUPS)),
            2 if action == "publish" => "resource.owner != principal".to_owned(),
            _ => "resource.owner == principal".to_owned(),
        };
        text += &format!(
            "@id(\"t{number}\") {effect} ({principal}, action == Action::\"{action}\", {resource}) \
             when {{ {condition} }};\n"
        );
    }
    text
}

pub fn question(random: &mut Random, hosts: &[Host]) -> Question {
    let device = random.below(hosts.len());
    let channel = random.below(CHANNELS.len());
    let (.., topic, _) = CHANNELS[channel];
    // Its own more often than that of any other.
    let number = match random.below(3) {
        0 => device,
        _ => random.below(hosts.len() + 1),
    };
    let owner = hosts
        .get(number)
        .map_or("ghost".to_owned(), |host| host.device.to_string());
    Question {
        device,
        // A session may ask for so many filters a minute and no more; the same ones come again.
        publishes: random.below(4) != 0,
        channel,
        topic: topic.replace('*', &owner),
        owner: topic.contains('*').then_some(owner),
    }
}

impl Question {
    pub fn is_granted(&self, grants: &Grants, subject: &Subject) -> bool {
        if self.publishes {
            return grants.publish(subject, &self.topic).is_ok();
        }
        let filter = Filter::new(&self.topic).unwrap();
        grants.subscribe(subject, &filter).is_ok()
    }

    pub fn is_permitted(&self, cedar: &Cedar, host: &Host) -> bool {
        let (id, _, _, direction) = CHANNELS[self.channel];
        let resource = Resource {
            kind: "Channel",
            id,
            direction,
            owner: self.owner.as_deref(),
        };
        let action = if self.publishes { "publish" } else { "receive" };
        cedar.permits(host, action, &resource)
    }
}

/// What a session is answered: a publish by its acknowledgement, a subscription by its own.
pub fn ask(session: &mut Session, questions: &[&Question]) -> Vec<bool> {
    let mut answers: HashMap<usize, bool> = HashMap::new();
    let publishes: Vec<(usize, &&Question)> = (questions.iter().enumerate())
        .filter(|(_, question)| question.publishes)
        .collect();
    for part in publishes.chunks(AT_ONCE) {
        let sent: Vec<(usize, u16)> = (part.iter())
            .map(|(at, question)| (*at, session.send(&question.topic, b"x").unwrap()))
            .collect();
        for (at, id) in sent {
            let is_taken = match session.wait_puback(id) {
                Ok(()) => true,
                Err(Refusal::Puback { reason, .. }) if reason == Reason::NOT_AUTHORIZED => false,
                Err(other) => panic!("{other}"),
            };
            answers.insert(at, is_taken);
        }
    }
    let mut known: HashMap<&str, bool> = HashMap::new();
    for (at, question) in questions.iter().enumerate() {
        if question.publishes {
            continue;
        }
        let is_taken = *known.entry(&question.topic).or_insert_with(|| {
            match session.subscribe_one(&question.topic, Qos::AtMostOnce) {
                Ok(_) => true,
                Err(Refusal::Suback { reason }) if reason == Reason::NOT_AUTHORIZED => false,
                Err(other) => panic!("{other}"),
            }
        });
        answers.insert(at, is_taken);
    }
    (0..questions.len()).map(|at| answers[&at]).collect()
}
