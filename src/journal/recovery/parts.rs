//! A list of many tasks, which never moves.

/// A list of many, in parts: it never moves as it grows, and the memory of a large part goes back to
/// the system once that is taken out.
pub(crate) struct Parts<T>(Vec<Vec<T>>);

impl<T> Parts<T> {
    /// Glibc asks the system for each piece above 32 MB by itself; smaller ones it may keep.
    const LARGEST: usize = (33 << 20) / size_of::<T>();

    pub(super) fn new() -> Self {
        Parts(Vec::new())
    }

    pub(super) fn push(&mut self, item: T) {
        match self.0.last_mut() {
            Some(last) if last.len() < last.capacity() => last.push(item),
            _ => {
                let room = match self.len() {
                    few @ ..4_096 => few.max(64),
                    _ => Self::LARGEST,
                };
                let mut part = Vec::with_capacity(room);
                part.push(item);
                self.0.push(part);
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

impl<T> IntoIterator for Parts<T> {
    type Item = T;
    type IntoIter = std::iter::Flatten<std::vec::IntoIter<Vec<T>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::Parts;

    #[test]
    fn parts_keep_the_order() {
        let mut parts = Parts::new();
        (0..1_000).for_each(|number| parts.push(number));
        assert!(parts.0.len() > 1);
        assert_eq!(parts.len(), 1_000);
        assert!(parts.iter().copied().eq(0..1_000));
        assert!(parts.into_iter().eq(0..1_000));
    }
}
