//! The rules of the house as tests, each with its reason.
//!
//! A guard is a function from the tree to findings. Tests feed each guard a small tree that it
//! must refuse and one that it must spare, so a guard that no longer bites fails first.

mod charter;
mod docs;
mod edges;
mod exceptions;
mod nouns;
mod places;
mod purity;
mod size;
mod source;
mod tree;
mod words;

use exceptions::Exception;
use std::fmt;
use std::path::Path;
use tree::Tree;

/// One place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub rule: &'static str,
    /// From the root of the repository.
    pub path: String,
    /// 1-based; 0 when the whole file is meant.
    pub line: usize,
    /// What stands there: a word, a name, a path. Exceptions name it.
    pub what: String,
    pub reason: &'static str,
    pub fix: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rule,
            path,
            line,
            what,
            reason,
            fix,
        } = self;
        write!(f, "{path}:{line}: {rule}: `{what}` — {reason} — {fix}")
    }
}

const GUARDS: [fn(&Tree) -> Vec<Finding>; 8] = [
    edges::guard,
    purity::guard,
    places::guard,
    nouns::guard,
    docs::guard,
    words::guard,
    size::guard,
    charter::guard,
];

/// Every finding in the tree at `root` that no exception covers, in the order of paths.
///
/// # Errors
/// If the tree cannot be read or `cargo metadata` fails.
pub fn check(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let tree = Tree::read(root)?;
    Ok(judge(&tree, exceptions::EXCEPTIONS))
}

fn judge(tree: &Tree, exceptions: &[Exception]) -> Vec<Finding> {
    let found: Vec<Finding> = GUARDS.iter().flat_map(|guard| guard(tree)).collect();
    let stale = exceptions
        .iter()
        .filter(|exception| !found.iter().any(|finding| exception.covers(finding)))
        .map(Exception::stale);
    let mut findings: Vec<Finding> = found
        .iter()
        .filter(|finding| !exceptions.iter().any(|exception| exception.covers(finding)))
        .cloned()
        .chain(stale)
        .collect();
    findings.sort_by(|a, b| (&a.path, a.line, &a.what).cmp(&(&b.path, b.line, &b.what)));
    findings.dedup();
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: &[(&str, &str)] = &[("rooms/x/src/clock.rs", "fn f() { Instant::now(); }")];

    #[test]
    fn an_exception_spares_what_it_names_and_nothing_else() {
        let exception = |what| Exception {
            rule: "pure rooms: clock",
            path: "rooms/x/src/clock.rs",
            what,
            reason: "for the test",
        };
        let tree = Tree::of(BAD);
        assert_eq!(
            judge(&tree, &[exception("Instant"), exception("::now")]).len(),
            0
        );
        let one = judge(&tree, &[exception("Instant")]);
        assert!(one.iter().all(|finding| finding.what == "::now"), "{one:?}");
        assert_eq!(one.len(), 1);
    }

    #[test]
    fn an_exception_that_matches_nothing_is_itself_a_finding() {
        let tree = Tree::of(&[]);
        let findings = judge(
            &tree,
            &[Exception {
                rule: "pure rooms: clock",
                path: "rooms/x/src/gone.rs",
                what: "Instant",
                reason: "for the test",
            }],
        );
        assert_eq!(findings.len(), 1);
        assert!(findings.iter().all(|f| f.rule == "stale exception"));
    }

    #[test]
    fn every_exception_of_the_house_gives_a_reason() {
        for exception in exceptions::EXCEPTIONS {
            assert!(exception.reason.len() > 20, "{exception:?}");
        }
    }

    #[test]
    fn a_finding_says_where_which_rule_why_and_what_to_do() {
        let finding = Finding {
            rule: "rule",
            path: "a/b.rs".to_owned(),
            line: 7,
            what: "x".to_owned(),
            reason: "because",
            fix: "do this".to_owned(),
        };
        assert_eq!(
            finding.to_string(),
            "a/b.rs:7: rule: `x` — because — do this"
        );
    }
}
