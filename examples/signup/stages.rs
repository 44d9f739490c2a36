//! The values that go through the pipeline, and the stage that is no ready-made one.

use std::{path::Path, time::Duration};

use batrun::prelude::*;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

/// A sign-up: the request's body, the tasks' context, and what the journal keeps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SignUp {
    /// The client's idempotency key. Each request with this key is about this sign-up.
    pub(crate) key: Plain,
    pub(crate) name: Plain,
    /// A token, no number: what is in here is in the journal.
    pub(crate) card: String,
}

/// A text that can be a file's name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Plain(pub(crate) String);

impl TryFrom<String> for Plain {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        match (1..=64).contains(&text.len()) && text.chars().all(plain) {
            true => Ok(Plain(text)),
            false => Err("it has to be 1 to 64 characters out of a to z, 0 to 9 and -"),
        }
    }
}

/// Adds the account's row. A name that is taken fails the task.
pub(crate) struct Create(Connection);

impl Create {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let accounts = Connection::open(path)?;
        accounts.busy_timeout(Duration::from_secs(5))?;
        accounts.pragma_update(None, "journal_mode", "wal")?;
        accounts.execute(
            "CREATE TABLE IF NOT EXISTS accounts (
                 name TEXT PRIMARY KEY, signup TEXT NOT NULL UNIQUE, state TEXT NOT NULL
             )",
            (),
        )?;
        Ok(Create(accounts))
    }
}

impl Stage for Create {
    type Input = SignUp;
    type Output = SignUp;
    type Undo = String;
    const BLOCKING: bool = true;

    async fn run(
        &mut self,
        signup: SignUp,
        task: &TaskContext<'_, String>,
    ) -> Result<SignUp, Failure> {
        let undo = task.on_cancel(signup.key.0.clone()).await?;
        let row = (&signup.name.0, &signup.key.0);
        let sql = "INSERT INTO accounts VALUES (?1, ?2, 'new') ON CONFLICT DO NOTHING";
        if self.0.execute(sql, row)? == 0 {
            undo.withdraw().await?; // someone else's: leave it
            return Err(Failure::permanent("the name is taken"));
        }
        Ok(signup)
    }

    async fn cancel(&mut self, key: String, _: &CancelContext<'_>) -> Result<(), Failure> {
        self.0
            .execute("DELETE FROM accounts WHERE signup = ?1", [key])?;
        Ok(())
    }
}
