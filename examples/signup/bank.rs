//! The bank: somebody else's program, which knows nothing of batrun and is not to be relied on.
//!
//! It charges a card once for each idempotency key, and takes a charge back by its key, once. A key
//! that is taken back before it was charged is void. By a seeded random it fails, charges without an
//! answer, or charges when nobody waits any more.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer, post, rt,
    web::{self, Data, Json},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{AnyError, dice::Dice};

/// Cards that begin with this are refused for good.
pub(crate) const REFUSED: &str = "stolen-";

/// A line of the ledger's file. It stands there before the bank answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "entry")]
pub(crate) enum Entry {
    Charge {
        key: String,
        reference: String,
        cents: u32,
    },
    Refund {
        key: String,
    },
}

/// Reads a ledger's file, as far as its lines are whole: one that a kill has cut off was never
/// answered.
pub(crate) fn read(path: &Path) -> io::Result<Vec<Entry>> {
    let text = fs::read_to_string(path)?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let entries = whole.lines().map(serde_json::from_str);
    Ok(entries.collect::<Result<_, _>>()?)
}

struct Ledger {
    file: File,
    keys: BTreeMap<String, State>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Charged,
    Refunded,
}

impl Ledger {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let text = fs::read_to_string(path)?;
        file.set_len(text.rfind('\n').map_or(0, |end| end + 1) as u64)?;
        let mut keys = BTreeMap::new();
        for entry in read(path)? {
            keys.insert(entry.key().to_owned(), entry.state());
        }
        Ok(Ledger { file, keys })
    }

    /// Books an entry, once. `false` for a charge whose key was taken back.
    fn book(&mut self, entry: &Entry) -> io::Result<bool> {
        match (entry, self.keys.get(entry.key()).copied()) {
            (Entry::Charge { .. }, Some(state)) => return Ok(state == State::Charged),
            (Entry::Refund { .. }, Some(State::Refunded)) => return Ok(true),
            _ => {}
        }
        let line = format!("{}\n", serde_json::to_string(entry)?);
        self.file.write_all(line.as_bytes())?;
        self.file.sync_data()?;
        self.keys.insert(entry.key().to_owned(), entry.state());
        Ok(true)
    }
}

impl Entry {
    pub(crate) fn key(&self) -> &str {
        match self {
            Entry::Charge { key, .. } | Entry::Refund { key } => key,
        }
    }

    fn state(&self) -> State {
        match self {
            Entry::Charge { .. } => State::Charged,
            Entry::Refund { .. } => State::Refunded,
        }
    }
}

struct Bank {
    ledger: Mutex<Ledger>,
    dice: Mutex<Dice>,
}

impl Bank {
    /// A number below 100.
    fn percent(&self) -> u64 {
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        dice.below(100)
    }

    /// Books an entry, and answers.
    async fn book(self: Arc<Self>, entry: Entry) -> HttpResponse {
        let booked = web::block(move || {
            let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
            ledger.book(&entry)
        });
        match booked.await {
            Ok(Ok(true)) => HttpResponse::Ok().finish(),
            Ok(Ok(false)) => HttpResponse::Gone().json(json!({ "error": "it was taken back" })),
            Ok(Err(error)) => HttpResponse::InternalServerError().body(error.to_string()),
            Err(error) => HttpResponse::InternalServerError().body(error.to_string()),
        }
    }
}

#[derive(Deserialize)]
struct NewCharge {
    card: String,
    cents: u32,
    reference: String,
}

#[post("/charges")]
async fn charge(
    bank: Data<Bank>,
    request: HttpRequest,
    Json(new): Json<NewCharge>,
) -> HttpResponse {
    let key = request.headers().get("idempotency-key");
    let Some(key) = key.and_then(|key| key.to_str().ok()) else {
        return HttpResponse::BadRequest().body("no idempotency key");
    };
    if new.card.starts_with(REFUSED) {
        return HttpResponse::PaymentRequired().finish();
    }
    let entry = Entry::Charge {
        key: key.to_owned(),
        reference: new.reference,
        cents: new.cents,
    };
    let bank = bank.into_inner();
    match bank.percent() {
        0..6 => HttpResponse::InternalServerError().finish(),
        6..10 => {
            bank.book(entry).await;
            rt::time::sleep(Duration::from_secs(60)).await;
            HttpResponse::GatewayTimeout().finish()
        }
        10..14 => {
            // It goes on when the client has gone.
            let late = rt::spawn(async move {
                rt::time::sleep(Duration::from_millis(800)).await;
                bank.book(entry).await
            });
            late.await
                .unwrap_or_else(|_| HttpResponse::InternalServerError().finish())
        }
        _ => bank.book(entry).await,
    }
}

#[derive(Deserialize)]
struct NewRefund {
    charge: String,
}

#[post("/refunds")]
async fn refund(bank: Data<Bank>, Json(new): Json<NewRefund>) -> HttpResponse {
    let entry = Entry::Refund { key: new.charge };
    let bank = bank.into_inner();
    match bank.percent() {
        0..8 => HttpResponse::InternalServerError().finish(),
        8..12 => {
            bank.book(entry).await;
            HttpResponse::BadGateway().finish()
        }
        _ => bank.book(entry).await,
    }
}

/// Serves until it is killed.
pub(crate) async fn serve(port: u16, folder: &Path, seed: u64) -> Result<(), AnyError> {
    fs::create_dir_all(folder)?;
    let bank = Data::new(Bank {
        ledger: Mutex::new(Ledger::open(&folder.join("ledger"))?),
        dice: Mutex::new(Dice(seed)),
    });
    let server =
        HttpServer::new(move || App::new().app_data(bank.clone()).service((charge, refund)))
            .workers(2)
            .bind(("127.0.0.1", port))?;
    println!("{}", server.addrs()[0]);
    Ok(server.run().await?)
}
