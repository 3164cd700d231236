//! Ours against mqtt-protocol-core over seeded packets, right, wrong and mutated.

use crate::generate::{Random, frame, mutate};
use crate::oracle::{OURS_STRICTER, Outcome, THEIRS_WRONG, compare};
use mqtt::Version;
use std::collections::BTreeMap;

const FRAMES_PER_VERSION: usize = 150_000;

#[test]
fn no_packet_is_read_differently_but_by_the_written_list() {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut unlisted: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut random = Random::new(0x6d71_7474);
    for version in [Version::V311, Version::V5] {
        for round in 0..FRAMES_PER_VERSION {
            let mut bytes = frame(&mut random, version);
            if round % 2 == 1 {
                mutate(&mut random, &mut bytes);
            }
            match compare(version, &bytes) {
                Ok(outcomes) => {
                    for outcome in outcomes {
                        *seen.entry(format!("{outcome:?}")).or_default() += 1;
                    }
                }
                Err(difference) => {
                    unlisted.entry(difference).or_insert(bytes);
                }
            }
        }
    }
    for (difference, bytes) in unlisted.iter().take(60) {
        println!("{difference}\n    {bytes:02x?}");
    }
    assert!(unlisted.is_empty(), "{} differences", unlisted.len());

    // An entry that never applies is a permission nobody needs.
    for entry in OURS_STRICTER {
        for packet in entry.packets {
            let outcome = format!("{:?}", Outcome::OursStricter(packet, entry.rule));
            assert!(
                seen.contains_key(&outcome),
                "unused: {outcome}, {}",
                entry.why
            );
        }
    }
    for entry in THEIRS_WRONG {
        let outcome = format!("{:?}", Outcome::TheirsWrong(entry.0, entry.1));
        assert!(seen.contains_key(&outcome), "unused entry {entry:?}");
    }
    let agreed = seen.get("BothAccept").copied().unwrap_or(0);
    assert!(agreed > FRAMES_PER_VERSION / 4, "only {agreed} accepted");
}
