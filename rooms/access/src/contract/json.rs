//! JSON as RFC 8259 says, and stricter where two readers could read two things (RFC 7493): no key
//! twice, no lone surrogate, no number that a 64-bit reader would change.

use super::number::Number;
use super::values::{Malformed, Scratch, Span, Value};

/// A longer literal says nothing more in 64 bits.
const NUMBER_BYTES_MAX: usize = 64;

/// Reads a whole text. `depth_max` counts arrays and objects around a value.
pub(super) fn read(text: &[u8], depth_max: u8, scratch: &mut Scratch) -> Result<(), Malformed> {
    if let Err(error) = std::str::from_utf8(text) {
        let rule = "it is not UTF-8";
        let at = error.valid_up_to();
        return Err(Malformed { rule, at });
    }
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
        let at = self.at;
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
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
        if self.peek() == Some(b'}') {
            self.at += 1;
            return self.scratch.close_object(index, 0, self.text);
        }
        loop {
            if self.peek() != Some(b'"') {
                return self.refuse("a key is due, in double quotes");
            }
            self.string()?;
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
                    return self.scratch.close_object(index, members, self.text);
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

    fn string(&mut self) -> Result<(), Malformed> {
        let at = self.at;
        self.at += 1;
        let start = self.at;
        // Without escapes it stays where it is.
        loop {
            match self.peek() {
                Some(b'"') => {
                    let span = Span::in_payload(start, self.at);
                    self.at += 1;
                    self.scratch.push(Value::Text(span), at)?;
                    return Ok(());
                }
                Some(b'\\') => break,
                Some(0x20..) => self.at += 1,
                Some(_) => return self.refuse("a control character stands in a string"),
                None => return self.refuse("a string has no end"),
            }
        }
        let begun = self.scratch.texts.len();
        self.copy(start);
        loop {
            let from = self.at;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    let span = Span::in_texts(begun, self.scratch.texts.len());
                    self.scratch.push(Value::Text(span), at)?;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(0x20..) => {
                    while matches!(self.peek(), Some(byte) if byte >= 0x20 && byte != b'"' && byte != b'\\')
                    {
                        self.at += 1;
                    }
                    self.copy(from);
                }
                Some(_) => return self.refuse("a control character stands in a string"),
                None => return self.refuse("a string has no end"),
            }
        }
    }

    fn copy(&mut self, from: usize) {
        let part = self.text.get(from..self.at).unwrap_or_default();
        self.scratch.texts.extend_from_slice(part);
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
        self.scratch.texts.push(byte);
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
        self.scratch.texts.extend_from_slice(bytes);
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
        match self.peek() {
            Some(b'0') => {
                self.at += 1;
                if matches!(self.peek(), Some(b'0'..=b'9')) {
                    return self.refuse("a number begins with 0");
                }
            }
            Some(b'1'..=b'9') => self.digits()?,
            _ => return self.refuse("a digit is due"),
        }
        let mut is_integer = true;
        if self.peek() == Some(b'.') {
            is_integer = false;
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            is_integer = false;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let literal = self.text.get(at..self.at).unwrap_or_default();
        if literal.len() > NUMBER_BYTES_MAX {
            let rule = "a number is longer than 64 characters";
            return Err(Malformed { rule, at });
        }
        let literal = std::str::from_utf8(literal).unwrap_or_default();
        let number = if !is_integer {
            (literal.parse().ok()).and_then(Number::from_float)
        } else if is_negative {
            literal.parse().ok().map(Number::from_integer)
        } else {
            literal.parse().ok().map(Number::Natural)
        };
        let Some(number) = number else {
            let rule = "a number does not fit 64 bits";
            return Err(Malformed { rule, at });
        };
        self.scratch.push(Value::Number(number), at)?;
        Ok(())
    }

    /// One at least.
    fn digits(&mut self) -> Result<(), Malformed> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return self.refuse("a digit is due");
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
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
