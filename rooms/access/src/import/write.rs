//! Parties, channels and decisions as the files of a fleet.

use super::{Found, ImportNames, Party, Step, Verb, Whose, may, shown};
use crate::diagnostic::SourceFile;
use crate::template::is_name;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Channels that one policy names: a policy has 16 KiB.
const CHANNELS_A_POLICY: usize = 100;

pub(super) fn files(
    parties: &[Party],
    channels: &[Found],
    names: &ImportNames,
    payload_bytes_max: u32,
) -> Vec<SourceFile> {
    let ids = ids(channels);
    let (mut products, mut services) = (String::new(), String::new());
    for party in parties {
        let name = &party.name;
        let _ = if !party.is_device {
            writeln!(services, "[{}]", key(name))
        } else if party.client_ids == "own" {
            writeln!(products, "[{}]", key(name))
        } else {
            writeln!(
                products,
                "[{}]\nclient_ids = \"{}\"",
                key(name),
                party.client_ids
            )
        };
    }
    let mut declared = String::new();
    for (channel, id) in channels.iter().zip(&ids) {
        let sends = |party: &Party| {
            party.is_device
                && [Whose::Own, Whose::Others]
                    .iter()
                    .any(|whose| may(party, channel, Verb::Publish, *whose))
        };
        let direction = if parties.iter().any(sends) {
            "from-device"
        } else {
            "to-device"
        };
        let _ = writeln!(
            declared,
            "# {}\n[{}]\ntopic = {}\ndirection = \"{direction}\"\npayload_bytes_max = \
             {payload_bytes_max}\n",
            printable_line(&channel.place),
            key(id),
            quoted(&shown(&channel.topics)),
        );
    }
    let mut policies = String::new();
    for party in parties {
        for (verb, word) in [(Verb::Publish, "publish"), (Verb::Receive, "receive")] {
            permits(&mut policies, party, channels, &ids, verb, word);
        }
    }
    let mut files = vec![("fleet.toml", format!("name = {}\n", quoted(&names.fleet)))];
    for (path, text) in [
        ("products/imported.toml", products),
        ("services/imported.toml", services),
        ("channels/imported.toml", declared),
        ("policies/imported.cedar", policies),
    ] {
        if !text.is_empty() {
            files.push((path, text));
        }
    }
    files
        .into_iter()
        .map(|(path, text)| SourceFile {
            path: path.to_owned(),
            text,
        })
        .collect()
}

/// The permits of one party and verb: those that reach everybody's topics, and those that reach its own.
fn permits(
    policies: &mut String,
    party: &Party,
    channels: &[Found],
    ids: &[String],
    verb: Verb,
    word: &str,
) {
    let (mut wide, mut foreign, mut own) = (Vec::new(), Vec::new(), Vec::new());
    for (channel, id) in channels.iter().zip(ids) {
        let others = may(party, channel, verb, Whose::Others);
        let has_own = party.is_device && channel.topics.contains(&Step::Own);
        let its_own = has_own && may(party, channel, verb, Whose::Own);
        match (others, its_own) {
            (true, false) if has_own => foreign.push(id),
            (true, _) => wide.push(id),
            (false, true) => own.push(id),
            (false, false) => {}
        }
    }
    let (kind, who) = match party.is_device {
        true => (
            "product",
            format!("principal is Device in Product::\"{}\"", party.name),
        ),
        false => (
            "service",
            format!("principal == Service::\"{}\"", party.name),
        ),
    };
    for (list, rest, reach) in [
        (wide, "", "all"),
        (foreign, " && resource.owner != principal", "others"),
        (own, " && resource.owner == principal", "own"),
    ] {
        for (number, part) in list.chunks(CHANNELS_A_POLICY).enumerate() {
            let named: Vec<String> = part.iter().map(|id| format!("Channel::\"{id}\"")).collect();
            let id = cut_id(&format!("{kind}-{}-{word}-{reach}", party.name), number);
            let _ = writeln!(
                policies,
                "@id(\"{id}\")\npermit ({who}, action == Action::\"{word}\", resource)\nwhen {{ \
                 resource in [{}]{rest} }};\n",
                named.join(", ")
            );
        }
    }
}

/// A name for each channel: its literal levels.
fn ids(channels: &[Found]) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut ids = Vec::new();
    for channel in channels {
        let literals = channel.topics.iter().filter_map(|step| match step {
            Step::Literal(text) => Some(text.as_str()),
            _ => None,
        });
        let literals: Vec<&str> = literals.collect();
        let plain = named(&literals.join("-"), "channel");
        let id = (1..)
            .map(|number| match number {
                1 => plain.clone(),
                _ => format!("{plain}-{number}"),
            })
            .find(|id| !taken.contains(id))
            .unwrap_or(plain);
        taken.insert(id.clone());
        ids.push(id);
    }
    ids
}

/// A text as a name: what a name cannot hold becomes `-`.
pub(super) fn named(text: &str, otherwise: &str) -> String {
    let plain: String = text
        .chars()
        .map(|c| match c {
            'A'..='Z' | 'a'..='z' | '0'..='9' | '.' | '_' | '-' => c,
            _ => '-',
        })
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(56)
        .collect();
    let plain = plain.trim_end_matches('-');
    if is_name(plain) {
        plain.to_owned()
    } else {
        otherwise.to_owned()
    }
}

/// An id of 64 characters at most that stays one of a kind.
fn cut_id(text: &str, number: usize) -> String {
    let suffix = match number {
        0 => String::new(),
        _ => format!("-{}", number + 1),
    };
    if text.len() + suffix.len() <= 64 {
        return format!("{text}{suffix}");
    }
    let mut hash = crate::fleet::Sha256::new("fleetward imported policy");
    hash.update(text);
    let digest = hash.finish().to_string();
    let (head, tail) = (
        text.get(..40).unwrap_or_default(),
        digest.get(..16).unwrap_or_default(),
    );
    format!("{head}-{tail}{suffix}")
}

/// Names may hold dots, which mean something in a key.
fn key(name: &str) -> String {
    quoted(name)
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn printable_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
