//! A statement and the values bound to it.

use std::fmt;

use batrun::Failure;

/// An SQL statement with its values.
///
/// Its `Debug` shows the text without the values, so bind what nobody should read in a report
/// rather than write it into the text.
///
/// ```
/// use batrun_actors::Statement;
///
/// let insert = Statement::new("INSERT INTO people (id, name) VALUES (?1, ?2)").bind(7).bind("Ada");
/// assert_eq!(format!("{insert:?}"), "INSERT INTO people (id, name) VALUES (?1, ?2)");
/// ```
#[derive(Clone)]
pub struct Statement {
    pub(super) text: String,
    pub(super) values: Vec<Value>,
    rows: Option<u64>,
}

impl Statement {
    /// A single statement; the placeholders are the database's own.
    pub fn new(text: impl Into<String>) -> Self {
        Statement {
            text: text.into(),
            values: Vec::new(),
            rows: None,
        }
    }

    /// The value of the next placeholder.
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// How many rows it has to insert, update, delete or, as a query, return. Any other number
    /// rolls the transaction back and fails for good. Any number will do unless told otherwise.
    pub fn expect_rows(mut self, rows: u64) -> Self {
        self.rows = Some(rows);
        self
    }

    /// # Errors
    /// A permanent failure, if another number of rows was expected.
    pub(super) fn check(&self, rows: u64) -> Result<(), Failure> {
        match self.rows {
            Some(wanted) if wanted != rows => Err(Failure::permanent(format!(
                "{rows} rows where {wanted} were expected: {self:?}"
            ))),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Statement> for Vec<Statement> {
    fn from(statement: Statement) -> Self {
        vec![statement]
    }
}

/// A value that is bound to a placeholder.
///
/// `From` makes one of Rust's integers up to 64 bits, floats, texts, bytes, `bool`, and of an
/// `Option` of these. A `u64` has to be converted first, because not each fits.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// NULL.
    Null,
    /// An integer. PostgreSQL may want fewer bits; one that doesn't fit then is an error.
    Int(i64),
    /// A floating-point number.
    Real(f64),
    /// A text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
    /// A truth value; on SQLite, 0 or 1.
    Bool(bool),
}

/// Shows what sort of value it is, and not the value: it may be a secret.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Value::Null => "Null",
            Value::Int(_) => "Int(..)",
            Value::Real(_) => "Real(..)",
            Value::Text(_) => "Text(..)",
            Value::Blob(_) => "Blob(..)",
            Value::Bool(_) => "Bool(..)",
        })
    }
}

macro_rules! from {
    ($($from:ty => $to:ident),* $(,)?) => {
        $(impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Value::$to(value.into())
            }
        })*
    };
}

from! {
    i8 => Int, i16 => Int, i32 => Int, i64 => Int, u8 => Int, u16 => Int, u32 => Int,
    f32 => Real, f64 => Real,
    String => Text, &str => Text, &String => Text,
    Vec<u8> => Blob, &[u8] => Blob,
    bool => Bool,
}

impl From<&Vec<u8>> for Value {
    fn from(bytes: &Vec<u8>) -> Self {
        Value::Blob(bytes.clone())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}
