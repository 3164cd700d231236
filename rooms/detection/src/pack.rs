//! Values to bytes and back, for snapshots: little endian, lengths first, nothing else.

use core::net::IpAddr;
use model::{DeviceId, ProductId, ServiceId, Subject, Timestamp};
use std::collections::BTreeMap;

pub trait Pack: Sized {
    fn put(&self, out: &mut Vec<u8>);
    /// `None` if the bytes end early or say what cannot be.
    fn take(input: &mut &[u8]) -> Option<Self>;
}

/// Packs a struct field by field, in the order given.
macro_rules! pack {
    ($type:ty { $($field:ident),+ }) => {
        impl crate::pack::Pack for $type {
            fn put(&self, out: &mut Vec<u8>) {
                $(crate::pack::Pack::put(&self.$field, out);)+
            }
            fn take(input: &mut &[u8]) -> Option<Self> {
                Some(Self { $($field: crate::pack::Pack::take(input)?),+ })
            }
        }
    };
}
pub(crate) use pack;

macro_rules! numbers {
    ($($type:ty),+) => {$(
        impl Pack for $type {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn take(input: &mut &[u8]) -> Option<Self> {
                let (bytes, rest) = input.split_first_chunk()?;
                *input = rest;
                Some(Self::from_le_bytes(*bytes))
            }
        }
    )+};
}
numbers!(u8, u16, u32, u64);

impl Pack for f32 {
    fn put(&self, out: &mut Vec<u8>) {
        self.to_bits().put(out);
    }
    /// A number that is none would make every later comparison false.
    fn take(input: &mut &[u8]) -> Option<Self> {
        Some(Self::from_bits(u32::take(input)?)).filter(|value| value.is_finite())
    }
}

impl Pack for bool {
    fn put(&self, out: &mut Vec<u8>) {
        u8::from(*self).put(out);
    }
    fn take(input: &mut &[u8]) -> Option<Self> {
        match u8::take(input)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl Pack for String {
    fn put(&self, out: &mut Vec<u8>) {
        u32::try_from(self.len()).unwrap_or(u32::MAX).put(out);
        out.extend_from_slice(self.as_bytes());
    }
    fn take(input: &mut &[u8]) -> Option<Self> {
        let len = usize::try_from(u32::take(input)?).ok()?;
        let (text, rest) = input.split_at_checked(len)?;
        *input = rest;
        Some(std::str::from_utf8(text).ok()?.to_owned())
    }
}

impl Pack for Timestamp {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_millis().put(out);
    }
    fn take(input: &mut &[u8]) -> Option<Self> {
        u64::take(input).map(Self::from_millis)
    }
}

macro_rules! texts {
    ($($type:ty),+) => {$(
        impl Pack for $type {
            fn put(&self, out: &mut Vec<u8>) {
                self.to_string().put(out);
            }
            fn take(input: &mut &[u8]) -> Option<Self> {
                String::take(input)?.parse().ok()
            }
        }
    )+};
}
texts!(DeviceId, ProductId, ServiceId, Subject, IpAddr);

impl<T: Pack> Pack for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }
    fn take(input: &mut &[u8]) -> Option<Self> {
        Some(if bool::take(input)? {
            Some(T::take(input)?)
        } else {
            None
        })
    }
}

impl<T: Pack> Pack for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        u32::try_from(self.len()).unwrap_or(u32::MAX).put(out);
        for item in self {
            item.put(out);
        }
    }
    fn take(input: &mut &[u8]) -> Option<Self> {
        let len = usize::try_from(u32::take(input)?).ok()?;
        // Every item has a byte at least: a length cannot promise more than is there.
        let mut items = Self::with_capacity(len.min(input.len()).min(1024));
        for _ in 0..len {
            items.push(T::take(input)?);
        }
        Some(items)
    }
}

impl<K: Pack + Ord, V: Pack> Pack for BTreeMap<K, V> {
    fn put(&self, out: &mut Vec<u8>) {
        u32::try_from(self.len()).unwrap_or(u32::MAX).put(out);
        for (key, value) in self {
            key.put(out);
            value.put(out);
        }
    }
    fn take(input: &mut &[u8]) -> Option<Self> {
        let mut map = Self::new();
        for _ in 0..u32::take(input)? {
            map.insert(K::take(input)?, V::take(input)?);
        }
        Some(map)
    }
}

impl<T: Pack + Copy + Default, const N: usize> Pack for [T; N] {
    fn put(&self, out: &mut Vec<u8>) {
        for item in self {
            item.put(out);
        }
    }
    fn take(input: &mut &[u8]) -> Option<Self> {
        let mut items = [T::default(); N];
        for item in &mut items {
            *item = T::take(input)?;
        }
        Some(items)
    }
}

/// FNV-1a. Finds damage and tells names apart where a mix-up costs nothing; proves nothing.
pub fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
