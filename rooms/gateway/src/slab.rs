//! Values at small numbers that are used again.

#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(crate) fn insert(&mut self, value: T) -> u32 {
        if let Some(index) = self.free.pop() {
            if let Some(place) = self.places.get_mut(index as usize) {
                *place = Some(value);
            }
            return index;
        }
        // Four billion live values do not fit any memory this runs in.
        let index = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        self.places.push(Some(value));
        index
    }

    /// Where a place lies, as address and bytes. Touches nothing of it.
    pub(crate) fn place(&self, index: u32) -> (*const u8, usize) {
        place_of(self.places.get(index as usize))
    }

    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        self.places.get(index as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.places.get_mut(index as usize)?.as_mut()
    }

    pub(crate) fn remove(&mut self, index: u32) -> Option<T> {
        let value = self.places.get_mut(index as usize)?.take()?;
        self.free.push(index);
        Some(value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0_u32..)
            .zip(&self.places)
            .filter_map(|(index, place)| Some((index, place.as_ref()?)))
    }

    /// One more than the largest index ever used.
    pub(crate) fn end(&self) -> u32 {
        u32::try_from(self.places.len()).unwrap_or(u32::MAX)
    }
}

/// Where something lies, as address and bytes.
pub(crate) fn place_of<T>(state: Option<&T>) -> (*const u8, usize) {
    match state {
        Some(state) => (std::ptr::from_ref(state).cast(), size_of::<T>()),
        None => (std::ptr::null(), 0),
    }
}
