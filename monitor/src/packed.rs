//! Values of a journal, which are MessagePack, as JSON.

use rmpv::{Value as Packed, decode::read_value_with_max_depth};
use serde_json::{Value, json};

/// The deepest nesting that is shown. Deeper values are shown as bytes.
const DEPTH: usize = 64;

/// A value. Parts that JSON can't express become texts.
pub(crate) fn json(bytes: &[u8]) -> Value {
    let mut rest = bytes;
    match read_value_with_max_depth(&mut rest, DEPTH) {
        Ok(packed) if rest.is_empty() => shown(packed),
        _ => hex(bytes),
    }
}

fn shown(packed: Packed) -> Value {
    match packed {
        Packed::Nil => Value::Null,
        Packed::Boolean(yes) => yes.into(),
        Packed::Integer(number) => number
            .as_u64()
            .map(Value::from)
            .or_else(|| number.as_i64().map(Value::from))
            .unwrap_or_else(|| number.to_string().into()),
        Packed::F32(number) => float(number.is_finite(), number.to_string()),
        Packed::F64(number) => float(number.is_finite(), number.to_string()),
        Packed::String(text) => String::from_utf8_lossy(text.as_bytes()).into(),
        Packed::Binary(bytes) => hex(&bytes),
        Packed::Array(values) => values.into_iter().map(shown).collect(),
        Packed::Map(entries) => {
            let entries = entries.into_iter().map(|(name, value)| {
                let name = match shown(name) {
                    Value::String(name) => name,
                    other => other.to_string(),
                };
                (name, shown(value))
            });
            Value::Object(entries.collect())
        }
        Packed::Ext(kind, bytes) => json!({ "ext": kind, "bytes": hex(&bytes) }),
    }
}

fn float(is_finite: bool, text: String) -> Value {
    match text.parse::<f64>() {
        Ok(number) if is_finite => number.into(),
        _ => text.into(),
    }
}

fn hex(bytes: &[u8]) -> Value {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_json() {
        for (bytes, value) in [
            (&[0x2a][..], json!(42)),
            (&[0xd0, 0xfb], json!(-5)),
            (&[0xc0], json!(null)),
            (&[0xc3], json!(true)),
            (&[0xa2, b'h', b'i'], json!("hi")),
            (&[0x92, 0x01, 0xa0], json!([1, ""])),
            (
                &[0x82, 0xa1, b'a', 0x01, 0x02, 0xc2],
                json!({ "a": 1, "2": false }),
            ),
            (&[0xca, 0x3d, 0xcc, 0xcc, 0xcd], json!(0.1)),
            (&[0xca, 0x7f, 0x80, 0, 0], json!("inf")),
            (&[0xc4, 2, 0xbe, 0xef], json!("0xbeef")),
            (&[0xd4, 7, 0xff], json!({ "ext": 7, "bytes": "0xff" })),
            // Too little, and too much.
            (&[0x92, 0x01], json!("0x9201")),
            (&[0x01, 0x02], json!("0x0102")),
            (&[], json!("0x")),
        ] {
            assert_eq!(json(bytes), value, "{bytes:02x?}");
        }
        assert!(json(&[0x91; 100]).is_string());
    }
}
