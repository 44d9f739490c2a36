//! What goes through the pipeline, and the stages for which there are no ready-made ones.

use std::{io::ErrorKind, path::Path, time::Duration};

use awc::{
    Client, ClientResponse,
    error::{ConnectError, SendRequestError},
    http::StatusCode,
};
use batrun::prelude::*;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Maximum time for an answer of the bank.
const PATIENCE: Duration = Duration::from_millis(400);
/// The bank's answer if the card is refused.
const REFUSED: StatusCode = StatusCode::PAYMENT_REQUIRED;
/// The price of an account.
const CENTS: u32 = 990;

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

/// Has the bank charge the card. The task's key is the charge's name at the bank.
pub(crate) struct Charge {
    bank: String,
    client: Client,
}

impl Charge {
    pub(crate) fn at(bank: String) -> Self {
        let client = Client::builder().timeout(PATIENCE).finish();
        Charge { bank, client }
    }
}

impl Stage for Charge {
    type Input = SignUp;
    type Output = SignUp;
    type Undo = String;

    async fn run(
        &mut self,
        signup: SignUp,
        task: &TaskContext<'_, String>,
    ) -> Result<SignUp, Failure> {
        let charge = task.key().to_string();
        let undo = task.on_cancel(charge.clone()).await?;
        let request = self
            .client
            .post(format!("{}/charges", self.bank))
            .insert_header(("idempotency-key", charge))
            .send_json(&json!({ "card": signup.card, "cents": CENTS, "reference": signup.key }));
        // What is sent is sent, so a cancel waits for the answer.
        let answer = task.shield(request).await;
        if is_uncharged(&answer) {
            undo.withdraw().await?;
        }
        match answer {
            Ok(answer) if answer.status().is_success() => Ok(signup),
            Ok(answer) if answer.status() == REFUSED => {
                Err(Failure::permanent("the card is refused"))
            }
            Ok(answer) => Err(unexpected(answer.status())),
            Err(error) => Err(Failure::new(format!("no answer of the bank: {error}"))),
        }
    }

    /// Has the bank refund a charge. It takes this for one that it has never seen, too, and refuses
    /// the charge if it comes later.
    async fn cancel(&mut self, charge: String, _: &CancelContext<'_>) -> Result<(), Failure> {
        let request = self.client.post(format!("{}/refunds", self.bank));
        match request.send_json(&json!({ "charge": charge })).await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(unexpected(answer.status())),
            Err(error) => Err(Failure::new(format!("no answer of the bank: {error}"))),
        }
    }
}

/// Returns true if surely nothing was charged. After any other error nobody knows: awc says `Connect`
/// also of connections that break after the request was sent.
fn is_uncharged<S>(answer: &Result<ClientResponse<S>, SendRequestError>) -> bool {
    match answer {
        Ok(answer) => answer.status() == REFUSED,
        Err(SendRequestError::Connect(ConnectError::Io(error))) => {
            error.kind() == ErrorKind::ConnectionRefused
        }
        Err(_) => false,
    }
}

fn unexpected(status: StatusCode) -> Failure {
    Failure::new(format!("the bank answered {status}"))
}
