//! One word for one thing: names nobody may declare, text nobody may leave behind.

use super::Finding;
use super::source::{declared, is_word, lines_with};
use super::tree::{File, Tree};

/// Parts of a name that say nothing, wherever the name ends in them.
const EMPTY_ENDS: [(&str, &str); 12] = [
    (
        "manager",
        "name what it does: a registry, a writer, a sequencer",
    ),
    ("handler", "name the verb it performs"),
    ("service", "name the noun it owns"),
    ("helper", "name what it computes"),
    ("helpers", "name what they compute"),
    ("util", "put it where its one caller is"),
    ("utils", "put them where their caller is"),
    ("data", "say which: row, payload, record, evidence"),
    ("info", "say which: summary, state, identity"),
    (
        "common",
        "a room without a question fills up; name the question",
    ),
    (
        "core",
        "a room without a question fills up; name the question",
    ),
    (
        "misc",
        "a room without a question fills up; name the question",
    ),
];

/// Words of the glossary's "not" column that are wrong in any name of ours.
const REPLACED: [(&str, &str); 17] = [
    ("provision", "say enroll"),
    ("provisioning", "say enrollment"),
    ("onboard", "say enroll"),
    ("onboarding", "say enrollment"),
    ("birth", "say IDevID"),
    ("golden", "say reference value"),
    ("whitelist", "say grant"),
    ("allowlist", "say grant"),
    ("blacklist", "say deny set"),
    ("blocklist", "say deny set"),
    ("acl", "say grant"),
    ("anomaly", "say deviation"),
    ("vuln", "say advisory or finding"),
    ("campaign", "say rollout"),
    ("wave", "say stage"),
    ("workflow", "say playbook"),
    ("ban", "say contain: quarantine, isolate or revoke"),
];

/// Left-overs, in code and in comments. Split so that this file does not match itself.
const LEFTOVERS: [(&str, &str); 6] = [
    (
        concat!("TO", "DO"),
        "do it, or say in the docs that it is missing",
    ),
    (concat!("FIX", "ME"), "repair it"),
    (concat!("XX", "X"), "say what is wrong, or repair it"),
    (concat!("to", "do!"), "no stub is called done"),
    (concat!("unimple", "mented!"), "no stub is called done"),
    (
        concat!("DES", "IGN §"),
        "cite ARCHITECTURE.md or a file under docs/: a reader has those",
    ),
];

/// Folders of one person's machine.
const MACHINES: [&str; 5] = [
    concat!("/ho", "me/"),
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
    concat!("C:", "\\"),
];

const DECLARING: [&str; 8] = [
    "mod",
    "struct",
    "enum",
    "trait",
    "type",
    "union",
    "fn",
    "macro_rules!",
];

pub fn guard(tree: &Tree) -> Vec<Finding> {
    let mut findings: Vec<Finding> = tree
        .rust()
        .flat_map(|(file, views)| {
            DECLARING
                .iter()
                .flat_map(|keyword| {
                    declared(&views.code, keyword)
                        .into_iter()
                        .map(move |d| (keyword, d))
                })
                .filter_map(|(keyword, (line, _, name))| judge(file, line, keyword, name))
                .collect::<Vec<_>>()
        })
        .collect();
    for (file, views) in tree.rust() {
        for (word, fix) in LEFTOVERS {
            let lines = lines_with(&views.code, word)
                .into_iter()
                .chain(lines_with(&views.comments, word));
            findings.extend(lines.map(|line| Finding {
                rule: "nothing left behind",
                path: file.path.clone(),
                line,
                what: word.to_owned(),
                reason: "a note to oneself is a debt that no test collects",
                fix: fix.to_owned(),
            }));
        }
    }
    for file in &tree.files {
        findings.extend(machine_paths(file));
    }
    findings
}

fn judge(file: &File, line: usize, keyword: &str, name: String) -> Option<Finding> {
    let segments = segments(&name);
    let last = segments.last().map(String::as_str).unwrap_or_default();
    let is_type_or_module = !matches!(keyword, "fn" | "macro_rules!");
    // `service` alone is a noun of ours (a back-end program); as a suffix it names nothing.
    let a_suffix = segments.len() > 1 || (keyword == "mod" && last != "service");
    let fix = EMPTY_ENDS
        .iter()
        .filter(|_| is_type_or_module && a_suffix)
        .find(|(word, _)| *word == last)
        .or_else(|| {
            REPLACED
                .iter()
                .find(|(word, _)| segments.iter().any(|segment| segment == word))
        })
        .map(|(_, fix)| *fix)
        .or_else(|| {
            // `get_mut` beside `get` is the standard library's own pair.
            (keyword == "fn" && name.starts_with("get_") && name != "get_mut")
                .then_some("drop the get_: a noun asks")
        })?;
    Some(Finding {
        rule: "words of the house",
        path: file.path.clone(),
        line,
        what: name,
        reason: "one word for one thing, and each name says what it is (docs/glossary.md)",
        fix: fix.to_owned(),
    })
}

/// `ClientCertVerifier` and `client_cert_verifier` alike: client, cert, verifier.
fn segments(name: &str) -> Vec<String> {
    let mut segments: Vec<String> = Vec::new();
    let mut previous = '_';
    for c in name.chars() {
        if c == '_' {
            previous = c;
            continue;
        }
        let starts = previous == '_' || (c.is_uppercase() && !previous.is_uppercase());
        match segments.last_mut() {
            Some(segment) if !starts => segment.extend(c.to_lowercase()),
            _ => segments.push(c.to_lowercase().collect()),
        }
        previous = c;
    }
    segments
}

fn machine_paths(file: &File) -> impl Iterator<Item = Finding> {
    MACHINES.iter().flat_map(move |machine| {
        file.text
            .lines()
            .enumerate()
            .filter(move |(_, line)| {
                line.match_indices(machine).any(|(at, _)| {
                    let before = line.get(..at).and_then(|text| text.chars().next_back());
                    !before.is_some_and(|c| is_word(c) || matches!(c, '.' | '-' | '}' | '>'))
                })
            })
            .map(|(at, _)| Finding {
                rule: "no machine of ours",
                path: file.path.clone(),
                line: at + 1,
                what: (*machine).to_owned(),
                reason: "a path of one machine works on no other, and tells who worked there",
                fix: "make it relative to the repository or take it from the environment"
                    .to_owned(),
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        guard(&Tree::of(&[("rooms/x/src/lib.rs", text)]))
            .into_iter()
            .map(|finding| finding.what)
            .collect()
    }

    #[test]
    fn empty_and_replaced_words_are_refused() {
        for (text, name) in [
            ("struct SessionManager;", "SessionManager"),
            ("pub enum DeviceInfo {}", "DeviceInfo"),
            ("mod utils;", "utils"),
            ("mod data {}", "data"),
            ("mod common;", "common"),
            ("trait EnrollService {}", "EnrollService"),
            ("fn get_device() {}", "get_device"),
            ("fn provision_device() {}", "provision_device"),
            ("struct AclEntry;", "AclEntry"),
            (
                "#[cfg(test)] mod tests { fn test_helper() {} struct TestHelper; }",
                "TestHelper",
            ),
        ] {
            assert_eq!(found(text), [name], "{text}");
        }
    }

    #[test]
    fn plain_words_are_spared() {
        let text = "pub mod service; pub struct Service; pub struct ServiceId; struct Metadata; fn data() {}\n\
                    fn getrandom_like() {} fn get_mut() {} fn target() {} mod database; fn oracle() {}\n\
                    // a manager of the data\nlet get_device = 1;";
        assert_eq!(found(text), Vec::<String>::new());
    }

    #[test]
    fn leftovers_are_refused_in_code_and_comments_but_not_in_words() {
        for text in [
            concat!("// TO", "DO: later"),
            concat!("/// FIX", "ME"),
            concat!("fn f() { to", "do!() }"),
            concat!("fn f() { unimple", "mented!(\"x\") }"),
            concat!("//! See DES", "IGN §3"),
        ] {
            assert_eq!(found(text).len(), 1, "{text}");
        }
        assert_eq!(
            found("// a mastodon and a design\nfn method() {}"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_machine_path_is_refused_in_any_text() {
        let path = concat!("/ho", "me/ada/x");
        let tree = Tree::of(&[
            ("docs/a.md", path),
            ("xtask/x.sh", &format!("cd {path}")),
            (
                "docs/b.md",
                concat!("https://e.org/ho", "me/ ${ROOT}/wo", "rk/ net", "wo", "rk/"),
            ),
        ]);
        let found: Vec<String> = guard(&tree).into_iter().map(|f| f.path).collect();
        assert_eq!(found, ["docs/a.md", "xtask/x.sh"]);
    }
}
