//! Numbers of a payload, compared exactly: an integer of 64 bits never passes through a float.

use core::cmp::Ordering;
use std::fmt;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Number {
    Negative(i64),
    Natural(u64),
    /// Finite.
    Float(f64),
}

/// Above all integers of 64 bits, and exactly a float.
const BEYOND: f64 = 36_893_488_147_419_103_232.0;
/// How far a quotient of floats may lie from a whole number, relative to itself: 0.3 is a multiple
/// of 0.1, though neither is exact in binary.
const QUOTIENT_TOLERANCE: f64 = 1e-12;

impl Number {
    pub fn from_integer(value: i64) -> Self {
        u64::try_from(value).map_or(Self::Negative(value), Self::Natural)
    }

    /// `None` for what is no number.
    pub fn from_float(value: f64) -> Option<Self> {
        value.is_finite().then_some(Self::Float(value))
    }

    /// By value: 1.0 is an integer.
    pub fn is_integer(self) -> bool {
        match self {
            Self::Negative(_) | Self::Natural(_) => true,
            Self::Float(value) => value.trunc() == value,
        }
    }

    pub fn compare(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Natural(left), Self::Natural(right)) => left.cmp(&right),
            _ => self.compare_any(other),
        }
    }

    #[inline(never)]
    fn compare_any(self, other: Self) -> Ordering {
        match (self.integer(), other.integer()) {
            (Ok(left), Ok(right)) => left.cmp(&right),
            (Ok(left), Err(right)) => compare(left, right),
            (Err(left), Ok(right)) => compare(right, left).reverse(),
            (Err(left), Err(right)) => left.partial_cmp(&right).unwrap_or(Ordering::Equal),
        }
    }

    /// `of` is greater than 0.
    pub fn is_multiple_of(self, of: Self) -> bool {
        match (self.integer(), of.integer()) {
            (Ok(value), Ok(of)) => value.checked_rem(of) == Some(0),
            _ => {
                let quotient = self.float() / of.float();
                let tolerance = QUOTIENT_TOLERANCE * quotient.abs().max(1.0);
                quotient.is_finite() && (quotient - quotient.round()).abs() <= tolerance
            }
        }
    }

    fn integer(self) -> Result<i128, f64> {
        match self {
            Self::Negative(value) => Ok(value.into()),
            Self::Natural(value) => Ok(value.into()),
            Self::Float(value) => Err(value),
        }
    }

    fn float(self) -> f64 {
        match self {
            Self::Negative(value) => value as f64,
            Self::Natural(value) => value as f64,
            Self::Float(value) => value,
        }
    }
}

/// An integer of 65 bits at most against a float.
fn compare(integer: i128, float: f64) -> Ordering {
    if float >= BEYOND {
        return Ordering::Less;
    }
    if float <= -BEYOND {
        return Ordering::Greater;
    }
    let whole = float.trunc();
    let beyond_whole = || 0.0_f64.partial_cmp(&(float - whole));
    (integer.cmp(&(whole as i128))).then_with(|| beyond_whole().unwrap_or(Ordering::Equal))
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Negative(value) => value.fmt(f),
            Self::Natural(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Number::{Float, Natural, Negative};

    #[test]
    fn an_integer_never_passes_through_a_float() {
        let order = |left: Number, right: Number| left.compare(right);
        // As floats these are equal.
        assert_eq!(
            order(Natural(u64::MAX), Float(18_446_744_073_709_551_616.0)),
            Ordering::Less
        );
        assert_eq!(
            order(
                Natural(9_007_199_254_740_993),
                Float(9_007_199_254_740_992.0)
            ),
            Ordering::Greater
        );
        assert_eq!(order(Natural(1), Float(1.0)), Ordering::Equal);
        assert_eq!(order(Negative(-1), Float(-1.5)), Ordering::Greater);
        assert_eq!(order(Negative(-2), Float(-1.5)), Ordering::Less);
        assert_eq!(order(Float(-1e300), Negative(i64::MIN)), Ordering::Less);
        assert_eq!(order(Float(1e300), Natural(u64::MAX)), Ordering::Greater);
        assert_eq!(order(Float(-0.0), Natural(0)), Ordering::Equal);
    }

    #[test]
    fn a_tenth_divides_what_a_person_would_say_it_divides() {
        for (value, of, is) in [
            (Float(0.3), Float(0.1), true),
            (Float(4.5), Float(1.5), true),
            (Float(0.0075), Float(0.0001), true),
            (Float(0.00751), Float(0.0001), false),
            (Natural(10), Natural(5), true),
            (Natural(10), Natural(3), false),
            (Natural(u64::MAX), Natural(2), false),
            (Negative(-6), Natural(3), true),
            (Float(1e308), Float(1e-300), false),
        ] {
            assert_eq!(value.is_multiple_of(of), is, "{value} of {of}");
        }
    }
}
