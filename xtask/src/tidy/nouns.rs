//! A noun enters `model` when two rooms exchange it.

use super::Finding;
use super::source::{imports, lines_with};
use super::tree::Tree;
use std::collections::BTreeSet;

const LIB: &str = "words/model/src/lib.rs";

pub fn guard(tree: &Tree) -> Vec<Finding> {
    let Some((_, model)) = tree.rust().find(|(file, _)| file.path == LIB) else {
        return Vec::new();
    };
    exported(&model.product)
        .into_iter()
        .filter_map(|(line, noun)| {
            let users: BTreeSet<&str> = tree
                .product()
                .filter(|(file, _)| !file.path.starts_with("words/model/"))
                .filter(|(_, views)| !lines_with(&views.product, &noun).is_empty())
                .filter_map(|(file, _)| file.path.split_once("/src/"))
                .map(|(folder, _)| folder)
                .collect();
            (users.len() < 2).then(|| Finding {
                rule: "nouns of two rooms",
                path: LIB.to_owned(),
                line,
                what: noun,
                reason: "model holds what rooms exchange; anything else fills it up",
                fix: match users.first() {
                    Some(only) => format!("move it into {only}, its only user"),
                    None => "remove it until two crates use it".to_owned(),
                },
            })
        })
        .collect()
}

/// The names of `pub use` at the top of the crate.
fn exported(code: &str) -> Vec<(usize, String)> {
    imports(code)
        .into_iter()
        .filter_map(|(line, path)| Some((line, path.rsplit("::").next()?.to_owned())))
        .filter(|(_, name)| name.starts_with(char::is_uppercase))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lonely(files: &[(&str, &str)]) -> Vec<String> {
        let model = (LIB, "mod names;\npub use names::{DeviceId, TenantId};");
        let files: Vec<_> = files.iter().copied().chain([model]).collect();
        guard(&Tree::of(&files))
            .into_iter()
            .map(|finding| finding.what)
            .collect()
    }

    #[test]
    fn a_noun_of_one_crate_or_none_is_refused() {
        assert_eq!(lonely(&[]), ["DeviceId", "TenantId"]);
        assert_eq!(
            lonely(&[
                ("rooms/a/src/lib.rs", "use model::DeviceId;"),
                ("rooms/a/src/b.rs", "use model::{DeviceId, TenantId};"),
                (
                    "rooms/c/src/lib.rs",
                    "// TenantId\n#[cfg(test)] mod t { use model::TenantId; }"
                ),
            ]),
            ["DeviceId", "TenantId"]
        );
    }

    #[test]
    fn a_noun_of_two_crates_is_spared() {
        assert_eq!(
            lonely(&[
                ("rooms/a/src/lib.rs", "use model::{DeviceId, TenantId};"),
                (
                    "keeps/b/src/lib.rs",
                    "fn f(d: &model::DeviceId, t: &model::TenantId) {}"
                ),
            ]),
            Vec::<String>::new()
        );
    }
}
