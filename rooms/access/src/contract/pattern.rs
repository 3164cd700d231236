//! Patterns of JSON Schema (ECMA-262) as automata that look at each byte once, whatever it is.
//!
//! What cannot be said by an automaton (looking around, back-references) or only by a large one is
//! refused when the fleet is read. An automaton is immutable: matching needs no memory and no lock.

use super::values::Marks;
use regex_automata::MatchKind;
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::primitives::StateID;
use regex_automata::util::{start, syntax};
use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

#[derive(Debug)]
pub(crate) struct Pattern {
    kind: Kind,
    /// As it was written.
    source: Box<str>,
}

#[derive(Debug)]
enum Kind {
    /// The whole text is so many of these bytes, as in most patterns of identifiers: told without an
    /// automaton's tables, which have to be fetched.
    Run {
        bytes: Marks,
        min: usize,
        max: usize,
    },
    Automaton(Box<Begun>),
}

#[derive(Debug)]
struct Begun {
    automaton: dense::DFA<Vec<u32>>,
    /// Before the first byte.
    start: StateID,
}

/// Why a pattern is not taken, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PatternFault {
    pub message: String,
    pub help: &'static str,
}

const CHARACTERS_MAX: usize = 1000;
const AUTOMATON_BYTES_MAX: usize = 512 * 1024;
/// What making it may take.
const WORK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of a longest run that is told without an automaton.
const RUN_MAX: usize = 4096;
/// Parentheses in each other.
const NESTING_MAX: u32 = 50;

const SPACE: &str = r"\t\n\x0B\x0C\r \u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}";

impl Pattern {
    pub fn new(source: &str) -> Result<Self, PatternFault> {
        let automaton = automaton(source)?;
        let start = automaton
            .start_state(&start::Config::new())
            .map_err(|error| PatternFault {
                message: format!("this pattern has no beginning: {error}"),
                help: "write a regular expression of ECMA-262",
            })?;
        let kind = (run(&automaton, start))
            .unwrap_or_else(|| Kind::Automaton(Box::new(Begun { automaton, start })));
        Ok(Self {
            kind,
            source: source.into(),
        })
    }

    /// Whether it matches anywhere in a text, which is UTF-8.
    pub fn matches(&self, text: &[u8]) -> bool {
        match &self.kind {
            Kind::Run { bytes, min, max } => {
                let has = |byte: &u8| bytes.has(usize::from(*byte));
                (*min..=*max).contains(&text.len()) && text.iter().all(has)
            }
            Kind::Automaton(begun) => begun.matches(text),
        }
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        match &self.kind {
            Kind::Run { .. } => size_of::<Self>(),
            Kind::Automaton(begun) => begun.automaton.memory_usage(),
        }
    }
}

impl Begun {
    fn matches(&self, text: &[u8]) -> bool {
        let mut state = self.start;
        for byte in text {
            state = self.automaton.next_state(state, *byte);
            if self.automaton.is_special_state(state) {
                // It says so one byte late. What ends within a character is an empty match there,
                // where ECMA sees no place.
                if self.automaton.is_match_state(state) && byte & 0xc0 != 0x80 {
                    return true;
                }
                if self.automaton.is_dead_state(state) {
                    return false;
                }
            }
        }
        (self.automaton).is_match_state(self.automaton.next_eoi_state(state))
    }
}

fn automaton(source: &str) -> Result<dense::DFA<Vec<u32>>, PatternFault> {
    if source.chars().count() > CHARACTERS_MAX {
        return Err(PatternFault {
            message: format!("a pattern has at most {CHARACTERS_MAX} characters"),
            help: "use enum for a list of words",
        });
    }
    let translated = Translator {
        rest: source.chars().peekable(),
        out: String::new(),
    }
    .translate()?;
    dense::Builder::new()
        .configure(
            dense::Config::new()
                .start_kind(StartKind::Unanchored)
                .match_kind(MatchKind::All)
                .accelerate(false)
                .dfa_size_limit(Some(AUTOMATON_BYTES_MAX))
                .determinize_size_limit(Some(WORK_BYTES_MAX)),
        )
        .thompson(
            thompson::Config::new()
                .which_captures(WhichCaptures::None)
                .nfa_size_limit(Some(WORK_BYTES_MAX)),
        )
        .syntax(syntax::Config::new().utf8(false).nest_limit(NESTING_MAX))
        .build(&translated)
        .map_err(|error| fault(&error))
}

/// If all that an automaton knows is how often one set of bytes may stand there.
fn run(automaton: &dense::DFA<Vec<u32>>, start: StateID) -> Option<Kind> {
    let mut state = start;
    let mut run = None;
    let mut lengths: Option<(usize, usize)> = None;
    for length in 0..RUN_MAX {
        let ends = automaton.is_match_state(automaton.next_eoi_state(state));
        if ends {
            let (min, max) = lengths.unwrap_or((length, length));
            // Some lengths between are none.
            if length > max + 1 {
                return None;
            }
            lengths = Some((min, length));
        }
        let (mut bytes, mut next) = (Marks::default(), None);
        for byte in 0..=u8::MAX {
            let to = automaton.next_state(state, byte);
            if automaton.is_dead_state(to) {
                continue;
            }
            if automaton.is_special_state(to) || *next.get_or_insert(to) != to {
                return None;
            }
            bytes.add(usize::from(byte));
        }
        let Some(next) = next else {
            let (min, max) = lengths?;
            let bytes = run.unwrap_or_default();
            return Some(Kind::Run { bytes, min, max });
        };
        if *run.get_or_insert(bytes) != bytes {
            return None;
        }
        if next == state {
            let (min, max) = (lengths?.0, usize::MAX);
            return ends.then_some(Kind::Run { bytes, min, max });
        }
        state = next;
    }
    None
}

fn fault(error: &dense::BuildError) -> PatternFault {
    use std::error::Error;
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        reason = inner.to_string();
        source = inner.source();
    }
    if error.is_size_limit_exceeded() || reason.contains("limit") {
        return PatternFault {
            message: "this pattern needs an automaton of more than 512 KiB".to_owned(),
            help: "begin it with ^, repeat less often, and bound lengths by maxLength instead of {n,m}",
        };
    }
    PatternFault {
        message: format!(
            "this is no pattern: {}",
            reason.lines().last().unwrap_or_default()
        ),
        help: "write a regular expression of ECMA-262",
    }
}

/// From ECMA-262's syntax to that of the automata's compiler. What the two read differently is
/// spelled out; groups capture nothing.
struct Translator<'s> {
    rest: Peekable<Chars<'s>>,
    out: String,
}

impl Translator<'_> {
    fn translate(mut self) -> Result<String, PatternFault> {
        while let Some(character) = self.rest.next() {
            match character {
                '\\' => self.escape()?,
                '[' => self.class()?,
                '(' => self.group()?,
                '.' => self.out.push_str(r"[^\n\r\u{2028}\u{2029}]"),
                '^' => self.out.push_str(r"\A"),
                '$' => self.out.push_str(r"\z"),
                ')' | '|' | '*' | '+' | '?' => self.out.push(character),
                '{' => self.count()?,
                other => self.literal(other),
            }
        }
        Ok(self.out)
    }

    /// `{n}`, `{n,}` or `{n,m}`.
    fn count(&mut self) -> Result<(), PatternFault> {
        let count: String = self
            .rest
            .by_ref()
            .take_while(|c| *c != '}')
            .take(24)
            .collect();
        let (min, max) = count.split_once(',').unwrap_or((&count, ""));
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if min.is_empty() || !is_number(min) || !is_number(max) {
            return refuse(
                "a { begins no repetition",
                "write {n}, {n,} or {n,m}, or \\{ for a brace",
            );
        }
        let _ = write!(self.out, "{{{count}}}");
        Ok(())
    }

    fn group(&mut self) -> Result<(), PatternFault> {
        self.out.push_str("(?:");
        if self.rest.peek() != Some(&'?') {
            return Ok(());
        }
        self.rest.next();
        match self.rest.next() {
            Some(':') => Ok(()),
            Some('<') if !matches!(self.rest.peek(), Some('=' | '!')) => {
                // A name, which nothing refers to.
                for character in self.rest.by_ref() {
                    if character == '>' {
                        return Ok(());
                    }
                }
                refuse("a group's name has no end", "close it with >")
            }
            _ => refuse(
                "looking ahead or behind and flags are not available",
                "say what may stand there instead: one pattern in allOf for each condition",
            ),
        }
    }

    fn escape(&mut self) -> Result<(), PatternFault> {
        match self.rest.peek() {
            Some('b') => self.out.push_str(r"(?-u:\b)"),
            Some('B') => self.out.push_str(r"(?-u:\B)"),
            Some('1'..='9' | 'k') => {
                return refuse(
                    "a pattern cannot refer back to what a group matched",
                    "say what may stand there instead",
                );
            }
            _ => {
                match self.class_escape()? {
                    Item::Class { ranges, is_negated } => {
                        let sign = if is_negated { "^" } else { "" };
                        let _ = write!(self.out, "[{sign}{ranges}]");
                    }
                    Item::Character(character) => self.literal(character),
                }
                return Ok(());
            }
        }
        self.rest.next();
        Ok(())
    }

    /// What stands behind a backslash, in a class or outside of one.
    fn class_escape(&mut self) -> Result<Item, PatternFault> {
        let class = |ranges, is_negated| Ok(Item::Class { ranges, is_negated });
        let character = match self.rest.next() {
            Some('d') => return class("0-9", false),
            Some('D') => return class("0-9", true),
            Some('w') => return class("A-Za-z0-9_", false),
            Some('W') => return class("A-Za-z0-9_", true),
            Some('s') => return class(SPACE, false),
            Some('S') => return class(SPACE, true),
            Some('t') => '\t',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('v') => '\u{b}',
            Some('f') => '\u{c}',
            Some('0') => '\0',
            Some('x') => self.hexadecimal(2)?,
            Some('u') => self.unicode()?,
            Some(other) if !other.is_alphanumeric() => other,
            Some('p' | 'P') => {
                return refuse(
                    "classes of Unicode make large automata and are not available",
                    "list the characters in [ ]",
                );
            }
            _ => {
                return refuse(
                    "no such escape in a pattern",
                    "escape only what has a meaning of its own",
                );
            }
        };
        Ok(Item::Character(character))
    }

    fn unicode(&mut self) -> Result<char, PatternFault> {
        if self.rest.peek() != Some(&'{') {
            return self.hexadecimal(4);
        }
        self.rest.next();
        let digits: String = self
            .rest
            .by_ref()
            .take_while(|c| *c != '}')
            .take(7)
            .collect();
        let code = u32::from_str_radix(&digits, 16).ok();
        (code.and_then(char::from_u32)).map_or_else(|| refuse(NO_CHARACTER, NO_CHARACTER_HELP), Ok)
    }

    fn hexadecimal(&mut self, digits: usize) -> Result<char, PatternFault> {
        let digits: String = self.rest.by_ref().take(digits).collect();
        let code = u32::from_str_radix(&digits, 16).ok();
        (code.and_then(char::from_u32)).map_or_else(|| refuse(NO_CHARACTER, NO_CHARACTER_HELP), Ok)
    }

    fn class(&mut self) -> Result<(), PatternFault> {
        self.out.push('[');
        if self.rest.peek() == Some(&'^') {
            self.rest.next();
            self.out.push('^');
        }
        if self.rest.peek() == Some(&']') {
            return refuse("an empty class", "say what may stand there");
        }
        loop {
            match self.class_item()? {
                None => break,
                Some(Item::Class { ranges, is_negated }) => {
                    let sign = if is_negated { "^" } else { "" };
                    let _ = write!(self.out, "[{sign}{ranges}]");
                }
                Some(Item::Character(from)) => {
                    let _ = write!(self.out, "\\u{{{:x}}}", u32::from(from));
                    let mut ahead = self.rest.clone();
                    if ahead.next() == Some('-') && ahead.peek().is_some_and(|next| *next != ']') {
                        self.rest = ahead;
                        let Some(Item::Character(to)) = self.class_item()? else {
                            return refuse(
                                "a range from a character to a class",
                                "write the - first or last in [ ]",
                            );
                        };
                        let _ = write!(self.out, "-\\u{{{:x}}}", u32::from(to));
                    }
                }
            }
        }
        self.out.push(']');
        Ok(())
    }

    fn class_item(&mut self) -> Result<Option<Item>, PatternFault> {
        match self.rest.next() {
            None => refuse("a class has no end", "close it with ]"),
            Some(']') => Ok(None),
            Some('\\') if self.rest.peek() == Some(&'b') => {
                self.rest.next();
                Ok(Some(Item::Character('\u{8}')))
            }
            Some('\\') => self.class_escape().map(Some),
            Some(other) => Ok(Some(Item::Character(other))),
        }
    }

    fn literal(&mut self, character: char) {
        let _ = write!(self.out, "\\u{{{:x}}}", u32::from(character));
    }
}

enum Item {
    Character(char),
    Class {
        ranges: &'static str,
        is_negated: bool,
    },
}

const NO_CHARACTER: &str = "this code is no character";
const NO_CHARACTER_HELP: &str = "write the character itself; half of a surrogate pair is none";

fn refuse<T>(message: &str, help: &'static str) -> Result<T, PatternFault> {
    Err(PatternFault {
        message: message.to_owned(),
        help,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex_automata::Input;

    fn is_match(pattern: &str, text: &str) -> bool {
        Pattern::new(pattern).unwrap().matches(text.as_bytes())
    }

    #[test]
    fn a_pattern_means_what_ecma_says() {
        for (pattern, text, expected) in [
            ("^a*$", "aaa", true),
            ("a+", "xaax", true),
            ("^\\d{3}$", "123", true),
            ("^\\d$", "٣", false),
            ("^\\w+$", "é", false),
            ("^\\W$", "é", true),
            ("^.$", "\u{1f600}", true),
            ("^.$", "\n", false),
            ("^\\s$", "\u{feff}", true),
            ("^\\S$", "\u{a0}", false),
            ("^[a&&b]+$", "a&b", true),
            ("^[a-c-]+$", "b-", true),
            ("^[^\\d]$", "x", true),
            ("^[\\d\\-x]+$", "1-x", true),
            ("^[[]$", "[", true),
            ("^(?<year>\\d{4})$", "2026", true),
            ("\\bend\\b", "the end.", true),
            ("\\bend\\b", "bending", false),
            ("^\\u0041\\x42$", "AB", true),
            ("^a|b$", "ab", true),
            ("^(?:a|b)$", "ab", false),
            ("a\\/b", "a/b", true),
            ("^$", "", true),
            ("^$", "\n", false),
            ("", "anything", true),
            ("#&~-", "#&~-", true),
        ] {
            assert_eq!(is_match(pattern, text), expected, "{pattern} on {text:?}");
        }
    }

    /// Against the search of the library that made the automaton.
    #[test]
    fn a_pattern_is_found_where_the_library_finds_it() {
        let patterns = [
            "",
            "^$",
            "^x*$",
            "x",
            "é",
            "\\b",
            "\\B",
            "^\\B",
            "\\B$",
            "x\\B",
            "(?:xé)+",
            "[^x]x",
            ".$",
            "\\w\\b",
            "^(?:x|é|\\s){2,3}$",
            "\\S\\s",
            "^[x ]*$",
            "^[x\\s]+$",
            "^[x ]{2,3}$",
            "^x?$",
            "^(?:xx)*$",
            "^(?:xx)*x?$",
            "^x{1,2}$|^x{4}$",
            "^[^x]*$",
            "^[^é]{2}$",
            "^x*",
            "x*$",
        ];
        let letters = ["x", "é", "\u{1f600}", " ", "\n", "\u{a0}"];
        for pattern in patterns {
            let automaton = automaton(pattern).unwrap();
            let pattern = Pattern::new(pattern).unwrap();
            let mut texts = vec![String::new()];
            for _ in 0..4 {
                let longer = |text: &String| letters.map(|letter| format!("{text}{letter}"));
                let longer: Vec<String> = texts.iter().flat_map(longer).collect();
                texts.extend(longer);
            }
            for text in texts {
                let input = Input::new(&text).earliest(true);
                let found = automaton.try_search_fwd(&input).unwrap();
                let source = pattern.source();
                assert_eq!(
                    pattern.matches(text.as_bytes()),
                    found.is_some(),
                    "{source} in {text:?}"
                );
            }
        }
    }

    #[test]
    fn patterns_of_identifiers_need_no_automaton() {
        for pattern in [
            "^[A-Za-z0-9_-]{1,64}$",
            "^[0-9a-f]{64}$",
            "^\\d+$",
            "^x*$",
            "^$",
        ] {
            let kind = Pattern::new(pattern).unwrap().kind;
            assert!(matches!(kind, Kind::Run { .. }), "{pattern}");
        }
        for pattern in ["x*", "^x", "^é*$", "^(?:xx)*$", "^xy*$", "^[^x]*$"] {
            let kind = Pattern::new(pattern).unwrap().kind;
            assert!(matches!(kind, Kind::Automaton(_)), "{pattern}");
        }
    }

    #[test]
    fn a_regex_bomb_is_refused_when_it_is_read() {
        for bomb in [
            "(a|b)*a(a|b){30}",
            "((((a{100}){100}){100}){100}){100}",
            "(x+x+)+y{1000}(.{255}){50}",
            "a{4000000000}",
            &"(".repeat(900),
        ] {
            assert!(Pattern::new(bomb).is_err(), "{bomb}");
        }
        // What blows up where a matcher goes back is harmless here.
        let harmless = Pattern::new("^(a+)+$").unwrap();
        assert!(!harmless.matches(format!("{}b", "a".repeat(100_000)).as_bytes()));
    }

    #[test]
    fn what_no_automaton_can_do_is_refused_with_advice() {
        for pattern in [
            "(?=a)", "(?!a)", "(?<=a)b", "(a)\\1", "(?i)a", "\\p{L}", "\\ud800", "[]", "[a", "\\q",
            "(",
        ] {
            let fault = Pattern::new(pattern).unwrap_err();
            assert!(
                !fault.help.is_empty() && !fault.message.is_empty(),
                "{pattern}"
            );
        }
    }
}
