//! The checksum of a row. SQLite's own file has none, so a flipped byte would be read as it is.

/// A CRC-32 over the parts of a row.
///
/// Each part goes in with its length, so that bytes can't move from one part to the next unnoticed.
pub(super) struct Checksum {
    hasher: crc32fast::Hasher,
    /// Parts that the hasher has not seen yet: it is faster on few large pieces than on many small
    /// ones.
    buffer: [u8; 64],
    buffered: usize,
}

impl Checksum {
    /// Begins the checksum of a row of this kind, so that no row passes for one of another kind.
    pub(super) fn of(kind: &str) -> Self {
        let checksum = Checksum {
            hasher: crc32fast::Hasher::new(),
            buffer: [0; 64],
            buffered: 0,
        };
        checksum.bytes(kind.as_bytes())
    }

    pub(super) fn number(mut self, number: u64) -> Self {
        self.put(&number.to_le_bytes());
        self
    }

    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        let mut checksum = self.number(bytes.len() as u64);
        checksum.put(bytes);
        checksum
    }

    pub(super) fn optional_bytes(self, bytes: Option<&[u8]>) -> Self {
        match bytes {
            None => self.number(u64::MAX),
            Some(bytes) => self.bytes(bytes),
        }
    }

    pub(super) fn finish(mut self) -> u32 {
        self.flush();
        self.hasher.finalize()
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.buffered + bytes.len() > self.buffer.len() {
            self.flush();
        }
        if bytes.len() > self.buffer.len() {
            self.hasher.update(bytes);
        } else {
            self.buffer[self.buffered..self.buffered + bytes.len()].copy_from_slice(bytes);
            self.buffered += bytes.len();
        }
    }

    fn flush(&mut self) {
        self.hasher.update(&self.buffer[..self.buffered]);
        self.buffered = 0;
    }
}
