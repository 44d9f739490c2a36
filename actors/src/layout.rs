//! The version of an undo's layout in a journal.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// The first field of every stored undo. It reads back only if the stored number is `N`, so that an
/// undo that a later version wrote in another layout is told apart and not misread.
pub(crate) struct Layout<const N: u32>;

impl<const N: u32> Serialize for Layout<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(N)
    }
}

impl<'de, const N: u32> Deserialize<'de> for Layout<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let found = u32::deserialize(deserializer)?;
        if found == N {
            return Ok(Layout);
        }
        Err(D::Error::custom(format!(
            "an undo in layout {found}, where this version of batrun-actors knows {N}: \
             run it with the version that wrote it"
        )))
    }
}
