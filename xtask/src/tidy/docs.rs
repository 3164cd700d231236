//! What a document names must exist: links, paths in backticks, and documents named in comments.

use super::Finding;
use super::tree::{File, Tree};

const RULE: &str = "documents name what exists";
const REASON: &str = "a page that points at what is gone teaches the reader not to trust it";
const PATH_ENDS: [&str; 12] = [
    ".rs", ".md", ".toml", ".json", ".py", ".sh", ".yml", ".lock", ".cedar", ".ts", ".svelte", "/",
];

pub fn guard(tree: &Tree) -> Vec<Finding> {
    let documents = tree
        .files
        .iter()
        .filter(|file| file.path.ends_with(".md"))
        .flat_map(|file| named_in_document(&file.text).map(move |(line, path)| (file, line, path)));
    let comments = tree.rust().flat_map(|(file, views)| {
        documents_named_in(&views.comments).map(move |(line, path)| (file, line, path))
    });
    documents
        .chain(comments)
        .filter(|(file, _, named)| !exists(tree, file, named))
        .map(|(file, line, named)| Finding {
            rule: RULE,
            path: file.path.clone(),
            line,
            what: named.text().to_owned(),
            reason: REASON,
            fix: "correct the path or remove the mention".to_owned(),
        })
        .collect()
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Named {
    /// From the document's own folder.
    Link(String),
    /// From the root, from the document's folder, or from a crate.
    Path(String),
}

impl Named {
    fn text(&self) -> &str {
        match self {
            Self::Link(path) | Self::Path(path) => path,
        }
    }
}

fn exists(tree: &Tree, file: &File, named: &Named) -> bool {
    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    match named {
        Named::Link(path) => match path.strip_prefix('/') {
            Some(from_root) => tree.exists(from_root),
            None => join(folder, path).is_some_and(|path| tree.exists(&path)),
        },
        Named::Path(path) => {
            let crate_folder = file.path.split_once("/src/").map(|(folder, _)| folder);
            tree.exists(path)
                || join(folder, path).is_some_and(|path| tree.exists(&path))
                || crate_folder.is_some_and(|folder| tree.exists(&format!("{folder}/{path}")))
                || !is_ours(tree, path)
        }
    }
}

/// A path of another tree (a user's `fleet/`, a system's `/etc`) is not ours to check. One whose
/// first folder we have is, and so is every Rust file.
fn is_ours(tree: &Tree, path: &str) -> bool {
    let first = path.split('/').next().unwrap_or_default();
    path.ends_with(".rs") || path.ends_with(".md") || tree.exists(first)
}

fn join(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn named_in_document(text: &str) -> impl Iterator<Item = (usize, Named)> {
    let mut fenced = false;
    text.lines()
        .enumerate()
        .filter(move |(_, line)| {
            let fence = line.trim_start().starts_with("```");
            fenced ^= fence;
            !fenced && !fence
        })
        .flat_map(|(at, line)| {
            links(line)
                .chain(code_paths(line))
                .map(move |n| (at + 1, n))
        })
}

fn links(line: &str) -> impl Iterator<Item = Named> {
    line.split("](").skip(1).filter_map(|rest| {
        let target = rest.split([')', ' ']).next()?;
        let path = target.split('#').next()?;
        let elsewhere = path.contains("://") || path.starts_with("mailto:");
        (!path.is_empty() && !elsewhere).then(|| Named::Link(path.to_owned()))
    })
}

fn code_paths(line: &str) -> impl Iterator<Item = Named> {
    line.split('`')
        .skip(1)
        .step_by(2)
        .filter(|text| {
            let plain = text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
            plain
                && text.contains('/')
                && !text.starts_with('/')
                && !text.starts_with("..")
                && PATH_ENDS.iter().any(|end| text.ends_with(end))
        })
        .map(|text| Named::Path(text.to_owned()))
}

/// A Markdown file named in a comment, with or without a folder.
fn documents_named_in(comments: &str) -> impl Iterator<Item = (usize, Named)> {
    comments.lines().enumerate().flat_map(|(at, line)| {
        line.split(|c: char| !(c.is_ascii_alphanumeric() || "._-/".contains(c)))
            .map(|word| word.trim_end_matches('.').trim_start_matches('/'))
            .filter(|word| word.ends_with(".md") && word.len() > 3)
            .map(move |word| (at + 1, Named::Path(word.to_owned())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(files: &[(&str, &str)]) -> Vec<String> {
        guard(&Tree::of(files))
            .into_iter()
            .map(|finding| finding.what)
            .collect()
    }

    #[test]
    fn dead_links_and_paths_are_found() {
        assert_eq!(
            missing(&[
                (
                    "docs/a.md",
                    "[x](gone.md#part) and `rooms/x/src/gone.rs`, `docs/gone/`, `flow/like.rs`",
                ),
                ("rooms/x/src/lib.rs", "//! See notes.md.\nfn f() {}"),
            ]),
            [
                "gone.md",
                "rooms/x/src/gone.rs",
                "docs/gone/",
                "flow/like.rs",
                "notes.md"
            ]
        );
    }

    #[test]
    fn what_exists_and_what_is_not_ours_is_spared() {
        assert_eq!(
            missing(&[
                ("docs/b.md", "x"),
                ("rooms/x/src/lib.rs", "//! See docs/b.md.\n"),
                (
                    "docs/a.md",
                    "[b](b.md#part) [c](../rooms/x/src/lib.rs) [d](https://e.org/f.md) [e](#here)\n\
                     `rooms/x/src/lib.rs` `docs/` `fleet/products/x.toml` `/etc/x.toml` `a/<b>.rs`\n\
                     ```\ncp `gone/x.rs` [y](gone.md)\n```\n",
                ),
            ]),
            Vec::<String>::new()
        );
    }
}
