//! A list for many items, which never moves them.

/// A list in chunks.
///
/// A `Vec` of a million tasks would be copied each time it grows, and would keep all of its memory
/// until the last task is taken out. Here each chunk's memory goes back to the system as soon as
/// the chunk is empty.
pub(crate) struct ChunkedVec<T>(Vec<Vec<T>>);

impl<T> ChunkedVec<T> {
    /// The capacity of all but the first chunks. glibc maps a piece above 32 MB by itself and gives
    /// it back when it is freed; smaller ones it may keep.
    const LARGE_CHUNK: usize = (33 << 20) / size_of::<T>();

    pub(super) fn new() -> Self {
        ChunkedVec(Vec::new())
    }

    pub(super) fn push(&mut self, item: T) {
        match self.0.last_mut() {
            Some(last) if last.len() < last.capacity() => last.push(item),
            _ => {
                // Small chunks first, so that few items take little memory.
                let capacity = match self.len() {
                    few @ ..4_096 => few.max(64),
                    _ => Self::LARGE_CHUNK,
                };
                let mut chunk = Vec::with_capacity(capacity);
                chunk.push(item);
                self.0.push(chunk);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten()
    }
}

impl<T> IntoIterator for ChunkedVec<T> {
    type Item = T;
    type IntoIter = std::iter::Flatten<std::vec::IntoIter<Vec<T>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::ChunkedVec;

    #[test]
    fn chunks_keep_the_order() {
        let mut list = ChunkedVec::new();
        (0..1_000).for_each(|number| list.push(number));
        assert!(list.0.len() > 1);
        assert_eq!(list.len(), 1_000);
        assert!(list.iter().copied().eq(0..1_000));
        assert!(list.into_iter().eq(0..1_000));
    }
}
