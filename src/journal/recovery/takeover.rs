//! Takes over the tasks of other processes that have gone, while the pipeline runs.

use std::{
    collections::HashMap,
    io, mem,
    sync::{
        Arc, Weak,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use super::{
    balance::{Idle, to_leave, to_release},
    chunked_vec::ChunkedVec,
    plan::{PipelineSpec, Recovered},
    planner::{Before, LastExit, Planner},
    stage_map::{StageMap, stage_maps},
    task_reader::TaskReader,
};
use crate::{
    journal::{
        command::{Answer, Decision},
        lease::Lease,
        ledger::JournalLedger,
        store::{Claimer, Load, Owners, StoreError, TaskRows},
        writer::requests::Adopted,
    },
    ledger::LedgerError,
    logging,
    task::TaskId,
};

/// The tasks that are taken over at once.
const AT_ONCE: usize = 500;

/// The time until the next look after one that has found tasks and one that has not.
const SHORTEST: Duration = Duration::from_millis(20);

/// The pipeline that tasks are taken over for.
pub(crate) trait Adopt: Send {
    /// The tasks that may come, and those that wait.
    fn load(&self) -> Load;

    /// These tasks go on here.
    fn adopt(&mut self, tasks: Recovered);

    /// Decides about a task; `None` if it isn't known here yet.
    fn decide(&mut self, task: TaskId, decision: Decision) -> Option<Answer>;

    /// Leaves so many tasks that have not begun to other processes, or fewer.
    fn release(&mut self, most: usize);

    /// The process is to end once its tasks have ended.
    fn is_leaving(&self) -> bool;

    /// Stops everything: nothing is recorded any more.
    fn fail(&self, why: &LedgerError);

    /// The same, for the time when the lease is over.
    fn on_lease_over(&self) -> Box<dyn Fn(&LedgerError) + Send + Sync>;
}

/// Everything that it takes.
pub(crate) struct Takeover {
    pub(super) claimer: Box<dyn Claimer>,
    pub(super) spec: PipelineSpec,
    pub(super) lease: Arc<Lease>,
    /// The number of tasks that waited at the last look.
    pub(super) waited: usize,
    /// The answers to decisions that are not written yet, by the numbers of those.
    pub(super) decided: HashMap<i64, Answer>,
}

impl Takeover {
    /// Starts the thread, which ends with the ledger.
    pub(crate) fn start(
        mut self,
        ledger: &Arc<JournalLedger>,
        mut pipeline: impl Adopt + 'static,
    ) -> io::Result<()> {
        self.lease.listen(pipeline.on_lease_over());
        let (stop, stopped) = mpsc::channel::<()>();
        let weak = Arc::downgrade(ledger);
        let thread = thread::Builder::new()
            .name("batrun-takeover".to_owned())
            .spawn(move || {
                // The first look is at once: tasks may wait for a node.
                let mut wait = Duration::ZERO;
                let mut fails = false;
                while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(wait) {
                    // Where tasks come from others, the next ones are likely to come soon.
                    wait = (2 * wait).max(SHORTEST).min(self.claimer.pause());
                    match self.look(&weak, &mut pipeline) {
                        Ok(0) => fails = false,
                        // There may be more.
                        Ok(_) => wait = Duration::ZERO,
                        Err(Trouble::Over) => return,
                        Err(Trouble::Failed(error)) => return pipeline.fail(&error),
                        Err(Trouble::Store(error)) => {
                            if !fails {
                                logging::warning!(
                                    "tasks of other processes can't be looked for, it is tried again: \
                                     {error}"
                                );
                            }
                            fails = true;
                        }
                    }
                }
            })?;
        ledger.has_takeover(stop, thread);
        Ok(())
    }

    /// Looks once. Returns the number of tasks that were taken over.
    fn look(
        &mut self,
        ledger: &Weak<JournalLedger>,
        pipeline: &mut impl Adopt,
    ) -> Result<usize, Trouble> {
        if let Some(ledger) = ledger.upgrade() {
            ledger.writer.look_elsewhere();
        }
        let load = pipeline.load();
        let claimed = self.take_over(load, ledger, pipeline)?;
        self.decide(ledger, pipeline)?;
        if claimed == 0 {
            self.share(load, pipeline)?;
        }
        Ok(claimed)
    }

    /// Makes the decisions that wait for this process. The answers follow once what was decided is recorded, of a
    /// cancel at a later look.
    fn decide(
        &mut self,
        ledger: &Weak<JournalLedger>,
        pipeline: &mut impl Adopt,
    ) -> Result<(), Trouble> {
        let told = self.claimer.told()?;
        let still = |number: &i64| told.iter().any(|command| command.number == *number);
        self.decided.retain(|number, _| still(number));
        let mut recorded = true;
        for command in &told {
            if self.decided.contains_key(&command.number) {
                continue;
            }
            let answer = match pipeline.decide(TaskId(command.task), command.decision) {
                None if command.gone => Some(Answer::Ended),
                answer => answer,
            };
            if let Some(answer) = answer {
                recorded &= answer != Answer::Done || command.decision == Decision::Cancel;
                self.decided.insert(command.number, answer);
            }
        }
        if !recorded {
            // The writer takes requests in their order.
            self.add(ledger, Adopted::default())?;
        }
        for command in told {
            if let Some(answer) = self.decided.get(&command.number) {
                self.claimer.answer(command, answer)?;
            }
        }
        Ok(())
    }

    /// Has the writer take in tasks, and waits until that is written.
    fn add(&self, ledger: &Weak<JournalLedger>, adopted: Adopted) -> Result<(), Trouble> {
        let ledger = ledger.upgrade().ok_or(Trouble::Over)?;
        let reply = ledger.writer.adopt(adopted).map_err(Trouble::Failed)?;
        drop(ledger);
        match reply.blocking_recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Trouble::Failed(error)),
            Err(_) => Err(Trouble::Over),
        }
    }

    /// Leaves tasks to others that have less to do.
    fn share(&mut self, load: Load, pipeline: &mut impl Adopt) -> Result<(), Trouble> {
        let waited = mem::replace(&mut self.waited, load.queued);
        if load.queued == 0 {
            return Ok(());
        }
        let leaves = pipeline.is_leaving();
        let (processes, room) = self.claimer.idle(leaves)?;
        let idle = Idle { processes, room };
        let most = match leaves {
            true => to_leave(load.queued, idle),
            false => to_release([waited, load.queued], idle),
        };
        if most > 0 {
            pipeline.release(most);
        }
        Ok(())
    }

    /// Takes over as many tasks as there is room for. Returns their number.
    fn take_over(
        &mut self,
        load: Load,
        ledger: &Weak<JournalLedger>,
        pipeline: &mut impl Adopt,
    ) -> Result<usize, Trouble> {
        let room = load.room.min(AT_ONCE);
        let claimed = match self.claimer.claim(Load { room, ..load }) {
            // They stay this process's, so that not one after the other stumbles over them.
            Err(StoreError::Corrupt(corrupt)) => {
                logging::error!(
                    "tasks of processes that have gone can't be read, and are left where they are: {corrupt}"
                );
                self.claimer.settle();
                return Ok(0);
            }
            claimed => claimed?,
        };
        let count = claimed.len();
        if count == 0 {
            self.claimer.settle();
            return Ok(0);
        }
        let planned = match self.plan(claimed) {
            // They stay this process's, as above.
            Err(StoreError::Corrupt(corrupt)) => {
                logging::error!(
                    "the stages of tasks of processes that have gone can't be read, and {count} tasks are left where \
                     they are: {corrupt}"
                );
                self.claimer.settle();
                return Ok(0);
            }
            planned => planned?,
        };
        self.claimer.settle();
        let (adopted, recovered) = planned;
        self.add(ledger, adopted)?;
        pipeline.adopt(recovered);
        logging::info!("{count} tasks of processes that have gone were taken over");
        Ok(count)
    }

    /// Plans how each task goes on.
    fn plan(
        &mut self,
        claimed: Vec<(TaskRows, Owners)>,
    ) -> Result<(Adopted, Recovered), StoreError> {
        let revisions = claimed.iter().map(|(_, owners)| owners.revision);
        let claimer = &mut self.claimer;
        let maps = stage_maps(revisions, &self.spec, |revision| {
            claimer.stages_of(revision)
        })?;
        // They stand for the numbers in rows of this process's own.
        let own = StageMap::of_revision(&[], &self.spec);
        let mut tasks = Vec::new();
        let mut reader = TaskReader {
            planner: Planner {
                now: self.lease.wall_clock(),
                last_exit: LastExit::Killed,
                spec: &self.spec,
                stages: &own,
            },
            keep: &mut |id, state| tasks.push((id, state)),
            ops: Vec::new(),
            undo_ops: Vec::new(),
            recovered: Recovered {
                tasks: ChunkedVec::new(),
                stuck: Vec::new(),
                quarantined: Vec::new(),
                last_id: TaskId(0),
                journal_id: None,
            },
        };
        for (rows, owners) in claimed {
            // It stays this process's, so that not one after the other stumbles over it.
            let stages = maps.get(&owners.revision);
            if let Err(why) = reader.read_with(stages, rows, Before::of(owners)) {
                logging::error!("a task of a process that has gone is left where it is: {why}");
            }
        }
        let TaskReader {
            mut ops,
            mut undo_ops,
            mut recovered,
            ..
        } = reader;
        ops.append(&mut undo_ops);
        // They are of other series.
        recovered.last_id = TaskId(0);
        let adopted = Adopted {
            tasks,
            quarantined: recovered.quarantined.clone(),
            ops,
        };
        Ok((adopted, recovered))
    }
}

/// The reason why nothing was taken over.
enum Trouble {
    /// The pipeline has ended.
    Over,
    /// Nothing is recorded any more.
    Failed(LedgerError),
    /// Another look may succeed.
    Store(StoreError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Corrupt(corrupt) => Trouble::Failed(LedgerError::new(corrupt)),
            other => Trouble::Store(other),
        }
    }
}
