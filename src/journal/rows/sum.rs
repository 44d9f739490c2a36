//! The checksum that each row carries.

/// A checksum over parts, each with its length, so that none can borrow from the next.
pub(super) struct Sum {
    hasher: crc32fast::Hasher,
    /// Numbers that are not in there yet: few large pieces are quicker than many small ones.
    gathered: [u8; 64],
    len: usize,
}

impl Sum {
    pub(super) fn of(table: &str) -> Self {
        let sum = Sum {
            hasher: crc32fast::Hasher::new(),
            gathered: [0; 64],
            len: 0,
        };
        sum.bytes(table.as_bytes())
    }

    fn flush(&mut self) {
        self.hasher.update(&self.gathered[..self.len]);
        self.len = 0;
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.len + bytes.len() > self.gathered.len() {
            self.flush();
        }
        if bytes.len() > self.gathered.len() {
            self.hasher.update(bytes);
        } else {
            self.gathered[self.len..self.len + bytes.len()].copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    pub(super) fn number(mut self, number: u64) -> Self {
        self.put(&number.to_le_bytes());
        self
    }

    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        let mut sum = self.number(bytes.len() as u64);
        sum.put(bytes);
        sum
    }

    pub(super) fn maybe(self, bytes: Option<&[u8]>) -> Self {
        match bytes {
            None => self.number(u64::MAX),
            Some(bytes) => self.bytes(bytes),
        }
    }

    pub(super) fn end(mut self) -> u32 {
        self.flush();
        self.hasher.finalize()
    }
}
