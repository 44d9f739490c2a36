//! Values as PostgreSQL gets them.

use std::error::Error;

use tokio_postgres::types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked};

use crate::sql::Value;

impl ToSql for Value {
    fn to_sql(
        &self,
        wanted: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Value::Null => Ok(IsNull::Yes),
            Value::Bool(yes) if *wanted == Type::BOOL => yes.to_sql(wanted, out),
            Value::Int(int) => match *wanted {
                Type::INT2 => i16::try_from(*int)?.to_sql(wanted, out),
                Type::INT4 => i32::try_from(*int)?.to_sql(wanted, out),
                Type::INT8 => int.to_sql(wanted, out),
                _ => Err(mismatch("an integer", wanted)),
            },
            Value::Real(real) => match *wanted {
                Type::FLOAT4 => narrow(*real)?.to_sql(wanted, out),
                Type::FLOAT8 => real.to_sql(wanted, out),
                _ => Err(mismatch("a floating-point number", wanted)),
            },
            Value::Text(text) if <&str as ToSql>::accepts(wanted) => {
                text.as_str().to_sql(wanted, out)
            }
            Value::Blob(bytes) if *wanted == Type::BYTEA => bytes.as_slice().to_sql(wanted, out),
            Value::Bool(_) => Err(mismatch("a truth value", wanted)),
            Value::Text(_) => Err(mismatch("a text", wanted)),
            Value::Blob(_) => Err(mismatch("bytes", wanted)),
        }
    }

    fn accepts(_: &Type) -> bool {
        // `to_sql` decides, because it depends on the value: a NULL fits every type.
        true
    }

    to_sql_checked!();
}

fn mismatch(given: &str, wanted: &Type) -> Box<dyn Error + Sync + Send> {
    format!("{given} is bound to a parameter of type {wanted}: bind another value, or cast it")
        .into()
}

/// Digits may be lost, as in the server's own cast, but not the number.
fn narrow(real: f64) -> Result<f32, Box<dyn Error + Sync + Send>> {
    let narrow = real as f32;
    if (real.is_finite() && narrow.is_infinite()) || (real != 0.0 && narrow == 0.0) {
        return Err("the number is too large or too small for a parameter of type real".into());
    }
    Ok(narrow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_keeps_its_number_or_is_refused() {
        for real in [0.0, 0.5, -1e38, 1e-40, f64::INFINITY] {
            assert!(narrow(real).is_ok_and(|narrow| narrow == real as f32));
        }
        assert!(narrow(f64::NAN).is_ok_and(f32::is_nan));
        for real in [1e39, -1e39, 1e-50] {
            assert!(narrow(real).is_err(), "{real}");
        }
    }
}
