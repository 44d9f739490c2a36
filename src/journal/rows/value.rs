//! Values that describe themselves: MessagePack, with the names of fields.

use serde::{Serialize, de::DeserializeOwned};

/// A value that the journal may hold is no larger: what SQLite takes in one piece, with room to spare.
const LARGEST: usize = 256 << 20;

/// The bytes of a value, unless they are too many.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(64);
    rmp_serde::encode::write_named(&mut bytes, value).map_err(|error| error.to_string())?;
    if bytes.len() > LARGEST {
        return Err(format!(
            "it takes {} bytes, and {LARGEST} is the most",
            bytes.len()
        ));
    }
    Ok(bytes)
}

/// The whole of the bytes, and nothing but these.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let mut decoder = rmp_serde::Deserializer::new(std::io::Cursor::new(bytes));
    // An attacker's nesting must not take the stack.
    decoder.set_max_depth(128);
    let value = T::deserialize(&mut decoder).map_err(|error| error.to_string())?;
    match decoder.position() {
        end if end == bytes.len() as u64 => Ok(value),
        end => Err(format!("{} bytes follow it", bytes.len() as u64 - end)),
    }
}
