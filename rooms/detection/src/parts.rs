//! Devices, divided so that what is known of them is kept part by part: all at once would be a
//! gigabyte for a million of them.

use crate::pack::digest;
use model::DeviceId;
use std::collections::BTreeMap;

const PARTS: usize = 1 << u8::BITS;

#[derive(Debug)]
pub struct Parts<T>(Vec<BTreeMap<DeviceId, T>>);

impl<T> Parts<T> {
    pub fn new() -> Self {
        Self((0..PARTS).map(|_| BTreeMap::new()).collect())
    }

    pub fn get(&self, device: &DeviceId) -> Option<&T> {
        self.0.get(part_of(device))?.get(device)
    }

    pub fn get_mut(&mut self, device: &DeviceId) -> Option<&mut T> {
        self.0.get_mut(part_of(device))?.get_mut(device)
    }

    pub fn insert(&mut self, device: DeviceId, value: T) {
        if let Some(part) = self.0.get_mut(part_of(&device)) {
            part.insert(device, value);
        }
    }

    pub fn remove(&mut self, device: &DeviceId) -> Option<T> {
        self.0.get_mut(part_of(device))?.remove(device)
    }

    pub fn part(&self, part: u8) -> impl ExactSizeIterator<Item = (&DeviceId, &T)> {
        self.0
            .get(usize::from(part))
            .map(BTreeMap::iter)
            .unwrap_or_default()
    }
}

/// Stored parts are named by it, so it never changes. The hash's bytes are folded into one: its low ones
/// alone hardly differ between names that differ at their end.
fn part_of(device: &DeviceId) -> usize {
    let hash = digest(device.as_str().as_bytes()).to_le_bytes();
    usize::from(hash.into_iter().fold(0, |all, byte| all ^ byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_is_in_one_part_and_parts_are_alike_in_size() {
        let mut parts = Parts::new();
        let devices: Vec<DeviceId> = (0..25_600)
            .map(|number| DeviceId::new(&format!("camera-{number:06}")).unwrap())
            .collect();
        for device in &devices {
            parts.insert(device.clone(), ());
        }
        let sizes: Vec<usize> = (0..=u8::MAX).map(|part| parts.part(part).len()).collect();
        assert_eq!(sizes.iter().sum::<usize>(), devices.len());
        assert!(
            sizes.iter().all(|size| (50..200).contains(size)),
            "{sizes:?}"
        );
        assert_eq!(part_of(&devices[0]), 158, "stored, so it never changes");
        assert!(devices.iter().all(|device| parts.remove(device).is_some()));
        assert_eq!(parts.part(158).len(), 0);
    }
}
