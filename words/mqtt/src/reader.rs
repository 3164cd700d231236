//! Reading the standard's data types from a slice (MQTT 5: 1.5, 3.1.1: 1.5). Copies nothing.

use crate::rule::{self, Malformed};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(rule::FIELD_PAST_END)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        let (byte, rest) = self.rest.split_first().ok_or(rule::FIELD_PAST_END)?;
        self.rest = rest;
        Ok(*byte)
    }

    pub(crate) fn two_bytes(&mut self) -> Result<u16, Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(rule::FIELD_PAST_END)?;
        self.rest = rest;
        Ok(u16::from_be_bytes(*bytes))
    }

    pub(crate) fn four_bytes(&mut self) -> Result<u32, Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(rule::FIELD_PAST_END)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    /// A variable byte integer inside a packet: MQTT 5 only, so always minimal.
    pub(crate) fn varint(&mut self) -> Result<u32, Malformed> {
        let length = Length::read(self.rest)?.ok_or(rule::FIELD_PAST_END)?;
        if !length.is_minimal() {
            return Err(rule::LENGTH_NOT_MINIMAL);
        }
        self.take(length.bytes)?;
        Ok(length.value)
    }

    pub(crate) fn binary(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.two_bytes()?;
        self.take(usize::from(length))
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        let text = std::str::from_utf8(self.binary()?).map_err(|_| rule::UTF_8)?;
        if text.as_bytes().contains(&0) {
            return Err(rule::NULL_CHARACTER);
        }
        Ok(text)
    }

    pub(crate) fn packet_id(&mut self) -> Result<u16, Malformed> {
        match self.two_bytes()? {
            0 => Err(rule::PACKET_IDENTIFIER_ZERO),
            id => Ok(id),
        }
    }

    /// A length-prefixed block of properties.
    pub(crate) fn properties(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.varint()?;
        // A value of at most 28 bits fits in any usize we build for.
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    pub(crate) const fn finish(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(rule::TRAILING_BYTES)
        }
    }
}

/// A variable byte integer as it stands in the bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Length {
    pub(crate) value: u32,
    /// 1 to 4.
    pub(crate) bytes: usize,
}

impl Length {
    /// `None` if the bytes end before it does.
    pub(crate) fn read(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let mut value = 0;
        for (place, byte) in bytes.iter().take(4).enumerate() {
            value |= u32::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(Some(Self {
                    value,
                    bytes: place + 1,
                }));
            }
        }
        if bytes.len() < 4 {
            Ok(None)
        } else {
            Err(rule::REMAINING_LENGTH_BYTES)
        }
    }

    pub(crate) const fn is_minimal(self) -> bool {
        self.bytes == bytes_of(self.value)
    }
}

/// How many bytes a variable byte integer takes at least.
pub(crate) const fn bytes_of(value: u32) -> usize {
    match value {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    }
}
