//! The trie against a plain list.

use crate::generate::Random;
use mqtt::{Filter, FilterTrie};

const LEVELS: &[&str] = &["a", "b", "$x", "", "+"];

fn filter(random: &mut Random) -> Filter {
    let mut levels: Vec<&str> = (0..=random.below(4)).map(|_| random.pick(LEVELS)).collect();
    if random.one_in(3) {
        levels.push("#");
    } else if levels.iter().all(|level| level.is_empty()) {
        levels.push("a");
    }
    if random.one_in(20) {
        levels = vec!["#"];
    }
    Filter::new(&levels.join("/")).unwrap()
}

fn topic(random: &mut Random) -> String {
    let levels: Vec<&str> = (0..=random.below(5))
        .map(|_| random.pick(&["a", "b", "$x", "", "new"]))
        .collect();
    let topic = levels.join("/");
    if topic.is_empty() { "a".into() } else { topic }
}

#[test]
fn trie_and_list_agree_while_subscriptions_come_and_go() {
    let mut random = Random::new(0x7472_6965);
    for _ in 0..60 {
        let mut trie = FilterTrie::new();
        let mut list: Vec<(Filter, u8)> = Vec::new();
        for _ in 0..300 {
            match random.below(5) {
                0 | 1 => {
                    let pair = (filter(&mut random), random.below(4) as u8);
                    let new = !list.contains(&pair);
                    assert_eq!(trie.insert(&pair.0, pair.1), new);
                    if new {
                        list.push(pair);
                    }
                }
                2 if !list.is_empty() => {
                    let (filter, value) = list.swap_remove(random.below(list.len()));
                    assert!(trie.remove(&filter, &value));
                }
                3 => {
                    let pair = (filter(&mut random), random.below(4) as u8);
                    let there = list.iter().position(|p| *p == pair);
                    assert_eq!(trie.remove(&pair.0, &pair.1), there.is_some());
                    if let Some(at) = there {
                        list.swap_remove(at);
                    }
                }
                _ => {
                    let topic = topic(&mut random);
                    let mut found = Vec::new();
                    trie.for_each_match(&topic, |value| found.push(*value));
                    let mut expected: Vec<u8> = list
                        .iter()
                        .filter(|(filter, _)| filter.matches(&topic))
                        .map(|(_, value)| *value)
                        .collect();
                    found.sort_unstable();
                    expected.sort_unstable();
                    assert_eq!(found, expected, "{topic} in {list:?}");
                }
            }
            assert_eq!(trie.len(), list.len());
        }
        for (filter, value) in list.drain(..) {
            assert!(trie.remove(&filter, &value));
        }
        assert!(trie.is_empty());
    }
}

#[test]
fn a_hostile_depth_costs_no_stack() {
    let deepest = vec!["+"; Filter::LEVELS_MAX].join("/");
    let mut trie = FilterTrie::new();
    assert!(trie.insert(&Filter::new(&deepest).unwrap(), 1));
    assert!(trie.insert(&Filter::new("#").unwrap(), 2));
    let endless = vec![""; 65_000].join("/");
    let mut found = Vec::new();
    trie.for_each_match(&endless, |value| found.push(*value));
    assert_eq!(found, [2]);
}

#[test]
fn what_left_leaves_nothing_behind() {
    let mut trie = FilterTrie::new();
    let keep = Filter::new("a/b").unwrap();
    assert!(trie.insert(&keep, 0));
    // Storage is reused: a device that resubscribes for a year costs what it costs once.
    for round in 0..1000 {
        let filter = Filter::new(&format!("a/{round}/+/x/#")).unwrap();
        assert!(trie.insert(&filter, round));
        assert!(!trie.insert(&filter, round));
        assert!(trie.remove(&filter, &round));
        assert!(!trie.remove(&filter, &round));
    }
    let mut found = Vec::new();
    trie.for_each_match("a/b", |value| found.push(*value));
    assert_eq!(found, [0]);
    assert_eq!(trie.len(), 1);
}
