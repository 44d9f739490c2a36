//! The digest of a context, by which another one under the same key is noticed.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// The digest of an encoded context. It is written to the file, so it is the same everywhere and for good.
pub(super) fn digest(context: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(context);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    #[test]
    fn d13_a_digest_never_changes() {
        assert_eq!(super::digest(b""), 0xd1fb_a762_150c_532c);
        assert_ne!(super::digest(b"a"), super::digest(b"b"));
    }
}
