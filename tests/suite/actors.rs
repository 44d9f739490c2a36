//! Stages that are actix actors of the user's.

use actix::{Actor, AsyncContext, Context, Handler, fut::wrap_future};
use batrun::{
    Error,
    actor::{Cancel, Reply, TaskMsg},
    prelude::*,
};

use crate::support::{Do, Notes, acting, ms, sleep, still, summary};

/// Records every message it gets and every answer it gives.
struct Spy {
    name: &'static str,
    notes: Notes,
    manner: Manner,
}

#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Passes,
    Fails,
    Drops,
    /// Answers once it is told to stop, and only some time after that.
    Waits,
}

fn spy(name: &'static str, notes: &Notes, manner: Manner) -> actix::Addr<Spy> {
    Spy {
        name,
        notes: notes.clone(),
        manner,
    }
    .start()
}

impl Actor for Spy {
    type Context = Context<Self>;
}

impl Handler<TaskMsg<u32, Reply<u32, String>>> for Spy {
    type Result = ();

    fn handle(&mut self, message: TaskMsg<u32, Reply<u32, String>>, ctx: &mut Self::Context) {
        let (name, notes, manner) = (self.name, self.notes.clone(), self.manner);
        notes.note(format!("{name} got task {}", message.task_id()));
        let (n, reply) = message.into_parts();
        ctx.spawn(wrap_future(async move {
            for undo in 1..=2 {
                reply.on_cancel(format!("{name}{undo}")).await.unwrap();
            }
            match manner {
                Manner::Passes => reply.done(n + 1),
                Manner::Fails => reply.fail(Failure::permanent("no")),
                Manner::Drops => drop(reply),
                Manner::Waits => {
                    reply.stopping().await;
                    notes.note(format!("{name} told to stop: {}", reply.is_stopping()));
                    sleep(50).await;
                    assert!(reply.on_cancel("late".to_owned()).await.is_err());
                    notes.note(format!("{name} answers"));
                    reply.done(n);
                }
            }
        }));
    }
}

impl Handler<Cancel<String>> for Spy {
    type Result = ();

    fn handle(&mut self, cancel: Cancel<String>, ctx: &mut Self::Context) {
        let notes = self.notes.clone();
        let attempt = cancel.attempt();
        let (undo, reply) = cancel.into_parts();
        notes.note(format!("Cancel {undo} try {attempt}"));
        ctx.spawn(wrap_future(async move {
            sleep(10).await;
            if undo == "b1" && attempt == 1 {
                notes.note(format!("CancelDone {undo} failed"));
                return reply.fail(Failure::new("busy"));
            }
            notes.note(format!("CancelDone {undo}"));
            reply.done();
        }));
    }
}

#[test]
fn g03_an_actor_gets_the_second_cancel_after_answering_the_first() {
    let notes = Notes::default();
    still(async {
        let report = Pipeline::new("spies")
            .producer(from_iter([1]))
            .actor("a", spy("a", &notes, Manner::Passes))
            .actor("b", spy("b", &notes, Manner::Fails))
            .current_arbiter()
            .run()
            .await
            .unwrap();
        assert_eq!(
            summary(&report.last_failures[0]),
            "failed in b: no; 4 undos taken back"
        );
    });
    assert_eq!(
        notes.all(),
        [
            "a got task 1",
            "b got task 1",
            "Cancel a1 try 1",
            "CancelDone a1",
            "Cancel a2 try 1",
            "CancelDone a2",
            "Cancel b1 try 1",
            "CancelDone b1 failed",
            "Cancel b1 try 2",
            "CancelDone b1",
            "Cancel b2 try 1",
            "CancelDone b2"
        ]
    );
}

#[test]
fn g01_a_task_passes_through_actors_and_stages() {
    let notes = Notes::default();
    still(async {
        let handle = Pipeline::new("mixed")
            .actor("a", spy("a", &notes, Manner::Passes))
            .stage(stage_fn(
                "double",
                async |n: u32, _: &TaskContext<'_, ()>| Ok(n * 2),
            ))
            .stage(Work::actor("b", spy("b", &notes, Manner::Passes)).capacity(1))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let outcome = handle.submit(1).await.unwrap().outcome().await.unwrap();
        assert_eq!(outcome.output, Some(5));
        assert!(matches!(handle.resize("a", 3), Err(Error::FixedSize(_))));
    });
}

#[test]
fn g04_a_task_fails_if_its_actor_drops_it_unanswered() {
    let notes = Notes::default();
    still(async {
        let handle = Pipeline::new("drops")
            .actor("a", spy("a", &notes, Manner::Drops))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let outcome = handle.submit(1).await.unwrap().outcome().await.unwrap();
        assert_eq!(
            summary(&outcome),
            "failed in a: the stage's actor dropped the task unanswered; 2 undos taken back"
        );
    });
}

#[test]
fn g05_an_actor_is_told_to_stop_and_its_answer_is_awaited() {
    let notes = Notes::default();
    still(async {
        let handle = Pipeline::new("waits")
            .actor("a", spy("a", &notes, Manner::Waits))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let ticket = handle.submit(1).timeout(ms(20)).await.unwrap();
        let outcome = ticket.outcome().await.unwrap();
        assert_eq!(summary(&outcome), "timed out in a; 3 undos taken back");
    });
    assert_eq!(
        notes.all()[..4],
        [
            "a got task 1",
            "a told to stop: true",
            "a answers",
            "Cancel a1 try 1"
        ]
    );
}

#[test]
fn g07_an_actor_holds_at_most_capacity_tasks() {
    let notes = Notes::default();
    still(async {
        let handle = Pipeline::new("at once")
            .stage(Work::actor("a", spy("a", &notes, Manner::Waits)).capacity(3))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        for n in 0..6 {
            handle.submit(n).await.unwrap();
        }
        assert!(handle.try_submit(6).is_err());
        sleep(10).await;
        assert_eq!(notes.of("a got").len(), 3);
    });
}

struct Dies(Notes);
impl Actor for Dies {
    type Context = Context<Self>;
}
impl Handler<TaskMsg<u32, Reply<u32, String>>> for Dies {
    type Result = ();
    fn handle(&mut self, message: TaskMsg<u32, Reply<u32, String>>, ctx: &mut Self::Context) {
        use actix::ActorContext;
        let (_, reply) = message.into_parts();
        let notes = self.0.clone();
        actix_rt::spawn(async move {
            reply.on_cancel("left".to_owned()).await.unwrap();
            notes.note("registered");
            reply.fail(Failure::new("dying"));
        });
        ctx.run_later(ms(0), |_, ctx| ctx.stop());
        ctx.stop();
    }
}
impl Handler<Cancel<String>> for Dies {
    type Result = ();
    fn handle(&mut self, _: Cancel<String>, _: &mut Self::Context) {
        self.0.note("cancelled");
    }
}

#[test]
fn g09_a_dead_actor_fails_its_tasks_and_leaves_its_undos_stuck() {
    let notes = Notes::default();
    still(async {
        let handle = Pipeline::new("dies")
            .actor("a", Dies(notes.clone()).start())
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let outcome = handle.submit(1).await.unwrap().outcome().await.unwrap();
        let shown = summary(&outcome);
        assert!(
            shown.starts_with("failed in a: dying; stuck: a: \"left\" (the stage's actor is dead"),
            "{shown}"
        );
        let outcome = handle.submit(2).await.unwrap().outcome().await.unwrap();
        assert_eq!(
            summary(&outcome),
            "failed in a: the stage's actor is dead; nothing to take back"
        );
        let report = handle.shutdown(Shutdown::Abort).await.unwrap();
        assert_eq!((report.counts.failed, report.stuck.len()), (2, 1));
    });
    assert_eq!(notes.all(), ["registered"]);
}

/// An actor of the user's that makes tasks.
struct Maker(Intake<Do>);
impl Actor for Maker {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        let tasks = self.0.clone();
        ctx.spawn(wrap_future(async move {
            for _ in 0..50 {
                tasks.submit(Do::Take(1)).await.unwrap();
            }
        }));
    }
}

#[test]
fn g07_producers_of_every_kind_run_side_by_side() {
    still(async {
        let handle = Pipeline::new("producers")
            .producer(|tasks: Intake<Do>| async move {
                for _ in 0..50 {
                    sleep(2).await;
                    tasks.submit(Do::Pass).await?;
                }
                Ok(())
            })
            .producer(from_iter(vec![Do::Take(2); 50]))
            .producer(from_stream(futures::stream::iter(vec![Do::Hang; 5])).timeout(ms(20)))
            .stage(acting("s").workers(8).capacity(2))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let maker = Maker(handle.intake()).start();
        let began = tokio::time::Instant::now();
        while handle.snapshot().counts.accepted < 155 {
            sleep(1).await;
        }
        // One after the other they would take longer.
        assert!(began.elapsed() < ms(300), "{:?}", began.elapsed());
        drop(maker);
        let report = handle.shutdown(Shutdown::Drain(ms(1000))).await.unwrap();
        assert_eq!((report.counts.done, report.counts.timed_out), (150, 5));
        assert!(report.producer_errors.is_empty(), "{report}");
    });
}
