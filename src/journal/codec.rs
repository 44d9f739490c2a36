//! Values as bytes: MessagePack with the names of fields, so that values describe themselves.

use serde::{Serialize, de::DeserializeOwned};

/// The size limit of one encoded value, in bytes: below what SQLite takes in one piece.
const MAX_VALUE_BYTES: usize = 256 << 20;

/// The deepest nesting that is decoded, so that a forged value can't exhaust the stack.
const MAX_DEPTH: usize = 128;

/// Encodes a value. The error is a text for people.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(64);
    rmp_serde::encode::write_named(&mut bytes, value).map_err(|error| error.to_string())?;
    if bytes.len() > MAX_VALUE_BYTES {
        return Err(format!(
            "it takes {} bytes, more than the limit of {MAX_VALUE_BYTES}",
            bytes.len()
        ));
    }
    Ok(bytes)
}

/// Decodes a value, which must take up all of the bytes. The error is a text for people.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let mut decoder = rmp_serde::Deserializer::new(std::io::Cursor::new(bytes));
    decoder.set_max_depth(MAX_DEPTH);
    let value = T::deserialize(&mut decoder).map_err(|error| error.to_string())?;
    match decoder.position() {
        end if end == bytes.len() as u64 => Ok(value),
        end => Err(format!(
            "{} more bytes follow the value",
            bytes.len() as u64 - end
        )),
    }
}

/// Tells serde which fields to leave out of a row: those that read back as their default anyway.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
