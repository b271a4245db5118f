//! Values in fixed memory, found by number.

/// A bounded pool of values.
#[derive(Debug)]
pub struct Slab<T> {
    values: Vec<Option<T>>,
    free: Vec<u32>,
    capacity: usize,
}

impl<T> Slab<T> {
    /// Room for `capacity` values.
    pub fn new(capacity: usize) -> Self {
        Self { values: Vec::with_capacity(capacity), free: Vec::with_capacity(capacity), capacity }
    }

    /// Puts a value in; `None` when there is no room, and the value is gone.
    pub fn insert(&mut self, value: T) -> Option<u32> {
        if let Some(index) = self.free.pop() {
            *self.values.get_mut(usize::try_from(index).ok()?)? = Some(value);
            return Some(index);
        }
        if self.values.len() == self.capacity {
            return None;
        }
        self.values.push(Some(value));
        u32::try_from(self.values.len() - 1).ok()
    }

    /// The value with that number.
    pub fn get(&self, index: u32) -> Option<&T> {
        self.values.get(usize::try_from(index).ok()?)?.as_ref()
    }

    /// Takes a value out.
    pub fn take(&mut self, index: u32) -> Option<T> {
        let value = self.values.get_mut(usize::try_from(index).ok()?)?.take()?;
        self.free.push(index);
        Some(value)
    }

    /// Puts a value back where it was just taken from.
    pub fn put_back(&mut self, index: u32, value: T) {
        if self.free.last() == Some(&index) {
            self.free.pop();
        }
        if let Some(place) = usize::try_from(index).ok().and_then(|index| self.values.get_mut(index)) {
            *place = Some(value);
        }
    }

    /// Forgets all values.
    pub fn clear(&mut self) {
        self.values.clear();
        self.free.clear();
    }
}
