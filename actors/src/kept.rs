//! Undos in a journal: their layout has a number, and names and bytes are kept as they are.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    marker::PhantomData,
    ops::Deref,
    sync::Arc,
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, SeqAccess, Visitor},
    ser::SerializeStruct,
};

const FIELDS: [&str; 2] = ["layout", "undo"];

/// Writes an undo with the number of its layout, so that a later program can tell what it reads.
pub(crate) fn serialize<S: Serializer>(
    layout: u32,
    undo: &impl Serialize,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut kept = serializer.serialize_struct("Undo", 2)?;
    kept.serialize_field(FIELDS[0], &layout)?;
    kept.serialize_field(FIELDS[1], undo)?;
    kept.end()
}

/// Reads an undo of this layout.
///
/// # Errors
/// One that names the stage and both numbers, if it has another layout.
pub(crate) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    stage: &'static str,
    layout: u32,
    deserializer: D,
) -> Result<T, D::Error> {
    let visitor = Kept {
        stage,
        layout,
        undo: PhantomData,
    };
    deserializer.deserialize_struct("Undo", &FIELDS, visitor)
}

struct Kept<T> {
    stage: &'static str,
    layout: u32,
    undo: PhantomData<T>,
}

impl<T> Kept<T> {
    fn check<E: de::Error>(&self, found: Option<u32>) -> Result<(), E> {
        let Kept { stage, layout, .. } = self;
        match found {
            Some(found) if found == *layout => Ok(()),
            Some(found) => Err(E::custom(format_args!(
                "an undo of {stage} has layout {found}, and this program knows layout {layout}: \
                 start the version of it that wrote the journal"
            ))),
            None => Err(E::custom(format_args!(
                "an undo of {stage} should begin with the number of its layout"
            ))),
        }
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Kept<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an undo of {} with its layout", self.stage)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut layout = None;
        while let Some(field) = map.next_key::<String>()? {
            match &*field {
                "layout" => layout = Some(map.next_value()?),
                "undo" => {
                    // Before the value is looked at, which may be of any shape.
                    self.check(layout)?;
                    let undo = map.next_value()?;
                    while map
                        .next_entry::<de::IgnoredAny, de::IgnoredAny>()?
                        .is_some()
                    {}
                    return Ok(undo);
                }
                _ => {
                    map.next_value::<de::IgnoredAny>()?;
                }
            }
        }
        Err(de::Error::missing_field("undo"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<T, A::Error> {
        self.check(seq.next_element()?)?;
        seq.next_element()?
            .ok_or_else(|| de::Error::missing_field("undo"))
    }
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
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.into()))
            }

            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(Bytes(bytes.into()))
            }

            // Formats without bytes have lists of numbers.
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Bytes, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(Bytes(bytes.into()))
            }
        }
        deserializer.deserialize_byte_buf(Any)
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
            serialize(LAYOUT, &(&self.0, &self.1), serializer)
        }
    }

    impl<'de, const LAYOUT: u32> Deserialize<'de> for Undo<LAYOUT> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let (name, bytes) = deserialize("Test", LAYOUT, deserializer)?;
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
            let text = "an undo of Test has layout 2, and this program knows layout 1: \
                        start the version of it that wrote the journal";
            assert_eq!(error.to_string(), text);
        }
    }
}
