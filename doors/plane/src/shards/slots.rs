//! Connections by number, with a generation so that a late event never meets a newcomer.

/// A table whose numbers are used again.
pub struct Slots<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    /// Emptied, and not to be used before [`Slots::reuse`].
    retired: Vec<u32>,
    occupied: usize,
}

struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slots<T> {
    pub fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            retired: Vec::new(),
            occupied: 0,
        }
    }

    /// The number and its generation.
    pub fn insert(&mut self, value: T) -> (u32, u32) {
        self.occupied += 1;
        if let Some(index) = self.free.pop()
            && let Some(entry) = self.entries.get_mut(index as usize)
        {
            entry.value = Some(value);
            return (index, entry.generation);
        }
        let index = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        self.entries.push(Entry {
            generation: 0,
            value: Some(value),
        });
        (index, 0)
    }

    /// Empties a place. Its number is not given again before [`Slots::reuse`]: what was decided
    /// about it in the same turn must not meet a newcomer.
    pub fn remove(&mut self, index: u32) -> Option<T> {
        let entry = self.entries.get_mut(index as usize)?;
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.retired.push(index);
        self.occupied -= 1;
        Some(value)
    }

    /// Makes something else of what is in a place; `None` empties it.
    pub fn change(&mut self, index: u32, into: impl FnOnce(T) -> Option<T>) {
        let Some(value) = self.remove(index) else {
            return;
        };
        if let (Some(value), Some(entry)) = (into(value), self.entries.get_mut(index as usize)) {
            // It is still the same connection: its number goes back and its generation too.
            self.retired.pop();
            entry.generation = entry.generation.wrapping_sub(1);
            entry.value = Some(value);
            self.occupied += 1;
        }
    }

    /// Nothing speaks of removed numbers any more: they may be given again.
    pub fn reuse(&mut self) {
        self.free.append(&mut self.retired);
    }

    pub fn entry(&mut self, index: u32) -> Option<&mut T> {
        self.entries.get_mut(index as usize)?.value.as_mut()
    }

    /// Where a place lies, as address and bytes. Touches nothing of it.
    pub fn place(&self, index: u32) -> (*const u8, usize) {
        match self.entries.get(index as usize) {
            Some(entry) => (std::ptr::from_ref(entry).cast(), size_of::<Entry<T>>()),
            None => (std::ptr::null(), 0),
        }
    }

    pub fn generation(&self, index: u32) -> Option<u32> {
        self.entries
            .get(index as usize)
            .filter(|entry| entry.value.is_some())
            .map(|entry| entry.generation)
    }

    pub fn len(&self) -> usize {
        self.occupied
    }

    /// The numbers in use.
    pub fn indices(&self) -> Vec<u32> {
        self.entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.value.is_some())
            .filter_map(|(index, _)| u32::try_from(index).ok())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_used_again_has_another_generation() {
        let mut slots = Slots::new();
        let (first, generation) = slots.insert('a');
        assert_eq!(slots.remove(first), Some('a'));
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.generation(first), None);
        let (other, _) = slots.insert('o');
        assert_ne!(
            first, other,
            "the turn that removed it may still speak of it"
        );
        assert_eq!(slots.remove(other), Some('o'));
        slots.free.clear();
        slots.retired = vec![first];
        slots.reuse();
        let (second, newer) = slots.insert('b');
        assert_eq!(first, second);
        assert_ne!(generation, newer);
        assert_eq!((slots.len(), slots.indices()), (1, vec![second]));
    }

    #[test]
    fn what_is_changed_keeps_its_number_and_its_generation() {
        let mut slots = Slots::new();
        let (index, generation) = slots.insert('a');
        slots.change(index, |_| Some('b'));
        assert_eq!(slots.generation(index), Some(generation));
        assert_eq!((slots.entry(index).copied(), slots.len()), (Some('b'), 1));
        slots.change(index, |_| None);
        assert_eq!((slots.generation(index), slots.len()), (None, 0));
        assert_eq!(slots.retired, [index]);
    }
}
