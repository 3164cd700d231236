//! Whole numbers as large as a modulus: as much of them as taking a square root needs.
//!
//! Public numbers only: nothing here takes the same time for all of them.

use std::cmp::Ordering;

/// Limbs of 64 bits, the lowest first, none of them a leading zero.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Natural(Vec<u64>);

impl Natural {
    /// The root of a number in big-endian bytes, rounded down, and what is left beside its square.
    /// Digit by digit, as on paper.
    pub(super) fn root(number: &[u8]) -> (Self, Self) {
        let pairs = number
            .iter()
            .flat_map(|byte| [byte >> 6, byte >> 4, byte >> 2, *byte])
            .map(|pair| u64::from(pair & 3));
        let (mut root, mut rest) = (Self::default(), Self::default());
        for pair in pairs {
            rest.shift_in(2, pair);
            let mut trial = root.clone();
            trial.shift_in(2, 1);
            let fits = rest.compare(&trial) != Ordering::Less;
            if fits {
                rest.subtract(&trial);
            }
            root.shift_in(1, u64::from(fits));
        }
        (root, rest)
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn is_square(&self) -> bool {
        // Of 64 residues squares have 12, and few of the others' too: seldom is more to be done.
        const RESIDUES_OF_64: u64 = 0x0202_0212_0203_0213;
        let low = self.0.first().copied().unwrap_or_default();
        if RESIDUES_OF_64 >> (low % 64) & 1 == 0 {
            return false;
        }
        let may_be = |modulus: u64| {
            let residue = self.residue(modulus);
            (0..modulus).any(|root| root * root % modulus == residue)
        };
        if ![63, 65, 11, 17, 19].into_iter().all(may_be) {
            return false;
        }
        let bytes: Vec<u8> = (self.0.iter().rev())
            .flat_map(|limb| limb.to_be_bytes())
            .collect();
        Self::root(&bytes).1.is_zero()
    }

    pub(super) fn double_and_add_one(&mut self) {
        self.shift_in(1, 1);
    }

    pub(super) fn add_small(&mut self, small: u64) {
        self.add(&Self(vec![small]));
    }

    pub(super) fn add(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        let mut carry = false;
        let others = other.0.iter().copied().chain(std::iter::repeat(0));
        for (limb, other) in self.0.iter_mut().zip(others) {
            let (sum, first) = limb.overflowing_add(other);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            *limb = sum;
            carry = first || second;
        }
        if carry {
            self.0.push(1);
        }
    }

    /// `other` is no larger.
    pub(super) fn subtract(&mut self, other: &Self) {
        let mut borrow = false;
        let others = other.0.iter().copied().chain(std::iter::repeat(0));
        for (limb, other) in self.0.iter_mut().zip(others) {
            let (rest, first) = limb.overflowing_sub(other);
            let (rest, second) = rest.overflowing_sub(u64::from(borrow));
            *limb = rest;
            borrow = first || second;
        }
        self.trim();
    }

    fn compare(&self, other: &Self) -> Ordering {
        let by_length = self.0.len().cmp(&other.0.len());
        by_length.then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }

    /// Moves up by one or two bits and puts `low` into their place.
    fn shift_in(&mut self, bits: u32, low: u64) {
        let mut carry = low;
        for limb in &mut self.0 {
            let out = *limb >> (64 - bits);
            *limb = *limb << bits | carry;
            carry = out;
        }
        if carry > 0 {
            self.0.push(carry);
        }
    }

    fn residue(&self, modulus: u64) -> u64 {
        let modulus = u128::from(modulus.max(1));
        let rest = (self.0.iter().rev()).fold(0, |rest: u128, limb| {
            (rest << 64 | u128::from(*limb)) % modulus
        });
        u64::try_from(rest).unwrap_or_default()
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn natural(value: u128) -> Natural {
        let mut out = Natural(vec![value as u64, (value >> 64) as u64]);
        out.trim();
        out
    }

    proptest! {
        #[test]
        fn a_root_is_the_largest_whose_square_fits(value: u128) {
            let (root, rest) = Natural::root(&value.to_be_bytes());
            let mut known = value.isqrt();
            prop_assert_eq!(&root, &natural(known));
            prop_assert_eq!(rest, natural(value - known * known));
            prop_assert_eq!(natural(value).is_square(), known * known == value);
            known &= u128::from(u64::MAX);
            prop_assert!(natural(known * known).is_square());
        }

        #[test]
        fn sums_and_differences_are_those_of_numbers(a: u64, b: u128, low in 0u64..2) {
            let b = b >> 1;
            let mut sum = natural(b);
            sum.add(&natural(u128::from(a)));
            prop_assert_eq!(&sum, &natural(b + u128::from(a)));
            sum.subtract(&natural(b));
            prop_assert_eq!(&sum, &natural(u128::from(a)));
            let mut doubled = natural(b >> 1);
            doubled.shift_in(1, low);
            prop_assert_eq!(doubled, natural((b >> 1) * 2 + u128::from(low)));
            prop_assert_eq!(natural(b).residue(65), u64::try_from(b % 65).unwrap());
        }
    }
}
