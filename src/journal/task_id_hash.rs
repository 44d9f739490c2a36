//! A hasher for task numbers.

use std::hash::Hasher;

/// Spreads task numbers over a hash table with one multiplication.
///
/// The pipeline counts tasks itself, so nobody can choose numbers that collide.
#[derive(Default)]
pub(super) struct TaskIdHasher(u64);

impl Hasher for TaskIdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, number: u64) {
        // The table looks at the highest bits too, which small numbers leave empty.
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
