//! A sign-up service on actix-web, and a world in which everything fails: how an application lives
//! with batrun.
//!
//! ```sh
//! cargo run -p batrun-examples-full --example signup                    # the whole script, in seconds
//! cargo run -p batrun-examples-full --example signup -- --tamper        # the check notices, exit code 1
//! ```
//!
//! `service` and `stages` are what a user of batrun writes. A sign-up adds an account's row, makes a
//! mailbox, has a bank charge a card, writes a letter and activates the account: all of it, or nothing.
//!
//! | request | answer |
//! |---|---|
//! | `POST /signups` with `{"key": .., "name": .., "card": ..}` | 202 with the address of its status; the same again: the same; the same key with something else: 422 |
//! | `GET /signups/KEY` | its status |
//! | `DELETE /signups/KEY` | cancels it, while it is under way |
//! | `POST /signups/KEY/take-back` | takes it back, once it is done |
//! | `GET /ready` | 200 if requests should be sent here |
//! | `GET /stuck`, `POST /stuck/retry` | for whoever looks after the service: the stuck rollbacks, and another try |
//!
//! `bank` is another program, on its own port, with its own file. By a seeded random it fails, hangs,
//! charges without an answer and charges when nobody waits any more.
//!
//! `script` starts both as child processes. While the clients (`client`) send sign-ups and ask for their
//! ends, it kills the service and the bank, stops the service by SIGTERM, and starts them again. Some
//! sign-ups get stuck, because the bank is away for longer than their undos are tried again; they
//! are settled once it is back. At the end `checker`, which knows nothing of batrun either, compares
//! the bank's file, the table and the folders with the answers that the clients got.
//!
//! To have the parts by hand, in two terminals:
//!
//! ```sh
//! cargo run -p batrun-examples-full --example signup -- --bank 8081 --folder /tmp/signup
//! cargo run -p batrun-examples-full --example signup -- --serve 8080 --bank-at 8081 --folder /tmp/signup
//! curl -i localhost:8080/signups -H 'content-type: application/json' \
//!     -d '{"key":"k-1","name":"ada","card":"card-1"}'
//! curl -i localhost:8080/signups/k-1
//! ```

mod service;
mod stages;
mod bank;
mod script;
mod child;
mod client;
mod checker;
mod dice;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;

pub(crate) type AnyError = Box<dyn std::error::Error>;

/// A sign-up service in a world where everything fails.
///
/// Without --bank and --serve it starts an unreliable bank and the service, sends sign-ups, kills and
/// stops both in the middle, and then checks the world: each sign-up has its account, its mailbox, its
/// letter and exactly one charge, or nothing of it is left, as its client was told. The exit code is
/// 0 if all of that holds, and 1 with what is wrong if it doesn't. It takes less than a minute. The
/// servers end with it, whatever its own end is.
#[derive(Parser)]
pub(crate) struct Options {
    /// Number of sign-ups
    #[arg(long, value_name = "N", default_value_t = 300)]
    signups: usize,
    /// The seed of the sign-ups and of the bank's failures
    #[arg(long, value_name = "N", default_value_t = 7)]
    seed: u64,
    /// The folder for all files, which is kept [default: a temporary one, which is removed]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Remove a mailbox behind everybody's back, so that the check fails
    #[arg(long)]
    tamper: bool,
    /// Be the bank, on this port of 127.0.0.1; 0 for a free one
    #[arg(long, value_name = "PORT", requires = "folder")]
    bank: Option<u16>,
    /// Be the service, on this port of 127.0.0.1; 0 for a free one
    #[arg(long, value_name = "PORT", requires_all = ["bank_at", "folder"])]
    serve: Option<u16>,
    /// The port of the service's bank
    #[arg(long, value_name = "PORT")]
    bank_at: Option<u16>,
    /// End when the standard input is closed
    #[arg(long, hide = true)]
    leashed: bool,
}

#[actix_web::main]
async fn main() -> ExitCode {
    env_logger::init();
    let options = Options::parse();
    if options.leashed {
        child::end_with_the_parent();
    }
    match run(&options).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("signup: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns true if all is as it should be.
async fn run(options: &Options) -> Result<bool, AnyError> {
    let folder = options.folder.as_deref().unwrap_or(Path::new("."));
    if let Some(port) = options.bank {
        bank::serve(port, &folder.join("bank"), options.seed).await?;
        return Ok(true);
    }
    if let (Some(port), Some(bank)) = (options.serve, options.bank_at) {
        service::serve(port, folder, format!("http://127.0.0.1:{bank}")).await?;
        return Ok(true);
    }
    script::run(options).await
}
