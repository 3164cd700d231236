//! A room is a function of its arguments: what the code of words and rooms must not hold.

use super::Finding;
use super::source::{imports, lines_with};
use super::tree::Tree;

struct Absence {
    rule: &'static str,
    /// Whole words; a trailing `*` admits any end. Those with `::` are also sought in imports.
    needles: &'static [&'static str],
    reason: &'static str,
    fix: &'static str,
}

const ABSENT: &[Absence] = &[
    Absence {
        rule: "pure rooms: async",
        needles: &["async", "await", "Future", "tokio", "futures"],
        reason: "a decision that waits can be overtaken, and cannot be replayed",
        fix: "return a Need or an Effect and be called again",
    },
    Absence {
        rule: "pure rooms: clock",
        needles: &["SystemTime", "Instant", "::now"],
        reason: "the same input must give the same answer tomorrow",
        fix: "take `now: Timestamp`",
    },
    Absence {
        rule: "pure rooms: entropy",
        needles: &[
            "SystemRandom",
            "rand",
            "getrandom",
            "OsRng",
            "thread_rng",
            "RandomState",
            "rdrand",
        ],
        reason: "a whole fleet is simulated from one seed",
        fix: "take the random bytes as an argument",
    },
    Absence {
        rule: "pure rooms: sockets",
        needles: &[
            "std::net",
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "UnixStream",
        ],
        reason: "only doors and keeps touch the world",
        fix: "take the bytes; for an address as a value use core::net",
    },
    Absence {
        rule: "pure rooms: files",
        needles: &[
            "std::fs",
            "File::open",
            "File::create",
            "OpenOptions",
            "std::io",
        ],
        reason: "only doors and keeps touch the world",
        fix: "take the text or the bytes, return what to write",
    },
    Absence {
        rule: "pure rooms: processes and environment",
        needles: &["std::env", "std::process", "env::var"],
        reason: "a hidden argument is an argument nobody checks",
        fix: "take it as an argument; config is read once, in plane",
    },
    Absence {
        rule: "pure rooms: threads",
        needles: &["std::thread", "thread::spawn", "thread_local!"],
        reason: "concurrency lives in the shards, where it is tested as such",
        fix: "be a `&mut self` machine; a shard owns you",
    },
    Absence {
        rule: "pure rooms: locks and globals",
        needles: &[
            "Mutex",
            "RwLock",
            "Condvar",
            "Barrier",
            "OnceLock",
            "LazyLock",
            "OnceCell",
            "LazyCell",
            "Atomic*",
            "static mut",
            "lazy_static",
            "ArcSwap",
            "mpsc",
        ],
        reason: "shared state makes the answer depend on who else is calling",
        fix: "hold the state in the machine or take it as an argument",
    },
    Absence {
        rule: "pure rooms: log lines",
        needles: &[
            "println!",
            "eprintln!",
            "print!",
            "eprint!",
            "dbg!",
            "tracing",
            "log::",
            "warn!",
            "info!",
            "error!",
            "debug!",
            "trace!",
        ],
        reason: "what is worth saying is worth returning: the caller knows who must act",
        fix: "return a signal, a verdict or an error",
    },
    Absence {
        rule: "pure rooms: signing",
        needles: &[
            "KeyPair",
            "EcdsaKeyPair",
            "Ed25519KeyPair",
            "RsaKeyPair",
            "SigningKey",
            "PrivateKey*",
            ".sign(",
        ],
        reason: "private keys live in keeps/signer, which parses what it signs",
        fix: "return the bytes to be signed and assemble the answer",
    },
];

pub fn guard(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, views) in tree
        .product()
        .filter(|(file, _)| file.path.starts_with("words/") || file.path.starts_with("rooms/"))
    {
        let imported = imports(&views.product);
        for absence in ABSENT {
            for needle in absence.needles {
                let mut lines = lines_with(&views.product, needle);
                lines.extend(
                    imported
                        .iter()
                        .filter(|(_, path)| needle.contains("::") && brings(path, needle))
                        .map(|(line, _)| *line),
                );
                lines.sort_unstable();
                lines.dedup();
                findings.extend(lines.into_iter().map(|line| Finding {
                    rule: absence.rule,
                    path: file.path.clone(),
                    line,
                    what: (*needle).to_owned(),
                    reason: absence.reason,
                    fix: absence.fix.to_owned(),
                }));
            }
        }
    }
    findings
}

/// Does importing `path` bring in `banned` or something under it?
pub fn brings(path: &str, banned: &str) -> bool {
    path.strip_prefix(banned)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
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

    #[test]
    fn each_way_to_touch_the_world_is_refused() {
        for (text, kind) in [
            ("pub async fn f() {}", "async"),
            ("fn f() -> u64 { std::time::SystemTime::now(); 1 }", "clock"),
            ("fn f() { let x = Timestamp::now(); }", "clock"),
            ("use aws_lc_rs::rand::SystemRandom;", "entropy"),
            ("use std::{fmt, net::TcpStream};", "sockets"),
            ("use std::{fmt, fs};", "files"),
            (
                "fn f() { std::env::var(\"X\"); }",
                "processes and environment",
            ),
            ("fn f() { std::thread::sleep(d); }", "threads"),
            ("use std::sync::{Arc, Mutex};", "locks and globals"),
            (
                "static X: AtomicU64 = AtomicU64::new(0);",
                "locks and globals",
            ),
            ("static mut X: u8 = 0;", "locks and globals"),
            ("fn f() { println!(\"x\"); }", "log lines"),
            ("fn f() { tracing::info!(\"x\"); }", "log lines"),
            ("fn f(k: &EcdsaKeyPair) {}", "signing"),
            ("fn f(k: K) { k.sign(b\"x\"); }", "signing"),
        ] {
            let found = rules("rooms/x/src/lib.rs", text);
            assert!(
                found.contains(&format!("pure rooms: {kind}").as_str()),
                "{text}: {found:?}"
            );
        }
    }

    #[test]
    fn a_pure_room_its_comments_and_its_tests_are_spared() {
        let text = "//! Never a Mutex, a SystemTime or std::fs.\n\
                    use std::sync::Arc;\nuse core::net::IpAddr;\n\
                    fn f(now: Timestamp, signature: &[u8]) -> &'static str { \"tracing async\" }\n\
                    fn brand() { unsigned.assign(1); verify(x); }\n\
                    #[cfg(test)]\nmod tests { use std::fs; fn g() { println!(\"x\"); } }\n";
        assert_eq!(rules("rooms/x/src/lib.rs", text), Vec::<&str>::new());
    }

    #[test]
    fn doors_and_keeps_may_touch_the_world() {
        let text = "use std::fs; use std::sync::Mutex; async fn f() {}";
        assert_eq!(rules("doors/plane/src/api/x.rs", text), Vec::<&str>::new());
        assert_eq!(rules("keeps/store/src/x.rs", text), Vec::<&str>::new());
    }
}
