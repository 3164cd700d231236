//! JSON as RFC 8259 says, and stricter where two readers could read two things (RFC 7493): no key
//! twice, no lone surrogate, no number that a 64-bit reader would change.

use super::number::Number;
use super::values::{Keys, Malformed, Scratch, Span, Value};

/// A longer literal says nothing more in 64 bits.
const NUMBER_BYTES_MAX: usize = 64;
/// So many fit into 64 bits, whatever they are.
const DIGITS_MAX: usize = 19;

/// Reads a whole text. `depth_max` counts arrays and objects around a value.
pub(super) fn read(text: &[u8], depth_max: u8, scratch: &mut Scratch) -> Result<(), Malformed> {
    let mut reader = Reader {
        text,
        at: 0,
        scratch,
    };
    reader.skip_space();
    reader.value(depth_max)?;
    reader.skip_space();
    if reader.at < text.len() {
        return reader.refuse("something follows the JSON text");
    }
    Ok(())
}

struct Reader<'p> {
    text: &'p [u8],
    at: usize,
    scratch: &'p mut Scratch,
}

impl Reader<'_> {
    /// Recurses `depth` times at most.
    fn value(&mut self, depth: u8) -> Result<(), Malformed> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.other_value(depth),
        }
    }

    /// Apart, or a text or number waits for what these need.
    #[inline(never)]
    fn other_value(&mut self, depth: u8) -> Result<(), Malformed> {
        let at = self.at;
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b't') => self.word(b"true", Value::Bool(true)),
            Some(b'f') => self.word(b"false", Value::Bool(false)),
            Some(b'n') => self.word(b"null", Value::Null),
            Some(_) => self.refuse("this begins no JSON value"),
            None => {
                let rule = "it ends where a value is due";
                Err(Malformed { rule, at })
            }
        }
    }

    fn object(&mut self, depth: u8) -> Result<(), Malformed> {
        let Some(depth) = depth.checked_sub(1) else {
            return self.refuse("it is nested too deeply");
        };
        let index = self.scratch.push(Value::Object(0), self.at)?;
        self.at += 1;
        self.skip_space();
        let mut members = 0;
        let mut keys = Keys::default();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return self.scratch.close_object(index, 0, &keys, self.text);
        }
        loop {
            if self.peek() != Some(b'"') {
                return self.refuse("a key is due, in double quotes");
            }
            let key = self.string()?;
            keys.see(key.of(self.text, &self.scratch.values.texts));
            self.skip_space();
            if self.peek() != Some(b':') {
                return self.refuse("a colon is due");
            }
            self.at += 1;
            self.skip_space();
            self.value(depth)?;
            members += 1;
            self.skip_space();
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    self.skip_space();
                }
                Some(b'}') => {
                    self.at += 1;
                    return self.scratch.close_object(index, members, &keys, self.text);
                }
                _ => return self.refuse("a comma or the end of the object is due"),
            }
        }
    }

    fn array(&mut self, depth: u8) -> Result<(), Malformed> {
        let Some(depth) = depth.checked_sub(1) else {
            return self.refuse("it is nested too deeply");
        };
        let index = self.scratch.push(Value::Array(0), self.at)?;
        self.at += 1;
        self.skip_space();
        let mut items = 0;
        if self.peek() == Some(b']') {
            self.at += 1;
            self.scratch.close(index, Value::Array(0));
            return Ok(());
        }
        loop {
            self.value(depth)?;
            items += 1;
            self.skip_space();
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    self.skip_space();
                }
                Some(b']') => {
                    self.at += 1;
                    self.scratch.close(index, Value::Array(items));
                    return Ok(());
                }
                _ => return self.refuse("a comma or the end of the array is due"),
            }
        }
    }

    fn string(&mut self) -> Result<Span, Malformed> {
        let at = self.at;
        self.at += 1;
        let start = self.at;
        let is_ascii = self.skip_plain();
        if self.peek() != Some(b'"') {
            return self.string_with_escapes(at, is_ascii);
        }
        // It stays where it is.
        self.utf8(start, is_ascii)?;
        let span = Span::in_payload(start, self.at);
        self.at += 1;
        self.scratch.push(Value::Text(span), at)?;
        Ok(span)
    }

    /// Of a string that begins at `at` and is read up to where something does not stand for itself.
    #[inline(never)]
    fn string_with_escapes(&mut self, at: usize, mut is_ascii: bool) -> Result<Span, Malformed> {
        let start = at + 1;
        let begun = self.scratch.values.texts.len();
        self.copy(start);
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.utf8(start, is_ascii)?;
                    self.at += 1;
                    let span = Span::in_texts(begun, self.scratch.values.texts.len());
                    self.scratch.push(Value::Text(span), at)?;
                    return Ok(span);
                }
                Some(b'\\') => self.escape()?,
                Some(_) => return self.refuse("a control character stands in a string"),
                None => return self.refuse("a string has no end"),
            }
            let from = self.at;
            is_ascii &= self.skip_plain();
            self.copy(from);
        }
    }

    /// Goes on to what ends a string or stands for something else in it, eight bytes at once. False
    /// if a byte on the way may be other than ASCII.
    fn skip_plain(&mut self) -> bool {
        const ONES: u64 = u64::from_ne_bytes([1; 8]);
        const HIGHS: u64 = ONES << 7;
        // The lowest bit that is set stands at a byte below `limit`; those above it may not be true.
        let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGHS;
        let is = |word: u64, byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
        let mut all = 0;
        while let Some(eight) = self.text.get(self.at..).and_then(<[u8]>::first_chunk) {
            let word = u64::from_le_bytes(*eight);
            all |= word;
            let ends = below(word, 0x20) | is(word, b'"') | is(word, b'\\');
            if ends != 0 {
                self.at += (ends.trailing_zeros() / 8) as usize;
                return all & HIGHS == 0;
            }
            self.at += 8;
        }
        while let Some(byte) = self
            .peek()
            .filter(|byte| !matches!(byte, 0..0x20 | b'"' | b'\\'))
        {
            all |= u64::from(byte);
            self.at += 1;
        }
        all & HIGHS == 0
    }

    /// Of a string's bytes as they were written. What stands outside of strings is ASCII.
    fn utf8(&self, start: usize, is_ascii: bool) -> Result<(), Malformed> {
        let written = self.text.get(start..self.at).unwrap_or_default();
        if is_ascii {
            return Ok(());
        }
        std::str::from_utf8(written).map(drop).map_err(|error| {
            let rule = "it is not UTF-8";
            let at = start + error.valid_up_to();
            Malformed { rule, at }
        })
    }

    fn copy(&mut self, from: usize) {
        let part = self.text.get(from..self.at).unwrap_or_default();
        self.scratch.values.texts.extend_from_slice(part);
    }

    fn escape(&mut self) -> Result<(), Malformed> {
        self.at += 1;
        let Some(letter) = self.peek() else {
            return self.refuse("a string has no end");
        };
        let byte = match letter {
            b'"' | b'\\' | b'/' => letter,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => return self.unicode_escape(),
            _ => return self.refuse("no such escape"),
        };
        self.at += 1;
        self.scratch.values.texts.push(byte);
        Ok(())
    }

    fn unicode_escape(&mut self) -> Result<(), Malformed> {
        self.at += 1;
        let first = self.four_digits()?;
        let code = match first {
            0xd800..=0xdbff => {
                if self.text.get(self.at..self.at + 2) != Some(b"\\u") {
                    return self.refuse("half of a surrogate pair");
                }
                self.at += 2;
                let second = self.four_digits()?;
                if !(0xdc00..=0xdfff).contains(&second) {
                    return self.refuse("half of a surrogate pair");
                }
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            _ => first,
        };
        let Some(character) = char::from_u32(code) else {
            return self.refuse("half of a surrogate pair");
        };
        let mut buffer = [0; 4];
        let bytes = character.encode_utf8(&mut buffer).as_bytes();
        self.scratch.values.texts.extend_from_slice(bytes);
        Ok(())
    }

    fn four_digits(&mut self) -> Result<u32, Malformed> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else {
                return self.refuse("four hexadecimal digits are due");
            };
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }

    fn number(&mut self) -> Result<(), Malformed> {
        let at = self.at;
        let is_negative = self.peek() == Some(b'-');
        self.at += usize::from(is_negative);
        let whole = match self.peek() {
            Some(b'0') => {
                self.at += 1;
                if matches!(self.peek(), Some(b'0'..=b'9')) {
                    return self.refuse("a number begins with 0");
                }
                Some(0)
            }
            Some(b'1'..=b'9') => self.digits()?,
            _ => return self.refuse("a digit is due"),
        };
        let is_integer = !matches!(self.peek(), Some(b'.' | b'e' | b'E'));
        if !is_integer {
            self.skip_fraction()?;
        }
        let literal = self.text.get(at..self.at).unwrap_or_default();
        if literal.len() > NUMBER_BYTES_MAX {
            let rule = "a number is longer than 64 characters";
            return Err(Malformed { rule, at });
        }
        let number = if !is_integer {
            float(literal)
        } else if is_negative {
            let value = whole.and_then(|whole| 0_i64.checked_sub_unsigned(whole));
            value.map(Number::from_integer)
        } else {
            whole.map(Number::Natural)
        };
        let Some(number) = number else {
            let rule = "a number does not fit 64 bits";
            return Err(Malformed { rule, at });
        };
        self.scratch.push(Value::Number(number), at)?;
        Ok(())
    }

    /// Apart, like all that most payloads do not need: what is not run is not fetched.
    #[inline(never)]
    fn skip_fraction(&mut self) -> Result<(), Malformed> {
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// One at least. `None`: more than 64 bits hold.
    fn digits(&mut self) -> Result<Option<u64>, Malformed> {
        let start = self.at;
        let mut value = 0_u64;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            value = (value.wrapping_mul(10)).wrapping_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        match self.at - start {
            0 => self.refuse("a digit is due"),
            1..=DIGITS_MAX => Ok(Some(value)),
            _ => Ok(self.text.get(start..self.at).and_then(natural)),
        }
    }

    fn word(&mut self, word: &[u8], value: Value) -> Result<(), Malformed> {
        if !(self.text.get(self.at..)).is_some_and(|rest| rest.starts_with(word)) {
            return self.refuse("this begins no JSON value");
        }
        self.scratch.push(value, self.at)?;
        self.at += word.len();
        Ok(())
    }

    fn skip_space(&mut self) {
        if self.peek().is_some_and(|byte| byte <= b' ') {
            self.skip_spaces();
        }
    }

    #[inline(never)]
    fn skip_spaces(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn refuse<T>(&self, rule: &'static str) -> Result<T, Malformed> {
        Err(Malformed { rule, at: self.at })
    }
}

#[inline(never)]
fn natural(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[inline(never)]
fn float(literal: &[u8]) -> Option<Number> {
    let literal = std::str::from_utf8(literal).ok()?;
    Number::from_float(literal.parse().ok()?)
}
