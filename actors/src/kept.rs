//! The contents of undos, as a journal keeps them: with the number of the layout, names and bytes as they are.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    ops::Deref,
    sync::Arc,
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
};

use crate::layout::Layout;

/// Writes an undo with the number of its layout before it.
pub(crate) fn serialize<const LAYOUT: u32, S: Serializer>(
    undo: &impl Serialize,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let layout = Layout::<LAYOUT>;
    Kept { layout, undo }.serialize(serializer)
}

/// Reads an undo of this layout.
pub(crate) fn deserialize<'de, const LAYOUT: u32, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Kept::<LAYOUT, T>::deserialize(deserializer)?.undo)
}

#[derive(Serialize, Deserialize)]
struct Kept<const LAYOUT: u32, T> {
    layout: Layout<LAYOUT>,
    undo: T,
}

/// A name or path: text where it is text, bytes where it is not.
#[derive(Clone)]
pub(crate) struct Name<N>(pub(crate) N);

impl<N: AsRef<OsStr>> Serialize for Name<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name = self.0.as_ref();
        if let Some(text) = name.to_str() {
            return serializer.serialize_str(text);
        }
        #[cfg(unix)]
        return serializer.serialize_bytes(std::os::unix::ffi::OsStrExt::as_bytes(name));
        #[cfg(not(unix))]
        Err(serde::ser::Error::custom(format_args!(
            "{name:?} is no text, which a journal can't keep here"
        )))
    }
}

impl<'de, N: From<OsString>> Deserialize<'de> for Name<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = OsString;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OsString, E> {
                Ok(text.into())
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<OsString, E> {
                #[cfg(unix)]
                return Ok(std::os::unix::ffi::OsStringExt::from_vec(bytes.to_vec()));
                #[cfg(not(unix))]
                Err(E::invalid_value(de::Unexpected::Bytes(bytes), &self))
            }
        }
        let name = deserializer.deserialize_any(Any)?;
        Ok(Name(name.into()))
    }
}

impl<N> Deref for Name<N> {
    type Target = N;

    fn deref(&self) -> &N {
        &self.0
    }
}

/// Bytes, which serde would otherwise keep as a list of numbers.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Arc<[u8]>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_bytes::Bytes::new(&self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
        Ok(Bytes(bytes.into_vec().into()))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    struct Undo<const LAYOUT: u32>(Name<PathBuf>, Bytes);

    impl<const LAYOUT: u32> Serialize for Undo<LAYOUT> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serialize::<LAYOUT, _>(&(&self.0, &self.1), serializer)
        }
    }

    impl<'de, const LAYOUT: u32> Deserialize<'de> for Undo<LAYOUT> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let (name, bytes) = deserialize::<LAYOUT, _, _>(deserializer)?;
            Ok(Undo(name, bytes))
        }
    }

    /// With the names of fields, as a journal keeps it, and without.
    fn both<const LAYOUT: u32>(undo: &Undo<LAYOUT>) -> [Vec<u8>; 2] {
        [
            rmp_serde::to_vec_named(undo).unwrap(),
            rmp_serde::to_vec(undo).unwrap(),
        ]
    }

    #[test]
    fn f26_names_and_bytes_are_kept_as_they_are() {
        let bytes = Bytes(b"\0\xff"[..].into());
        for kept in both(&Undo::<1>(Name("a/é".into()), bytes.clone())) {
            let Undo::<1>(name, read) = rmp_serde::from_slice(&kept).unwrap();
            assert_eq!((&**name, read == bytes), ("a/é".as_ref(), true));
        }
        #[cfg(unix)]
        {
            let odd: OsString = std::os::unix::ffi::OsStringExt::from_vec(b"a/\xff".to_vec());
            for kept in both(&Undo::<1>(Name(odd.clone().into()), bytes)) {
                let Undo::<1>(name, _) = rmp_serde::from_slice(&kept).unwrap();
                assert_eq!(name.as_os_str(), odd);
            }
        }
    }

    #[test]
    fn f26_an_undo_of_another_layout_is_told() {
        for kept in both(&Undo::<2>(Name("a".into()), Bytes(b""[..].into()))) {
            let Err(error) = rmp_serde::from_slice::<Undo<1>>(&kept) else {
                panic!("it was read");
            };
            let error = error.to_string();
            assert!(error.contains("an undo in layout 2, where"), "{error}");
        }
    }
}
