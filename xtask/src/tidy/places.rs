//! What may stand in one place only: SQL, HTTP, timers, sockets, concurrency.

use super::Finding;
use super::purity::brings;
use super::source::{imports, lines_with};
use super::tree::Tree;

struct Place {
    rule: &'static str,
    /// Sought in code. Those with `::` and crate names are also sought in imports.
    needles: &'static [&'static str],
    /// Sought in string literals; all parts on one line.
    strings: &'static [&'static [&'static str]],
    /// Prefixes of paths that the rule judges.
    judged: &'static [&'static str],
    /// Prefixes of paths where it may stand.
    home: &'static [&'static str],
    reason: &'static str,
    fix: &'static str,
}

const FLOORS: &[&str] = &["words/", "rooms/", "keeps/", "doors/", "sim/"];
/// Words and rooms hold none of these at all; their own guard says it better.
const WORLDLY: &[&str] = &["keeps/", "doors/"];

const PLACES: &[Place] = &[
    Place {
        rule: "SQL in its place",
        needles: &["rusqlite", "sqlx", "tokio_postgres"],
        strings: &[
            &["SELECT ", " FROM "],
            &["INSERT INTO "],
            &["INSERT OR "],
            &["UPDATE ", " SET "],
            &["DELETE FROM "],
            &["CREATE TABLE "],
            &["CREATE INDEX "],
            &["CREATE UNIQUE INDEX "],
            &["DROP TABLE "],
            &["PRAGMA "],
        ],
        judged: FLOORS,
        home: &["keeps/store/"],
        reason: "one crate knows how state lies on disk, so one crate's crash tests prove it",
        fix: "add a verb to keeps/store/src/<room>.rs and call it",
    },
    Place {
        rule: "HTTP in its place",
        needles: &[
            "axum",
            "hyper",
            "hyper_util",
            "http::",
            "tower",
            "tower_http",
            "utoipa",
            "reqwest",
        ],
        strings: &[],
        judged: &["words/", "rooms/", "keeps/", "doors/"],
        home: &[
            "doors/plane/src/api/",
            "doors/plane/src/listen/",
            "doors/fleetward/src/client",
        ],
        reason: "statuses and headers are one mapping at the edge; behind it a refusal is a value",
        fix: "put it into doors/plane/src/api/<room>.rs, or the CLI's doors/fleetward/src/client",
    },
    Place {
        rule: "timers in their place",
        needles: &[
            "tokio::time",
            "Interval",
            "interval",
            "interval_at",
            "sleep",
            "sleep_until",
            "Sleep",
            "timerfd_create",
        ],
        strings: &[],
        judged: &["keeps/", "doors/plane/"],
        home: &["doors/plane/src/tasks/"],
        reason: "what runs by itself can be listed by looking into one folder",
        fix: "make it an idempotent verb in doors/plane/src/tasks/, woken by time or by a nudge",
    },
    Place {
        rule: "sockets in their place",
        needles: &[
            "TcpListener",
            "TcpStream",
            "UdpSocket",
            "UnixListener",
            "UnixStream",
            "TcpSocket",
            "rustix::net",
            "socket2",
        ],
        strings: &[],
        judged: WORLDLY,
        home: &[
            "doors/plane/src/listen/",
            "doors/plane/src/shards/",
            "doors/fleetward/src/client",
            // On the device: it has no door, but for a resolver of its own that is off by default.
            "doors/agent/src/",
        ],
        reason: "every door that can be knocked on is in one folder, with its caps",
        fix: "accept it in doors/plane/src/listen/ and hand on what was proven",
    },
    Place {
        rule: "concurrency in its place",
        needles: &[
            "Mutex",
            "RwLock",
            "Condvar",
            "Barrier",
            "Atomic*",
            "static mut",
            "thread::spawn",
            "thread::Builder",
            "thread::scope",
            "mpsc",
            "sync_channel",
            "ArcSwap*",
            "OnceLock",
            "LazyLock",
            "tokio::spawn",
            "spawn_blocking",
        ],
        strings: &[],
        judged: WORLDLY,
        home: &["doors/plane/src/shards/", "keeps/store/src/writer"],
        reason: "a race can only be where these stand, so they stand where they are tested",
        fix: "send a message to a shard or to the store's writer, or list it with its reason",
    },
    Place {
        rule: "unsafe code in its place",
        needles: &["unsafe", "unsafe_code"],
        strings: &[],
        judged: &["words/", "rooms/", "keeps/", "doors/", "sim/", "xtask/"],
        home: &["doors/plane/src/shards/kernel.rs"],
        reason: "one short file is read by everybody who doubts, a second is one too many",
        fix: "find a crate with a safe word for it",
    },
];

pub fn guard(tree: &Tree) -> Vec<Finding> {
    PLACES
        .iter()
        .flat_map(|place| {
            tree.product()
                .map(move |(file, views)| (place, file, views))
        })
        .filter(|(place, file, _)| {
            let under = |prefixes: &[&str]| prefixes.iter().any(|p| file.path.starts_with(p));
            under(place.judged) && !under(place.home)
        })
        .flat_map(|(place, file, views)| {
            let imported = imports(&views.product);
            let mut found: Vec<(usize, String)> = Vec::new();
            for needle in place.needles {
                found.extend(
                    lines_with(&views.product, needle)
                        .into_iter()
                        .chain(
                            imported
                                .iter()
                                .filter(|(_, path)| brings(path, needle.trim_end_matches("::")))
                                .map(|(line, _)| *line),
                        )
                        .map(|line| (line, (*needle).to_owned())),
                );
            }
            for parts in place.strings {
                found.extend(
                    views
                        .strings
                        .lines()
                        .enumerate()
                        .filter(|(_, text)| in_order(text, parts))
                        .map(|(line, _)| (line + 1, parts.concat())),
                );
            }
            found.sort();
            found.dedup();
            found.into_iter().map(move |(line, what)| Finding {
                rule: place.rule,
                path: file.path.clone(),
                line,
                what,
                reason: place.reason,
                fix: place.fix.to_owned(),
            })
        })
        .collect()
}

fn in_order(text: &str, parts: &[&str]) -> bool {
    let mut rest = text;
    parts.iter().all(|part| match rest.split_once(part) {
        Some((_, after)) => {
            rest = after;
            true
        }
        // A space that ends or begins a part may be the end of the line.
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<&'static str> {
        let mut rules: Vec<_> = guard(&Tree::of(&[(path, text)]))
            .into_iter()
            .map(|finding| finding.rule)
            .collect();
        rules.dedup();
        rules
    }

    /// What stands where it must not, and where it may.
    const CASES: &[(&str, &str, &str, &str)] = &[
        (
            "SQL in its place",
            "fn f() { q(\"SELECT id FROM device\"); }",
            "doors/plane/src/flow.rs",
            "keeps/store/src/identity.rs",
        ),
        (
            "SQL in its place",
            "use rusqlite::Connection;",
            "sim/src/lib.rs",
            "keeps/store/src/writer.rs",
        ),
        (
            "HTTP in its place",
            "use {axum::Router, std::fmt};",
            "doors/plane/src/flow.rs",
            "doors/plane/src/api/identity.rs",
        ),
        (
            "HTTP in its place",
            "fn f(r: http::Request<()>) {}",
            "doors/fleetward/src/main.rs",
            "doors/fleetward/src/client.rs",
        ),
        (
            "timers in their place",
            "use tokio::{net, time};",
            "doors/plane/src/listen/mod.rs",
            "doors/plane/src/tasks/publish_crl.rs",
        ),
        (
            "sockets in their place",
            "fn f() { std::net::TcpListener::bind(x); }",
            "doors/plane/src/flow.rs",
            "doors/plane/src/listen/mod.rs",
        ),
        (
            "concurrency in its place",
            "use std::sync::{Arc, Mutex};",
            "doors/plane/src/api/identity.rs",
            "doors/plane/src/shards/mod.rs",
        ),
        (
            "concurrency in its place",
            "static X: AtomicBool = AtomicBool::new(false);",
            "keeps/signer/src/lib.rs",
            "keeps/store/src/writer.rs",
        ),
        (
            "unsafe code in its place",
            "#![allow(unsafe_code)]",
            "doors/plane/src/shards/shard.rs",
            "doors/plane/src/shards/kernel.rs",
        ),
        (
            "unsafe code in its place",
            "fn f() { unsafe { g() } }",
            "keeps/store/src/writer.rs",
            "doors/plane/src/shards/kernel.rs",
        ),
    ];

    #[test]
    fn each_place_refuses_outside_and_spares_inside() {
        for (rule, text, outside, home) in CASES {
            assert!(rules(outside, text).contains(rule), "{rule} {outside}");
            assert!(!rules(home, text).contains(rule), "{rule} {home}");
        }
    }

    #[test]
    fn words_in_messages_and_tests_are_spared() {
        let text = "fn f() { say(\"UPDATE the settings and try again; TcpListener\"); }\n\
                    fn interval_seconds() {}\n\
                    #[cfg(test)]\nmod tests { use std::sync::Mutex; }";
        assert_eq!(rules("doors/plane/src/flow.rs", text), Vec::<&str>::new());
    }
}
