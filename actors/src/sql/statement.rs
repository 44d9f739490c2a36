//! A statement and the values bound to it.

use std::fmt;

use batrun::Failure;

/// An SQL statement with the values of its placeholders.
///
/// Its `Debug` shows the text without the values. So bind a value that nobody should read in a
/// report, instead of writing it into the text.
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
    pub(super) rows: Option<u64>,
}

impl Statement {
    /// A single statement. Its placeholders are the database's own: `?1` on SQLite, `$1` on
    /// PostgreSQL.
    pub fn new(text: impl Into<String>) -> Self {
        Statement {
            text: text.into(),
            values: Vec::new(),
            rows: None,
        }
    }

    /// Binds a value to the next placeholder.
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Sets the number of rows that it has to insert, update, delete or, as a query, return. With
    /// any other number the transaction is rolled back and the attempt fails for good. Default: any
    /// number will do.
    pub fn expect_rows(mut self, rows: u64) -> Self {
        self.rows = Some(rows);
        self
    }

    /// # Errors
    /// A permanent failure if another number of rows was expected.
    pub(super) fn check(&self, rows: u64) -> Result<(), Failure> {
        match self.rows {
            Some(wanted) if wanted != rows => Err(Failure::permanent(format!(
                "{rows} rows instead of {wanted}, so the transaction was rolled back: {self:?}"
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
/// `From` makes one from Rust's integers up to 64 bits, floats, texts, bytes, `bool`, and an
/// `Option` of these. A `u64` has to be converted first, because not every one fits.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// NULL.
    Null,
    /// An integer. If PostgreSQL's parameter has fewer bits, one that doesn't fit is an error.
    Int(i64),
    /// A floating-point number.
    Real(f64),
    /// A text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
    /// A truth value. SQLite has no such type and gets 0 or 1.
    Bool(bool),
}

/// Shows the variant without the value, which may be a secret.
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
