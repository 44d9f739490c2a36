//! The command line. Its doc comments are the texts of `--help`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Looks after pipelines of the crate batrun
#[derive(Parser)]
#[command(name = "batrun", version, arg_required_else_help = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) topic: Topic,
}

#[derive(Subcommand)]
pub(crate) enum Topic {
    /// Show a pipeline's journal in a file, and decide about its tasks
    #[command(subcommand, arg_required_else_help = true)]
    Journal(Command),
    /// Show the journal that several processes share in a database, and decide about its tasks while they run
    #[cfg(feature = "postgres")]
    #[command(subcommand, arg_required_else_help = true)]
    Cluster(crate::cluster::options::Command),
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show a journal, or everything about one task; works while a pipeline runs on it
    Show(Show),
    /// Show the stuck tasks, which wait for a person; works while a pipeline runs on it
    Stuck(Stuck),
    /// Write every task and every outcome as a line of JSON; works while a pipeline runs on it
    Export(Export),
    /// Record that you have dealt with these stuck tasks: they leave the journal, their outcomes
    /// stay. Stop the pipeline first
    Resolve(Resolve),
    /// Try these stuck tasks again at the pipeline's next start: the undos that are left run once
    /// more, and a task that was set aside goes on. Stop the pipeline first
    Retry(Retry),
    /// Cancel the tasks with these keys: they are rolled back at the pipeline's next start. Stop the
    /// pipeline first
    Cancel(Keys),
    /// Take back the done tasks with these keys at the pipeline's next start, if their undos were
    /// kept. Stop the pipeline first
    TakeBack(Keys),
    /// Give the keys of these ended tasks back, so that the next task with one is a new one. Stop the
    /// pipeline first
    Forget(Keys),
}

#[derive(Args)]
pub(crate) struct Keys {
    /// The journal
    pub(crate) file: PathBuf,
    /// The keys
    #[arg(required = true, value_name = "KEY")]
    pub(crate) keys: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Show {
    /// The journal
    pub(crate) file: PathBuf,
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
    /// Read the whole file first, to see whether it is sound
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Args)]
pub(crate) struct Stuck {
    /// The journal
    pub(crate) file: PathBuf,
    /// Print JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Export {
    /// The journal
    pub(crate) file: PathBuf,
}

#[derive(Args)]
pub(crate) struct Resolve {
    /// The journal
    pub(crate) file: PathBuf,
    /// The numbers of the tasks, as `batrun journal stuck` shows them
    #[arg(value_name = "ID", required_unless_present = "key")]
    pub(crate) ids: Vec<u64>,
    /// The key of a stuck task; any number of times
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Retry {
    /// The journal
    pub(crate) file: PathBuf,
    /// The numbers of the tasks, as `batrun journal stuck` shows them
    #[arg(value_name = "ID", required_unless_present_any = ["all", "key"])]
    pub(crate) ids: Vec<u64>,
    /// The key of a stuck task; any number of times
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Vec<String>,
    /// Try all stuck tasks again
    #[arg(long, conflicts_with_all = ["ids", "key"])]
    pub(crate) all: bool,
}
