//! The command line of `batrun cluster`. Its doc comments are the texts of `--help`.

use std::{env, time::Duration};

use batrun::journal::JournalSchema;
use clap::{Args, CommandFactory, Subcommand, error::ErrorKind};

use crate::options::Options;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show the nodes, the tasks and the tables, or everything about one task
    Show(Show),
    /// Show the nodes: the processes that run the pipeline, those that have gone and left tasks, and those that have
    /// taken over from others in the last 30 days
    Nodes(List),
    /// Show the stuck tasks, which wait for a person
    Stuck(List),
    /// Write every node, every takeover, every task and every outcome as a line of JSON. The database can't clean away dead rows
    /// meanwhile: write into a file, and not into a pager
    Export(Export),
    /// Record that you have dealt with these stuck tasks: they leave the journal, their outcomes stay
    Resolve(Decide),
    /// Try these stuck tasks again: the undos that are left run once more, and a task that was set aside goes on
    Retry(Retry),
    /// Cancel these tasks, which have no outcome yet: they are rolled back
    Cancel(Decide),
    /// Make the schema with its tables before the first start, and let other users in
    Init(Init),
    /// Bring a journal that an older version of batrun has made to this version's format
    Migrate(Migrate),
}

/// The journal.
#[derive(Args)]
pub(crate) struct Place {
    /// The address, as libpq has it: postgres://user@host/database, or 'host=.. user=.. dbname=..'. Default: the
    /// variable BATRUN_DATABASE. Others on this machine see arguments, so put a password there
    #[arg(long, value_name = "ADDRESS")]
    database: Option<String>,
    /// The pipeline, whose schema is batrun_NAME
    #[arg(long, value_name = "NAME", required_unless_present = "schema")]
    pipeline: Option<String>,
    /// The schema, if it has another name
    #[arg(long, value_name = "NAME", conflicts_with = "pipeline")]
    schema: Option<String>,
}

impl Place {
    /// The address. Without one the program ends.
    pub(crate) fn address(&self) -> String {
        let given = self.database.clone();
        let address = given.or_else(|| env::var("BATRUN_DATABASE").ok());
        match address {
            Some(address) if !address.is_empty() => address,
            _ => {
                let why = "there is no address: set the variable BATRUN_DATABASE, or say --database ADDRESS";
                Options::command()
                    .error(ErrorKind::MissingRequiredArgument, why)
                    .exit()
            }
        }
    }

    pub(crate) fn schema(&self) -> JournalSchema {
        match (&self.schema, &self.pipeline) {
            (Some(name), _) => JournalSchema::Named(name.clone()),
            (None, name) => JournalSchema::OfPipeline(name.clone().unwrap_or_default()),
        }
    }
}

#[derive(Args)]
pub(crate) struct Show {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Show everything about the task with this number
    pub(crate) id: Option<u64>,
    /// Show everything about the task with this key. Of several that had it, that is the one under
    /// way, else one that is stuck, else the last that has ended
    #[arg(long, value_name = "KEY", conflicts_with = "id")]
    pub(crate) key: Option<String>,
    /// Print JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
    /// List at most this many tasks
    #[arg(long, value_name = "N", default_value_t = 50, conflicts_with_all = ["id", "key"])]
    pub(crate) limit: usize,
    /// Read every task and every outcome first, to see whether they are sound
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Args)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Print JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Export {
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Args)]
pub(crate) struct Wait {
    /// Wait for the answers of nodes for this long at most
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    wait: u64,
}

impl Wait {
    pub(crate) fn time(&self) -> Duration {
        Duration::from_secs(self.wait)
    }
}

#[derive(Args)]
pub(crate) struct Decide {
    #[command(flatten)]
    pub(crate) place: Place,
    /// The numbers of the tasks
    #[arg(value_name = "ID", required_unless_present = "key")]
    pub(crate) ids: Vec<u64>,
    /// The key of a task; any number of times
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Vec<String>,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Args)]
pub(crate) struct Retry {
    #[command(flatten)]
    pub(crate) place: Place,
    /// The numbers of the tasks, as `batrun cluster stuck` shows them
    #[arg(value_name = "ID", required_unless_present_any = ["all", "key"])]
    pub(crate) ids: Vec<u64>,
    /// The key of a stuck task; any number of times
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Vec<String>,
    /// Try all stuck tasks again
    #[arg(long, conflicts_with_all = ["ids", "key"])]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Args)]
pub(crate) struct Init {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Let this role run the pipeline: it reads and writes rows, and makes and drops nothing
    #[arg(long, value_name = "ROLE")]
    pub(crate) for_user: Option<String>,
    /// Let this role look into the journal
    #[arg(long, value_name = "ROLE")]
    pub(crate) for_reader: Option<String>,
}

#[derive(Args)]
pub(crate) struct Migrate {
    #[command(flatten)]
    pub(crate) place: Place,
}
