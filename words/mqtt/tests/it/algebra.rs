//! Match, cover, intersect and union against brute force: every filter over a small alphabet,
//! every topic over the same alphabet and one more text that no filter names.

use mqtt::{Filter, covered_by_union};

use crate::generate::Random;

/// Filters of one to three levels from `{a, b, $x, +}` with and without `#`.
fn filters() -> Vec<Filter> {
    let mut texts: Vec<String> = vec!["#".into()];
    let mut prefixes: Vec<String> = ["a", "b", "$x", "+"].map(String::from).to_vec();
    for depth in 1..=3 {
        for prefix in &prefixes {
            texts.push(prefix.clone());
            if depth < 3 {
                texts.push(format!("{prefix}/#"));
            }
        }
        prefixes = prefixes
            .iter()
            .flat_map(|p| ["a", "b", "$x", "+"].map(|level| format!("{p}/{level}")))
            .collect();
    }
    texts
        .iter()
        .map(|text| Filter::new(text).unwrap())
        .collect()
}

/// Deeper than any filter, so that `#` is told from a row of `+`.
fn topics() -> Vec<String> {
    let levels = ["a", "b", "$x", "new", "$new"];
    let mut all: Vec<String> = Vec::new();
    let mut last: Vec<String> = levels.map(String::from).to_vec();
    for _ in 0..4 {
        all.extend(last.iter().cloned());
        last = last
            .iter()
            .flat_map(|t| levels.map(|level| format!("{t}/{level}")))
            .collect();
    }
    all
}

/// The standard's words (4.7.1, 4.7.2), written a second time and slowly.
fn matches_by_the_book(filter: &[&str], topic: &[&str], first: bool) -> bool {
    match (filter, topic) {
        ([], []) => true,
        (["#"], rest) => !(first && rest.first().is_some_and(|l| l.starts_with('$'))),
        (["+", filter @ ..], [level, topic @ ..]) => {
            !(first && level.starts_with('$')) && matches_by_the_book(filter, topic, false)
        }
        ([text, filter @ ..], [level, topic @ ..]) => {
            text == level && matches_by_the_book(filter, topic, false)
        }
        _ => false,
    }
}

/// For each filter, which topics it matches.
fn tables() -> (Vec<Filter>, Vec<Vec<bool>>) {
    let (filters, topics) = (filters(), topics());
    let table = filters
        .iter()
        .map(|filter| topics.iter().map(|topic| filter.matches(topic)).collect())
        .collect();
    (filters, table)
}

#[test]
fn match_is_what_the_standard_says() {
    for filter in filters() {
        let levels: Vec<&str> = filter.as_str().split('/').collect();
        for topic in topics() {
            let topic_levels: Vec<&str> = topic.split('/').collect();
            assert_eq!(
                filter.matches(&topic),
                matches_by_the_book(&levels, &topic_levels, true),
                "{filter} {topic}"
            );
        }
    }
}

#[test]
fn known_examples_of_the_standard_hold() {
    let matches = |filter: &str, topic: &str| Filter::new(filter).unwrap().matches(topic);
    // 4.7.1.2
    assert!(matches("sport/tennis/player1/#", "sport/tennis/player1"));
    assert!(matches(
        "sport/tennis/player1/#",
        "sport/tennis/player1/score/wimbledon"
    ));
    assert!(matches("sport/#", "sport"));
    // 4.7.1.3
    assert!(matches("sport/tennis/+", "sport/tennis/player1"));
    assert!(!matches("sport/tennis/+", "sport/tennis/player1/ranking"));
    assert!(!matches("sport/+", "sport"));
    assert!(matches("sport/+", "sport/"));
    assert!(matches("+/+", "/finance") && matches("/+", "/finance") && !matches("+", "/finance"));
    // 4.7.2
    assert!(!matches("#", "$SYS/x") && !matches("+/monitor/Clients", "$SYS/monitor/Clients"));
    assert!(matches("$SYS/#", "$SYS/x") && matches("$SYS/monitor/+", "$SYS/monitor/Clients"));
    // 4.7.3: case, empty levels and spaces count.
    assert!(!matches("ACCOUNTS", "Accounts") && !matches("/a", "a") && !matches("a/", "a"));
}

#[test]
fn cover_and_intersect_are_exact() {
    let (filters, table) = tables();
    for (a, a_topics) in filters.iter().zip(&table) {
        for (b, b_topics) in filters.iter().zip(&table) {
            let both = || a_topics.iter().zip(b_topics);
            assert_eq!(
                a.covers(b),
                both().all(|(a, b)| *a || !*b),
                "{a} covers {b}"
            );
            let meet = both().any(|(a, b)| *a && *b);
            assert_eq!(a.intersects(b), meet, "{a} meets {b}");
        }
    }
}

#[test]
fn cover_by_a_union_is_exact() {
    let (filters, table) = tables();
    let mut random = Random::new(0x756e_696f);
    let (mut yes, mut only_together) = (0, 0);
    for round in 0..60_000 {
        let one = random.below(filters.len());
        let mut picks: Vec<usize> = (0..random.below(6))
            .map(|_| random.below(filters.len()))
            .collect();
        if round % 3 == 0 {
            // Unions that come close: the filter's own prefix, shorter and longer.
            let text = filters[one].as_str();
            let stem = text.strip_suffix("/#").unwrap_or(text);
            for wanted in [stem.to_owned(), format!("{stem}/+"), format!("{stem}/+/#")] {
                picks.extend(filters.iter().position(|f| f.as_str() == wanted));
            }
            if !picks.is_empty() && random.one_in(3) {
                picks.swap_remove(random.below(picks.len()));
            }
        }
        let union: Vec<Filter> = picks.iter().map(|i| filters[*i].clone()).collect();
        let expected = table[one]
            .iter()
            .enumerate()
            .all(|(topic, matched)| !matched || picks.iter().any(|i| table[*i][topic]));
        let answer = covered_by_union(&filters[one], &union);
        assert_eq!(answer, expected, "{} by {union:?}", filters[one]);
        yes += usize::from(answer);
        only_together += usize::from(answer && !union.iter().any(|u| u.covers(&filters[one])));
    }
    assert!(yes > 1000 && only_together > 100, "{yes} {only_together}");
}

#[test]
fn a_union_covers_what_no_member_does() {
    let filter = |text: &str| Filter::new(text).unwrap();
    let union = ["t/a", "t/a/+", "t/a/+/+/#"].map(filter);
    assert!(covered_by_union(&filter("t/a/#"), &union));
    assert!(!covered_by_union(&filter("t/a/#"), &union[1..]));
    assert!(!covered_by_union(&filter("t/a/#"), &union[..2]));
    assert!(!covered_by_union(&filter("a"), &[]));
    // No row of literals is ever all that + can stand for.
    assert!(!covered_by_union(
        &filter("+"),
        &["a", "b", "$x"].map(filter)
    ));
    // # alone never stands for no level at all.
    assert!(covered_by_union(&filter("#"), &[filter("+/#")]));
    assert!(covered_by_union(&filter("#"), &["+", "+/+/#"].map(filter)));
}

#[test]
fn a_filter_of_our_limits_is_taken_and_one_beyond_is_not() {
    let deep = |levels: usize| vec!["+"; levels].join("/");
    assert!(Filter::new(&deep(Filter::LEVELS_MAX)).is_ok());
    assert_eq!(
        Filter::new(&deep(Filter::LEVELS_MAX + 1)),
        Err(mqtt::InvalidFilter::TooDeep)
    );
    assert!(Filter::new(&"x".repeat(65_535)).is_ok());
    assert_eq!(
        Filter::new(&"x".repeat(65_536)),
        Err(mqtt::InvalidFilter::TooLong)
    );
    for text in ["", "a#", "a/#/b", "+a", "a\0"] {
        assert!(Filter::new(text).is_err(), "{text:?}");
    }
    assert!(!mqtt::is_topic(&"x".repeat(65_536)) && mqtt::is_topic(&"x".repeat(65_535)));
    assert!(!mqtt::is_topic("") && !mqtt::is_topic("a\0") && !mqtt::is_topic("a/+"));
}
