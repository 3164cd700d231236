//! Rust text as the guards see it: code without comments and strings, strings without code.
//!
//! A hand-written lexer, not a parser: a guard must run in a second, on text that may not
//! compile, and its findings need a line, not a type. Every view keeps the line breaks of the
//! original, so a line number found in one holds in all.

/// One Rust file in its views, all of the same lines.
#[derive(Debug, Clone, Default)]
pub struct Views {
    /// Without comments, literals and test items: what runs in the product.
    pub product: String,
    /// Without comments and literals, tests included.
    pub code: String,
    /// The string literals of the product alone.
    pub strings: String,
    /// The comments alone, doc comments included.
    pub comments: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Text,
}

impl Views {
    pub fn of(text: &str) -> Self {
        let characters: Vec<char> = text.chars().collect();
        let kinds = classify(&characters);
        let view = |wanted: Kind| -> String {
            characters
                .iter()
                .zip(&kinds)
                .map(|(c, kind)| {
                    if *kind == wanted || *c == '\n' {
                        *c
                    } else {
                        ' '
                    }
                })
                .collect()
        };
        let code = view(Kind::Code);
        let tests = test_spans(&code);
        Self {
            product: blank(&code, &tests),
            strings: blank(&view(Kind::Text), &tests),
            comments: view(Kind::Comment),
            code,
        }
    }
}

/// Lines and columns of a view are characters, so spans are too.
fn blank(view: &str, spans: &[(usize, usize)]) -> String {
    view.chars()
        .enumerate()
        .map(|(at, c)| {
            if c != '\n' && spans.iter().any(|(from, to)| (*from..*to).contains(&at)) {
                ' '
            } else {
                c
            }
        })
        .collect()
}

fn classify(characters: &[char]) -> Vec<Kind> {
    let peek = |at: usize| characters.get(at).copied().unwrap_or('\0');
    let mut kinds = Vec::with_capacity(characters.len());
    let mut at = 0;
    while at < characters.len() {
        let identifier_before = at
            .checked_sub(1)
            .is_some_and(|before| is_word(peek(before)));
        let (kind, end) = match peek(at) {
            '/' if peek(at + 1) == '/' => (Kind::Comment, line_end(characters, at)),
            '/' if peek(at + 1) == '*' => (Kind::Comment, block_comment_end(characters, at)),
            '"' => (Kind::Text, string_end(characters, at)),
            'b' | 'c' | 'r' if !identifier_before => match prefixed_literal_end(characters, at) {
                Some(end) => (Kind::Text, end),
                None => (Kind::Code, at + 1),
            },
            '\'' => match character_end(characters, at) {
                Some(end) => (Kind::Text, end),
                None => (Kind::Code, at + 1),
            },
            _ => (Kind::Code, at + 1),
        };
        let end = end.min(characters.len());
        kinds.resize(end, kind);
        at = end;
    }
    kinds
}

fn line_end(characters: &[char], from: usize) -> usize {
    (from..characters.len())
        .find(|at| characters.get(*at) == Some(&'\n'))
        .unwrap_or(characters.len())
}

fn block_comment_end(characters: &[char], from: usize) -> usize {
    let (mut depth, mut at) = (0_usize, from);
    while at < characters.len() {
        match (characters.get(at), characters.get(at + 1)) {
            (Some('/'), Some('*')) => (depth, at) = (depth + 1, at + 2),
            (Some('*'), Some('/')) => (depth, at) = (depth.saturating_sub(1), at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_end(characters: &[char], quote: usize) -> usize {
    let mut at = quote + 1;
    while let Some(c) = characters.get(at) {
        match c {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// `b"..."`, `c"..."`, `b'x'`, `r"..."`, `r#"..."#`, `br#"..."#`; `None` for an identifier.
fn prefixed_literal_end(characters: &[char], from: usize) -> Option<usize> {
    let peek = |at: usize| characters.get(at).copied().unwrap_or('\0');
    let mut at = from;
    let mut raw = false;
    while matches!(peek(at), 'b' | 'c' | 'r') && at < from + 2 {
        raw |= peek(at) == 'r';
        at += 1;
    }
    if !raw {
        return match peek(at) {
            '"' => Some(string_end(characters, at)),
            '\'' => character_end(characters, at),
            _ => None,
        };
    }
    let hashes = (at..).take_while(|at| peek(*at) == '#').count();
    if peek(at + hashes) != '"' {
        return None; // r#identifier
    }
    let mut end = at + hashes + 1;
    while end < characters.len() {
        if peek(end) == '"' && (1..=hashes).all(|offset| peek(end + offset) == '#') {
            return Some(end + hashes + 1);
        }
        end += 1;
    }
    Some(end)
}

/// `None` for a lifetime.
fn character_end(characters: &[char], quote: usize) -> Option<usize> {
    match characters.get(quote + 1)? {
        '\\' => (quote + 3..(quote + 14))
            .find(|at| characters.get(*at) == Some(&'\''))
            .map(|at| at + 1),
        _ => (characters.get(quote + 2) == Some(&'\'')).then_some(quote + 3),
    }
}

/// The items under `#[cfg(test)]` (also inside `all(..)`), from the attribute to their end.
fn test_spans(code: &str) -> Vec<(usize, usize)> {
    let characters: Vec<char> = code.chars().collect();
    let mut spans = Vec::new();
    let mut at = 0;
    while at < characters.len() {
        if characters.get(at) != Some(&'#') {
            at += 1;
            continue;
        }
        let end = attribute_end(&characters, at);
        let attribute: String = characters
            .get(at..end)
            .unwrap_or_default()
            .iter()
            .filter(|c| !c.is_whitespace())
            .collect();
        if attribute == "#![cfg(test)]" {
            return vec![(0, characters.len())];
        }
        if attribute == "#[cfg(test)]" || attribute.starts_with("#[cfg(all(test,") {
            let item_end = item_end(&characters, end);
            spans.push((at, item_end));
            at = item_end;
        } else {
            at = end.max(at + 1);
        }
    }
    spans
}

fn attribute_end(characters: &[char], from: usize) -> usize {
    let mut depth = 0_usize;
    for at in from + 1..characters.len() {
        match characters.get(at) {
            Some('[') => depth += 1,
            Some(']') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            Some('!') => {}
            Some(c) if depth == 0 && !c.is_whitespace() => return at, // not an attribute
            _ => {}
        }
    }
    characters.len()
}

/// After the first `;` or the closing brace that brings the nesting back to nothing.
fn item_end(characters: &[char], from: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = from;
    while let Some(c) = characters.get(at) {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && *c == '}' {
                    return at + 1;
                }
            }
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
        at += 1;
    }
    at
}

pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// 1-based lines where `needle` stands as whole words. A needle may hold `::`, `!` or `(`; a
/// trailing `*` admits any end of the word.
pub fn lines_with(view: &str, needle: &str) -> Vec<usize> {
    let (needle, open_end) = match needle.strip_suffix('*') {
        Some(stem) => (stem, true),
        None => (needle, false),
    };
    let starts_word = needle.chars().next().is_some_and(is_word);
    let ends_word = needle.chars().next_back().is_some_and(is_word) && !open_end;
    view.lines()
        .enumerate()
        .filter(|(_, line)| {
            line.match_indices(needle).any(|(at, found)| {
                let before = line.get(..at).and_then(|text| text.chars().next_back());
                let after = line
                    .get(at + found.len()..)
                    .and_then(|text| text.chars().next());
                let inside_a_word = starts_word && before.is_some_and(is_word)
                    || ends_word && after.is_some_and(is_word);
                !inside_a_word
            })
        })
        .map(|(number, _)| number + 1)
        .collect()
}

/// The full paths that `use` items bring in, groups spelled out: `(line, "std::fs::File")`.
pub fn imports(view: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let characters: Vec<char> = view.chars().collect();
    let mut line = 1;
    let mut at = 0;
    while let Some(c) = characters.get(at) {
        let word_starts = at
            .checked_sub(1)
            .and_then(|before| characters.get(before))
            .is_none_or(|before| !is_word(*before));
        if word_starts && characters.get(at..at + 4) == Some(&['u', 's', 'e', ' ']) {
            let end = (at..characters.len())
                .find(|end| characters.get(*end) == Some(&';'))
                .unwrap_or(characters.len());
            let tree: String = characters
                .get(at + 4..end)
                .unwrap_or_default()
                .iter()
                .collect();
            for path in expand("", &tree) {
                found.push((line, path));
            }
        }
        if *c == '\n' {
            line += 1;
        }
        at += 1;
    }
    found
}

fn expand(prefix: &str, tree: &str) -> Vec<String> {
    let tree = tree.trim();
    match tree.find('{') {
        Some(open) => {
            let stem = tree.get(..open).unwrap_or_default().trim();
            let inner = tree
                .get(open + 1..)
                .unwrap_or_default()
                .trim_end()
                .strip_suffix('}')
                .unwrap_or_default();
            split_top(inner)
                .into_iter()
                .flat_map(|part| expand(&format!("{prefix}{stem}"), part))
                .collect()
        }
        None => {
            let path = tree.split(" as ").next().unwrap_or_default().trim();
            let path = path.strip_prefix("::").unwrap_or(path);
            if path.is_empty() {
                Vec::new()
            } else if path == "self" {
                vec![prefix.trim_end_matches("::").to_owned()]
            } else {
                vec![format!("{prefix}{path}")]
            }
        }
    }
}

fn split_top(list: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0_usize, 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(list.get(from..at).unwrap_or_default());
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(list.get(from..).unwrap_or_default());
    parts
}

/// `(line, name, lines)` of each function with a body.
pub fn functions(view: &str) -> Vec<(usize, String, usize)> {
    let characters: Vec<char> = view.chars().collect();
    declared(view, "fn")
        .into_iter()
        .filter_map(|(line, at, name)| {
            let end = item_end(&characters, at);
            let body = characters.get(at..end)?;
            body.contains(&'{')
                .then(|| (line, name, 1 + body.iter().filter(|c| **c == '\n').count()))
        })
        .collect()
}

/// Names that `keyword` declares: `(line, character, name)`.
pub fn declared(view: &str, keyword: &str) -> Vec<(usize, usize, String)> {
    let characters: Vec<char> = view.chars().collect();
    let keyword: Vec<char> = keyword.chars().chain([' ']).collect();
    let (mut found, mut line) = (Vec::new(), 1);
    for (at, c) in characters.iter().enumerate() {
        if *c == '\n' {
            line += 1;
        }
        let word_starts = at
            .checked_sub(1)
            .and_then(|before| characters.get(before))
            .is_none_or(|before| !is_word(*before));
        if word_starts && characters.get(at..at + keyword.len()) == Some(keyword.as_slice()) {
            let name: String = characters
                .get(at + keyword.len()..)
                .unwrap_or_default()
                .iter()
                .skip_while(|c| c.is_whitespace())
                .take_while(|c| is_word(**c))
                .collect();
            if !name.is_empty() {
                found.push((line, at, name));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_not_code() {
        let views = Views::of(
            "let a = \"Mutex // no\"; // Mutex\n/* RwLock /* nested */ still */ let b = 'x';\n\
             let c = r#\"std::fs \" in\"#; fn f<'a>(x: &'a str) {} let d = b\"Instant\"; let e = '\\'';g()",
        );
        for word in ["Mutex", "RwLock", "still", "std::fs", "Instant", "no"] {
            assert!(lines_with(&views.code, word).is_empty(), "{word}");
        }
        assert_eq!(lines_with(&views.code, "fn f<'a>(x: &'a str)"), [3]);
        assert_eq!(lines_with(&views.code, "g()"), [3]);
        assert_eq!(lines_with(&views.strings, "Mutex"), [1]);
        assert_eq!(lines_with(&views.comments, "RwLock"), [2]);
        assert_eq!(views.code.lines().count(), 3);
    }

    #[test]
    fn test_items_are_not_product_and_what_follows_them_is() {
        let views = Views::of(
            "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() { { } }\n}\n#[cfg(test)]\nuse x::{y};\n\
             #[cfg(not(test))]\nfn c() {}\n#[cfg(test)]\n#[derive(Debug)]\nstruct D(u8);\nfn e() {}",
        );
        for (word, present) in [
            ("fn a", true),
            ("fn b", false),
            ("use x", false),
            ("fn c", true),
            ("struct D", false),
            ("fn e", true),
        ] {
            assert_eq!(
                !lines_with(&views.product, word).is_empty(),
                present,
                "{word}"
            );
        }
        assert_eq!(lines_with(&views.code, "fn b"), [4]);
    }

    #[test]
    fn a_grouped_import_cannot_hide_a_path() {
        let paths: Vec<String> =
            imports("use std::{fmt, fs::{self, File as F}, net};\nuse ::tokio::time;\n")
                .into_iter()
                .map(|(_, path)| path)
                .collect();
        assert_eq!(
            paths,
            [
                "std::fmt",
                "std::fs",
                "std::fs::File",
                "std::net",
                "tokio::time"
            ]
        );
    }

    #[test]
    fn words_are_whole_words() {
        assert!(lines_with("let grand = 1;", "rand").is_empty());
        assert!(lines_with("use randomness;", "rand").is_empty());
        assert_eq!(lines_with("rand::random()", "rand"), [1]);
        assert_eq!(lines_with("a: AtomicU64", "Atomic*"), [1]);
    }

    #[test]
    fn a_function_is_measured_from_its_name_to_its_brace() {
        let text = "fn a(x: [u8; 4]) -> u8 {\n    1\n}\ntrait T { fn none(&self); }\n";
        let measured = functions(&Views::of(text).code);
        assert!(measured.contains(&(1, "a".to_owned(), 3)), "{measured:?}");
        assert!(!measured.iter().any(|(_, name, _)| name == "none"));
    }
}
