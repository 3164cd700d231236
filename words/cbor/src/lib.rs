//! CBOR as much as devices send us: definite lengths, nothing copied, nothing allocated for what a
//! length only promises.
//!
//! **Question:** which items do these bytes hold?
//! **In:** bytes. **Out:** heads of items that borrow from them; heads and texts appended to a buffer.
//! **Standards:** RFC 8949.
//! **Refuses to know:** what an item means, floats, indefinite lengths.

/// Containers within containers.
const DEPTH_MAX: usize = 8;

/// The head of a data item, with its content where it has one of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Item<'a> {
    Unsigned(u64),
    /// -1 minus this.
    Negative(u64),
    Bytes(&'a [u8]),
    Text(&'a str),
    /// So many items follow.
    Array(u64),
    /// So many pairs follow.
    Map(u64),
    /// One item follows.
    Tag(u64),
    Bool(bool),
    Null,
    /// A float or another simple value, of no meaning here.
    Other,
}

/// It is not CBOR of definite lengths, or something else than it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next item's head.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn item(&mut self) -> Result<Item<'a>, Malformed> {
        let [initial] = *self.take(1)? else {
            return Err(Malformed);
        };
        let (major, argument) = (initial >> 5, initial & 0x1f);
        let argument_bytes = match argument {
            0..24 => 0,
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            // Reserved, or of indefinite length.
            _ => return Err(Malformed),
        };
        let value = match argument_bytes {
            0 => u64::from(argument),
            count => {
                (self.take(count)?.iter()).fold(0, |value, byte| value << 8 | u64::from(*byte))
            }
        };
        Ok(match major {
            0 => Item::Unsigned(value),
            1 => Item::Negative(value),
            2 => Item::Bytes(self.content(value)?),
            3 => Item::Text(std::str::from_utf8(self.content(value)?).map_err(|_| Malformed)?),
            4 => Item::Array(value),
            5 => Item::Map(value),
            6 => Item::Tag(value),
            _ => match (argument, value) {
                (20, _) => Item::Bool(false),
                (21, _) => Item::Bool(true),
                (22, _) => Item::Null,
                // RFC 8949 section 3.3: not well-formed.
                (24, 0..32) => return Err(Malformed),
                _ => Item::Other,
            },
        })
    }

    /// Passes over one item with all that it holds.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn skip(&mut self) -> Result<(), Malformed> {
        self.skip_within(DEPTH_MAX)
    }

    fn skip_within(&mut self, depth: usize) -> Result<(), Malformed> {
        let items = match self.item()? {
            Item::Array(count) => count,
            Item::Map(count) => count.checked_mul(2).ok_or(Malformed)?,
            Item::Tag(_) => 1,
            _ => return Ok(()),
        };
        let depth = depth.checked_sub(1).ok_or(Malformed)?;
        // Each item takes a byte at least, so a promise is broken before it costs anything.
        (0..items).try_for_each(|_| self.skip_within(depth))
    }

    /// # Errors
    /// [`Malformed`].
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        match self.item()? {
            Item::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed),
        }
    }

    /// # Errors
    /// [`Malformed`].
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        match self.item()? {
            Item::Text(text) => Ok(text),
            _ => Err(Malformed),
        }
    }

    /// How many pairs follow.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn map(&mut self) -> Result<u64, Malformed> {
        match self.item()? {
            Item::Map(pairs) => Ok(pairs),
            _ => Err(Malformed),
        }
    }

    /// What was not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Nothing follows.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed)
        }
    }

    fn content(&mut self, bytes: u64) -> Result<&'a [u8], Malformed> {
        self.take(usize::try_from(bytes).map_err(|_| Malformed)?)
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }
}

/// Writes the head of an item: its major type and its argument, as short as can be.
pub fn head(out: &mut Vec<u8>, major: u8, value: u64) {
    let bytes = value.to_be_bytes();
    let (argument, count) = match value {
        0..24 => (bytes[7], 0),
        24..0x100 => (24, 1),
        0x100..0x1_0000 => (25, 2),
        0x1_0000..0x1_0000_0000 => (26, 4),
        _ => (27, 8),
    };
    out.push(major << 5 | argument);
    out.extend_from_slice(bytes.get(8 - count..).unwrap_or_default());
}

pub fn text(out: &mut Vec<u8>, text: &str) {
    head(out, 3, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

pub fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    head(out, 2, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8949, appendix A.
    #[test]
    fn the_examples_of_the_standard_are_read() {
        for (hex, item) in [
            ("00", Item::Unsigned(0)),
            ("1903e8", Item::Unsigned(1000)),
            ("1bffffffffffffffff", Item::Unsigned(u64::MAX)),
            ("3903e7", Item::Negative(999)),
            ("f4", Item::Bool(false)),
            ("f6", Item::Null),
            ("f93c00", Item::Other),
            ("4401020304", Item::Bytes(&[1, 2, 3, 4])),
            ("6449455446", Item::Text("IETF")),
            ("80", Item::Array(0)),
            ("a0", Item::Map(0)),
            ("c1", Item::Tag(1)),
        ] {
            let bytes = unhex(hex);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.item(), Ok(item), "{hex}");
            assert_eq!(reader.finish(), Ok(()), "{hex}");
        }
        for hex in ["5f42010243030405ff", "1c", "f818", "61ff", "4401", "9b"] {
            assert!(Reader::new(&unhex(hex)).item().is_err(), "{hex}");
        }
    }

    #[test]
    fn a_promise_of_much_and_a_deep_nest_are_not_followed() {
        assert!(Reader::new(&unhex("9bffffffffffffffff00")).skip().is_err());
        assert!(Reader::new(&unhex("bbffffffffffffffff00")).skip().is_err());
        assert!(Reader::new(&[0x81; 100_000]).skip().is_err());
        let mut nest = vec![0x81; 8];
        nest.push(0);
        assert_eq!(Reader::new(&nest).skip(), Ok(()));
        nest.insert(0, 0x81);
        assert_eq!(Reader::new(&nest).skip(), Err(Malformed));
    }

    #[test]
    fn a_head_is_read_as_it_was_written() {
        for value in [0, 23, 24, 255, 256, 65_535, 65_536, 1 << 32, u64::MAX] {
            let mut out = Vec::new();
            head(&mut out, 0, value);
            assert_eq!(Reader::new(&out).item(), Ok(Item::Unsigned(value)));
        }
    }

    fn unhex(text: &str) -> Vec<u8> {
        let digits = text.as_bytes().chunks(2);
        digits
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }
}
