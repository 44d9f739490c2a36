//! The meaning of a server's or a connection's error for a task.

use std::io;

use batrun::Failure;
use tokio_postgres::{
    Error,
    error::{Severity, SqlState},
};

use crate::{
    chain::{find, is_distrust},
    sql::Broken,
};

/// A COMMIT that may or may not have taken effect. The failure is permanent, because another
/// attempt might take effect twice.
pub(super) fn unknown(why: String) -> Broken {
    let failure = Failure::permanent(format!(
        "the COMMIT may or may not have taken effect, so look into the database: {why}"
    ));
    let unsure = true;
    Broken { failure, unsure }
}

/// `true` if a COMMIT with this error surely had no effect.
pub(super) fn is_refusal(error: &Error) -> bool {
    error.as_db_error().is_some_and(|error| {
        error.parsed_severity() == Some(Severity::Error)
            && *error.code() != SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN
    })
}

pub(super) fn failure(error: Error) -> Failure {
    let again = match error.code() {
        Some(code) => {
            let class = code.code().get(..2).unwrap_or_default();
            let known = [
                SqlState::T_R_SERIALIZATION_FAILURE,
                SqlState::T_R_DEADLOCK_DETECTED,
                SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN,
                SqlState::LOCK_NOT_AVAILABLE,
            ];
            // The classes: connection exceptions, insufficient resources, operator intervention.
            matches!(class, "08" | "53" | "57") || known.contains(code)
        }
        None if is_distrust(&error) => false,
        None => error.is_closed() || find::<io::Error>(&error).is_some(),
    };
    if again {
        Failure::new(error)
    } else {
        Failure::permanent(error)
    }
}
