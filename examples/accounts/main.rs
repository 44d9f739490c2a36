//! Accounts from a CSV file: for each person a directory, a group and a user, made by the real
//! `groupadd` and `useradd` in a scratch tree. If a step fails or takes too long, everything that
//! was made for that person is removed, and everybody else's accounts stay as they are.
//!
//! `cargo run --release -p batrun-examples-full --example accounts`, as root, with the Debian package
//! `passwd`. It writes a CSV file of its own; `-- --csv FILE` takes another. Exits with 0 if the tree
//! afterwards matches the outcomes, with 1 if it doesn't, with 2 if it can't run here.
//!
//! Undos run in the order of their registration: directory, group, user. But `groupdel` refuses as
//! long as the group is a user's own. So that undo fails, the others run, and the rollback's second
//! round deletes the group. With `-- --lifo` nothing is refused.
//!
//! An undo names the thing that it removes. So somebody else's group of the same name would be lost
//! if the task were stopped after its intent and before `groupadd` has answered that the name is
//! taken. Among the tasks here, the directory, which comes first, keeps each name to one task.

mod people;
mod steps;
mod tree;

use std::{
    collections::HashMap,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use batrun::{Outcome, prelude::*, state::TaskId};
use clap::Parser;
use futures::StreamExt;

use people::Account;
use tree::Tree;

/// A task's time from its acceptance to its end. It has to be long enough for the tools, which wait
/// for each other's locks a second at a time, a handful of times at worst, and short enough that
/// the tasks that hang don't hold up the run.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Time after the last line was read. Tasks that are still under way then are cancelled.
const GRACE: Duration = Duration::from_secs(60);

/// Makes accounts from a CSV file in a scratch tree, and takes back those that fail.
#[derive(Parser)]
struct Options {
    /// A CSV file with the columns name, full_name and welcome (ok, bounces or hangs) [default: one
    /// that the example writes]
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Number of workers of each stage that runs programs; many wait longer for each other's locks
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// Run the undos in reverse order: the last registered one first
    #[arg(long)]
    lifo: bool,
}

/// The name of each task's person: outcomes come with numbers only.
type Names = Arc<Mutex<HashMap<TaskId, String>>>;

#[actix::main]
async fn main() -> ExitCode {
    env_logger::init();
    let options = Options::parse();
    let tools = match steps::Tools::find() {
        Ok(tools) => tools,
        Err(missing) => {
            eprintln!("accounts can't run here: {missing}");
            return ExitCode::from(2);
        }
    };
    match run(&options, tools).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("accounts: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `true` if the tree matches the outcomes.
async fn run(options: &Options, tools: steps::Tools) -> Result<bool, Box<dyn std::error::Error>> {
    let tree = Tree::plant()?;
    let tools = tools.within(tree.root());
    // Strangers, not made by this run: a group and a user whose names the CSV file has again.
    tools.make_strangers()?;
    let before = tree.look()?;
    let csv = match &options.csv {
        Some(csv) => {
            std::fs::File::open(csv).map_err(|error| format!("{}: {error}", csv.display()))?;
            csv.clone()
        }
        None => people::write_sample(tree.root())?,
    };

    let names = Names::default();
    let workers = usize::from(options.workers);
    let handle = Pipeline::new("accounts")
        .order(if options.lifo {
            Order::Lifo
        } else {
            Order::Fifo
        })
        // Few in queues, because a task's time runs there as well.
        .stage(note(names.clone()).capacity(workers))
        .stage(steps::directory(tree.homes()).capacity(workers))
        .stage(tools.group().workers(workers).capacity(workers))
        .stage(tools.user().workers(workers).capacity(workers))
        // Not blocking: a task that hangs here costs a place, no thread.
        .stage(steps::welcome().workers(64))
        .start()
        .await?;
    let told = actix_rt::spawn(tell(handle.outcomes(), names));
    // Started by hand, not as the pipeline's own producer, so that the first outcome has a
    // listener.
    let read = people::producer(csv, TIMEOUT)
        .produce(handle.intake())
        .await;
    let report = handle.shutdown(Shutdown::Drain(GRACE)).await?;
    let ends = told.await??;

    if let Err(bad) = &read {
        println!("\nrows that are no accounts: {bad}");
    }
    print!("\n{report}");
    println!("\n{}", refusals(&report));
    let mut wrong = before.compare(&tree.look()?, &ends);
    let done = ends.iter().filter(|end| end.done).count();
    if (ends.len() as u64, done as u64) != (report.counts.accepted, report.counts.done) {
        wrong.push("the report counts other outcomes than were told".to_owned());
    }
    for line in &wrong {
        println!("WRONG: {line}");
    }
    if wrong.is_empty() {
        println!(
            "tree: {done} accounts are whole, nothing is left of the other {} tasks, and what was \
             there before still is",
            ends.len() - done
        );
    }
    Ok(wrong.is_empty() && report.stuck.is_empty())
}

/// A stage that records the name of the task's person.
fn note(names: Names) -> Work<impl Stage<Input = Account, Output = Account>> {
    stage_fn(
        "note",
        async move |account: Account, task: &TaskContext<'_, ()>| {
            let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
            names.insert(task.task_id(), account.name.clone());
            drop(names);
            Ok(account)
        },
    )
    .into_work()
}

/// The end of the account with this name.
struct Ended {
    name: String,
    done: bool,
}

/// Prints a line for each outcome.
async fn tell(
    mut outcomes: impl futures::Stream<Item = Result<Outcome, batrun::report::Lagged>> + Unpin,
    names: Names,
) -> Result<Vec<Ended>, batrun::report::Lagged> {
    let began = Instant::now();
    let mut ends = Vec::new();
    while let Some(outcome) = outcomes.next().await {
        let Outcome {
            task,
            end,
            rollback,
            ..
        } = outcome?;
        let name = names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&task)
            .unwrap_or_else(|| format!("task {task}"));
        let done = matches!(end, End::Done);
        let at = began.elapsed().as_secs_f64();
        match rollback {
            Rollback::None => println!("{at:6.2} s  {name:<8} {end}"),
            rollback => println!("{at:6.2} s  {name:<8} {end}; {rollback}"),
        }
        ends.push(Ended { name, done });
    }
    Ok(ends)
}

/// The number of times that `groupdel` refused, in words.
fn refusals(report: &Report) -> String {
    let refused: u64 = report
        .stages
        .iter()
        .filter(|stage| &*stage.name == steps::GROUP)
        .map(|stage| stage.counts.cancel_failures)
        .sum();
    match refused {
        0 => "no cancel was refused".to_owned(),
        n => format!(
            "cancels of groups refused: {n}. In the first round a user still had the group; the \
             second round came after the user was deleted"
        ),
    }
}
