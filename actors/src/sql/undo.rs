//! The undo of a transaction, as data that a journal can keep.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::{ByteBuf, Bytes};

use super::{Statement, Value};
use crate::layout::Layout;

/// The undo of an SQL stage: the statements that take its transaction back.
///
/// Its `Debug` shows their texts without the values, because reports print it.
///
/// # In a journal
/// A pipeline with a journal keeps the statements in the journal's file, with the values that are
/// bound to them, so whoever can read the journal can read those, until the task's outcome is
/// dropped. They are stored with the number of their layout, now 1. A version of this crate that
/// doesn't know the number refuses them instead of running something else.
#[derive(Clone)]
pub struct SqlUndo(pub(super) Arc<[Statement]>);

impl fmt::Debug for SqlUndo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, statement) in self.0.iter().enumerate() {
            let between = if index == 0 { "" } else { "; " };
            write!(f, "{between}{statement:?}")?;
        }
        Ok(())
    }
}

/// Layout 1.
#[derive(Serialize)]
struct Written<'a> {
    layout: Layout<1>,
    statements: Vec<WrittenStatement<'a>>,
}

#[derive(Serialize)]
struct WrittenStatement<'a> {
    text: &'a str,
    values: Vec<WrittenValue<'a>>,
    rows: Option<u64>,
}

#[derive(Serialize)]
enum WrittenValue<'a> {
    Null,
    Int(i64),
    Real(f64),
    Text(&'a str),
    Blob(&'a Bytes),
    Bool(bool),
}

impl<'a> From<&'a Value> for WrittenValue<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Null => WrittenValue::Null,
            Value::Int(int) => WrittenValue::Int(*int),
            Value::Real(real) => WrittenValue::Real(*real),
            Value::Text(text) => WrittenValue::Text(text),
            Value::Blob(bytes) => WrittenValue::Blob(Bytes::new(bytes)),
            Value::Bool(yes) => WrittenValue::Bool(*yes),
        }
    }
}

/// Layout 1, as it is read.
#[derive(Deserialize)]
struct Read {
    #[serde(rename = "layout")]
    _layout: Layout<1>,
    statements: Vec<ReadStatement>,
}

#[derive(Deserialize)]
struct ReadStatement {
    text: String,
    values: Vec<ReadValue>,
    rows: Option<u64>,
}

#[derive(Deserialize)]
enum ReadValue {
    Null,
    Int(i64),
    Real(f64),
    Text(String),
    Blob(ByteBuf),
    Bool(bool),
}

impl Serialize for SqlUndo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let statements = self.0.iter().map(|statement| WrittenStatement {
            text: &statement.text,
            values: statement.values.iter().map(WrittenValue::from).collect(),
            rows: statement.rows,
        });
        Written {
            layout: Layout,
            statements: statements.collect(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SqlUndo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = |value| match value {
            ReadValue::Null => Value::Null,
            ReadValue::Int(int) => Value::Int(int),
            ReadValue::Real(real) => Value::Real(real),
            ReadValue::Text(text) => Value::Text(text),
            ReadValue::Blob(bytes) => Value::Blob(bytes.into_vec()),
            ReadValue::Bool(yes) => Value::Bool(yes),
        };
        let read = Read::deserialize(deserializer)?;
        let statements = read.statements.into_iter().map(|statement| Statement {
            text: statement.text,
            values: statement.values.into_iter().map(value).collect(),
            rows: statement.rows,
        });
        Ok(SqlUndo(statements.collect()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn undo() -> SqlUndo {
        let statement = Statement::new("DELETE FROM t WHERE a = ?1")
            .bind(None::<i32>)
            .bind(i64::MIN)
            .bind(-0.5)
            .bind("Ada")
            .bind(vec![200; 5000])
            .bind(true)
            .expect_rows(1);
        SqlUndo([statement, Statement::new("DELETE FROM u")].into())
    }

    #[test]
    fn an_undo_reads_back_as_it_was() {
        let undo = undo();
        let packed = rmp_serde::to_vec_named(&undo).unwrap();
        let text = serde_json::to_string(&undo).unwrap();
        let read: [SqlUndo; 2] = [
            rmp_serde::from_slice(&packed).unwrap(),
            serde_json::from_str(&text).unwrap(),
        ];
        // A blob takes a byte for each of its bytes.
        assert!(packed.len() < 5200);
        for read in read {
            assert_eq!(format!("{read:?}"), format!("{undo:?}"));
            for (read, was) in read.0.iter().zip(undo.0.iter()) {
                assert!(read.values == was.values);
                assert_eq!(read.rows, was.rows);
            }
        }
    }

    #[test]
    fn an_undo_of_another_layout_is_refused() {
        let mut stored = serde_json::to_value(undo()).unwrap();
        assert_eq!(stored["layout"], 1);
        stored["layout"] = 2.into();
        // Another layout may have nothing else of this one.
        for later in [stored, serde_json::json!({ "layout": 2, "statements": 7 })] {
            let error = serde_json::from_value::<SqlUndo>(later).unwrap_err();
            assert!(error.to_string().contains("layout 2"), "{error}");
        }
    }
}
