//! CBOR (RFC 8949) as far as JSON Schema can speak of it: what JSON has, and nothing that two
//! readers could read as two things. Arrays and maps may be of indefinite length, as small encoders
//! write them; strings may not. Keys are text, each once. No tags, byte strings, undefined or other
//! simple values.

use super::number::Number;
use super::values::{Keys, Malformed, Scratch, Span, Value};

/// Reads one whole item. `depth_max` counts arrays and maps around a value.
pub(super) fn read(bytes: &[u8], depth_max: u8, scratch: &mut Scratch) -> Result<(), Malformed> {
    let mut reader = Reader {
        bytes,
        at: 0,
        scratch,
    };
    reader.item(depth_max)?;
    if reader.at < bytes.len() {
        return reader.refuse("something follows the CBOR item");
    }
    Ok(())
}

struct Reader<'p> {
    bytes: &'p [u8],
    at: usize,
    scratch: &'p mut Scratch,
}

const BREAK: u8 = 0xff;

impl Reader<'_> {
    /// Recurses `depth` times at most.
    fn item(&mut self, depth: u8) -> Result<(), Malformed> {
        let at = self.at;
        let first = self.byte()?;
        let refuse = |rule| Err(Malformed { rule, at });
        let value = match first >> 5 {
            0 => Value::Number(Number::Natural(self.argument(first)?)),
            1 => {
                let argument = self.argument(first)?;
                let Ok(argument) = i64::try_from(argument) else {
                    return refuse("a number does not fit 64 bits");
                };
                Value::Number(Number::Negative(-1 - argument))
            }
            2 => {
                return refuse("a byte string, which no schema can describe; send text or numbers");
            }
            3 => return self.text(first, at).map(drop),
            4 => return self.array(first, depth, at),
            5 => return self.map(first, depth, at),
            6 => return refuse("a tag"),
            _ => match first {
                0xf4 => Value::Bool(false),
                0xf5 => Value::Bool(true),
                0xf6 => Value::Null,
                0xf9 => {
                    let bits = self.argument(first)?;
                    Self::float(half(bits as u16), at)?
                }
                0xfa => {
                    let bits = self.argument(first)?;
                    Self::float(f64::from(f32::from_bits(bits as u32)), at)?
                }
                0xfb => {
                    let bits = self.argument(first)?;
                    Self::float(f64::from_bits(bits), at)?
                }
                _ => return refuse("undefined, a simple value, or a break where none is due"),
            },
        };
        self.scratch.push(value, at)?;
        Ok(())
    }

    fn float(value: f64, at: usize) -> Result<Value, Malformed> {
        let rule = "not a number, or infinite";
        (Number::from_float(value).map(Value::Number)).ok_or(Malformed { rule, at })
    }

    fn text(&mut self, first: u8, at: usize) -> Result<Span, Malformed> {
        if first == 0x7f {
            let rule = "a string of indefinite length";
            return Err(Malformed { rule, at });
        }
        let length = self.argument(first)?;
        let end = usize::try_from(length)
            .ok()
            .and_then(|length| self.at.checked_add(length));
        let Some(text) = end.and_then(|end| self.bytes.get(self.at..end)) else {
            return self.refuse("it ends within a string");
        };
        if std::str::from_utf8(text).is_err() {
            return self.refuse("a text is not UTF-8");
        }
        let start = self.at;
        self.at += text.len();
        let span = Span::in_payload(start, self.at);
        self.scratch.push(Value::Text(span), at)?;
        Ok(span)
    }

    fn array(&mut self, first: u8, depth: u8, at: usize) -> Result<(), Malformed> {
        let Some(depth) = depth.checked_sub(1) else {
            let rule = "it is nested too deeply";
            return Err(Malformed { rule, at });
        };
        let count = self.count(first)?;
        let index = self.scratch.push(Value::Array(0), at)?;
        let mut items = 0_u32;
        while self.goes_on(count, items)? {
            self.item(depth)?;
            items += 1;
        }
        self.scratch.close(index, Value::Array(items));
        Ok(())
    }

    fn map(&mut self, first: u8, depth: u8, at: usize) -> Result<(), Malformed> {
        let Some(depth) = depth.checked_sub(1) else {
            let rule = "it is nested too deeply";
            return Err(Malformed { rule, at });
        };
        let count = self.count(first)?;
        let index = self.scratch.push(Value::Object(0), at)?;
        let mut members = 0_u32;
        let mut keys = Keys::default();
        while self.goes_on(count, members)? {
            let at = self.at;
            let first = self.byte()?;
            if first >> 5 != 3 {
                let rule = "a key is not text";
                return Err(Malformed { rule, at });
            }
            keys.see(self.text(first, at)?.of(self.bytes, &[]));
            self.item(depth)?;
            members += 1;
        }
        self.scratch.close_object(index, members, &keys, self.bytes)
    }

    /// Of an array or map; `None`: until a break. What is announced allocates nothing.
    fn count(&mut self, first: u8) -> Result<Option<u64>, Malformed> {
        if first & 31 == 31 {
            return Ok(None);
        }
        self.argument(first).map(Some)
    }

    fn goes_on(&mut self, count: Option<u64>, read: u32) -> Result<bool, Malformed> {
        if let Some(count) = count {
            return Ok(u64::from(read) < count);
        }
        if self.bytes.get(self.at) == Some(&BREAK) {
            self.at += 1;
            return Ok(false);
        }
        Ok(true)
    }

    fn argument(&mut self, first: u8) -> Result<u64, Malformed> {
        let follow = match first & 31 {
            small @ 0..=23 => return Ok(small.into()),
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => return self.refuse("no such length"),
        };
        let mut argument = 0;
        for _ in 0..follow {
            argument = argument << 8 | u64::from(self.byte()?);
        }
        Ok(argument)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        let Some(byte) = self.bytes.get(self.at) else {
            return self.refuse("it ends where an item is due");
        };
        self.at += 1;
        Ok(*byte)
    }

    fn refuse<T>(&self, rule: &'static str) -> Result<T, Malformed> {
        Err(Malformed { rule, at: self.at })
    }
}

/// A float of 16 bits (RFC 8949, appendix D).
fn half(bits: u16) -> f64 {
    let exponent = i32::from(bits >> 10 & 31);
    let mantissa = f64::from(bits & 1023);
    let value = match exponent {
        0 => mantissa * 2_f64.powi(-24),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (mantissa + 1024.0) * 2_f64.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -value } else { value }
}
