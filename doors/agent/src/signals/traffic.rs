//! Bytes and packets that crossed the device's interfaces, from `/proc/net/dev`.

use detection::report::Traffic;
use std::collections::BTreeMap;
use std::path::Path;

const INTERFACES_MAX: usize = 256;

/// Counters of one interface as the kernel counts: from its making, or from an overflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counters {
    bytes_in: u64,
    packets_in: u64,
    bytes_out: u64,
    packets_out: u64,
}

#[derive(Debug, Default)]
pub struct Meter {
    last: Option<BTreeMap<String, Counters>>,
}

impl Meter {
    /// What crossed since the last call; nothing at the first.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(&mut self, file: &Path) -> std::io::Result<Traffic> {
        let now = parse(&std::fs::read_to_string(file)?);
        let mut sum = Traffic {
            bytes_out: 0,
            packets_out: 0,
            bytes_in: 0,
            packets_in: 0,
        };
        if let Some(last) = &self.last {
            for (name, new) in &now {
                let old = last.get(name);
                // Fewer than before: the interface was made anew and counts from nothing.
                let since = |new: u64, old: Option<u64>| match old {
                    Some(old) if old <= new => new - old,
                    _ => new,
                };
                sum.bytes_in += since(new.bytes_in, old.map(|old| old.bytes_in));
                sum.packets_in += since(new.packets_in, old.map(|old| old.packets_in));
                sum.bytes_out += since(new.bytes_out, old.map(|old| old.bytes_out));
                sum.packets_out += since(new.packets_out, old.map(|old| old.packets_out));
            }
        }
        self.last = Some(now);
        Ok(sum)
    }
}

/// All interfaces but the loopback.
fn parse(text: &str) -> BTreeMap<String, Counters> {
    text.lines()
        .filter_map(|line| {
            let (name, numbers) = line.split_once(':')?;
            let numbers: Vec<u64> = numbers
                .split_ascii_whitespace()
                .take(16)
                .map(str::parse)
                .collect::<Result<_, _>>()
                .ok()?;
            let [
                bytes_in,
                packets_in,
                _,
                _,
                _,
                _,
                _,
                _,
                bytes_out,
                packets_out,
                ..,
            ] = *numbers.as_slice()
            else {
                return None;
            };
            let counters = Counters {
                bytes_in,
                packets_in,
                bytes_out,
                packets_out,
            };
            Some((name.trim().to_owned(), counters))
        })
        .filter(|(name, _)| name != "lo")
        .take(INTERFACES_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str = "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n";

    fn file(lines: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, format!("{HEAD}{lines}")).unwrap();
        file
    }

    #[test]
    fn differences_without_the_loopback() {
        let mut meter = Meter::default();
        let first = file(
            "    lo: 900 9 0 0 0 0 0 0 900 9 0 0 0 0 0 0\n  eth0: 100 1 0 0 0 0 0 0 200 2 0 0 0 0 0 0\n",
        );
        assert_eq!(meter.read(first.path()).unwrap().bytes_out, 0);
        let second = file(
            "    lo: 999 9 0 0 0 0 0 0 999 9 0 0 0 0 0 0\n  eth0: 150 3 0 0 0 0 0 0 1200 7 0 0 0 0 0 0\n",
        );
        let traffic = meter.read(second.path()).unwrap();
        assert_eq!((traffic.bytes_in, traffic.packets_in), (50, 2));
        assert_eq!((traffic.bytes_out, traffic.packets_out), (1000, 5));
    }

    #[test]
    fn a_counter_that_began_again_is_not_a_flood() {
        let mut meter = Meter::default();
        meter
            .read(file("eth0: 5000 5 0 0 0 0 0 0 5000 5 0 0 0 0 0 0\n").path())
            .unwrap();
        let after = file(
            "eth0: 10 1 0 0 0 0 0 0 20 2 0 0 0 0 0 0\nwlan0: 7 1 0 0 0 0 0 0 3 1 0 0 0 0 0 0\n",
        );
        let traffic = meter.read(after.path()).unwrap();
        assert_eq!((traffic.bytes_in, traffic.bytes_out), (17, 23));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z0-9: \n]{0,300}") {
            parse(&text);
        }
    }
}
