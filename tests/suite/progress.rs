//! Progress within a stage: a snapshot has it for as long as the attempt that told it is at work.

use std::sync::Arc;

use actix::prelude::*;
use batrun::{
    PipelineHandle,
    actor::{Cancel, Reply, TaskMsg},
    prelude::*,
    report::{Snapshot, TaskProgress},
};
use tokio::sync::Notify;

use crate::support::{DRAIN, ms, sleep, still};

/// Waits for each step until the test lets it go on.
#[derive(Clone, Default)]
struct Steps(Arc<Notify>);

impl Steps {
    /// Lets the stage take its next step, and gives it the time to.
    async fn next(&self) {
        self.0.notify_one();
        sleep(1).await;
    }
}

fn only(snapshot: &Snapshot) -> &TaskProgress {
    let [progress] = &snapshot.progress[..] else {
        panic!("{:?}", snapshot.progress)
    };
    progress
}

/// The fractions and texts of those at work.
fn told<I: Send + 'static, O: Send + 'static>(handle: &PipelineHandle<I, O>) -> Vec<(f64, String)> {
    let progress = handle.snapshot().progress.into_iter();
    progress
        .map(|progress| (progress.fraction, progress.text.to_string()))
        .collect()
}

#[test]
fn progress_is_in_the_snapshot_and_the_last_one_counts() {
    still(async {
        let steps = Steps::default();
        let gate = steps.0.clone();
        let stage = stage_fn("upload", async move |(): (), task: &TaskContext<'_, ()>| {
            let long = format!("a{}", "é".repeat(200));
            let reports = [(0.4, "part 1\n".to_owned()), (-1.0, String::new())];
            let more = [(7.0, "x".to_owned()), (f64::NAN, long)];
            for (fraction, text) in reports.into_iter().chain(more) {
                gate.notified().await;
                task.progress(fraction, text);
            }
            gate.notified().await;
            Ok(())
        });
        let handle = Pipeline::new("p")
            .stage(stage)
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let ticket = handle.submit(()).label("ada").await.unwrap();
        sleep(1).await;
        assert_eq!(told(&handle), []);
        steps.next().await;
        let snapshot = handle.snapshot();
        let first = only(&snapshot);
        assert_eq!(
            (first.task, first.attempt, &*first.stage),
            (ticket.id(), 1, "upload")
        );
        assert_eq!(
            first.to_string(),
            r#"task 1 "ada" in upload: 40 %, part 1\n"#
        );
        let json = serde_json::to_value(&snapshot).unwrap();
        assert_eq!(
            json["progress"],
            serde_json::json!([{
                "task": 1, "label": "ada", "stage": "upload", "attempt": 1, "fraction": 0.4,
                "text": "part 1\n",
            }])
        );
        steps.next().await;
        assert_eq!(told(&handle), [(0.0, String::new())]);
        steps.next().await;
        assert_eq!(told(&handle), [(1.0, "x".to_owned())]);
        steps.next().await;
        assert_eq!(told(&handle), [(0.0, format!("a{}", "é".repeat(127)))]);
        steps.next().await;
        assert_eq!(told(&handle), []);
        assert!(ticket.outcome().await.unwrap().is_done());
        handle.shutdown(DRAIN).await.unwrap();
    });
}

#[test]
fn progress_ends_with_its_attempt() {
    still(async {
        let steps = Steps::default();
        let (gate, next_gate) = (steps.0.clone(), steps.0.clone());
        let upload = stage_fn("upload", async move |(): (), task: &TaskContext<'_, ()>| {
            if task.attempt() != 2 {
                task.progress(0.5, format!("attempt {}", task.attempt()));
            }
            gate.notified().await;
            match task.attempt() {
                4 => Ok(()),
                _ => Err(Failure::new("again")),
            }
        });
        let check = stage_fn("check", async move |(): (), task: &TaskContext<'_, ()>| {
            next_gate.notified().await;
            task.progress(0.9, "checked");
            next_gate.notified().await;
            Err::<(), _>(Failure::permanent("no"))
        });
        let handle = Pipeline::new("p")
            .stage(upload.retry(Retry::constant(3, ms(5))))
            .stage(check)
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let ticket = handle.submit(()).await.unwrap();
        sleep(1).await;
        assert_eq!(told(&handle), [(0.5, "attempt 1".to_owned())]);
        // In an attempt that tells nothing.
        steps.next().await;
        sleep(10).await;
        assert_eq!(told(&handle), []);
        steps.next().await;
        sleep(10).await;
        let snapshot = handle.snapshot();
        assert_eq!(
            (only(&snapshot).attempt, &*only(&snapshot).text),
            (3, "attempt 3")
        );
        // Between two attempts.
        steps.next().await;
        assert_eq!(told(&handle), []);
        sleep(10).await;
        assert_eq!(told(&handle), [(0.5, "attempt 4".to_owned())]);
        // In the next stage, before it tells anything.
        steps.next().await;
        assert_eq!(told(&handle), []);
        steps.next().await;
        assert_eq!(told(&handle), [(0.9, "checked".to_owned())]);
        steps.next().await;
        ticket.outcome().await.unwrap();
        assert_eq!(told(&handle), []);
        drop(ticket);
        // The next task has the same record.
        let next = handle.submit(()).await.unwrap();
        sleep(1).await;
        assert_eq!(only(&handle.snapshot()).task, next.id());
        handle.shutdown(Shutdown::Abort).await.unwrap();
    });
}

#[test]
fn progress_is_told_while_the_task_is_being_stopped() {
    still(async {
        let steps = Steps::default();
        let gate = steps.0.clone();
        let stage = stage_fn("s", async move |(): (), task: &TaskContext<'_, ()>| {
            task.progress(0.1, "begun");
            task.shield(async {
                gate.notified().await;
                task.progress(0.2, "nearly over");
                gate.notified().await;
            })
            .await;
            Ok(())
        });
        let handle = Pipeline::new("p")
            .stage(stage)
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let ticket = handle.submit(()).await.unwrap();
        sleep(1).await;
        assert!(ticket.cancel());
        assert_eq!(told(&handle), [(0.1, "begun".to_owned())]);
        steps.next().await;
        assert_eq!(told(&handle), [(0.2, "nearly over".to_owned())]);
        steps.next().await;
        ticket.outcome().await.unwrap();
        assert_eq!(told(&handle), []);
        handle.shutdown(DRAIN).await.unwrap();
    });
}

#[test]
fn progress_of_the_first_thousand_tasks_is_shown() {
    still(async {
        let stage = stage_fn("s", async |n: u32, task: &TaskContext<'_, ()>| {
            task.progress(f64::from(n) / 2_000.0, n.to_string());
            std::future::pending().await
        });
        let stage: Work<_> = stage.workers(1_003);
        let handle: PipelineHandle<u32, ()> = Pipeline::new("p")
            .stage(stage)
            .current_arbiter()
            .start()
            .await
            .unwrap();
        for n in 1..=1_003 {
            handle.submit(n).await.unwrap();
        }
        sleep(1).await;
        let progress = handle.snapshot().progress;
        let numbers: Vec<_> = progress.iter().map(|progress| progress.task.0).collect();
        assert_eq!(numbers, (1..=1_000).collect::<Vec<_>>());
        let last = progress.last().unwrap();
        assert_eq!((&*last.text, last.fraction), ("1000", 0.5));
        handle.shutdown(Shutdown::Abort).await.unwrap();
    });
}

/// Tells its progress, and keeps the replies.
#[derive(Default)]
struct Uploader(Vec<Reply<u32>>);

impl Actor for Uploader {
    type Context = Context<Self>;
}

impl Handler<TaskMsg<u32, Reply<u32>>> for Uploader {
    type Result = ();

    fn handle(&mut self, task: TaskMsg<u32, Reply<u32>>, _: &mut Self::Context) {
        let (n, reply) = task.into_parts();
        reply.progress(f64::from(n) / 10.0, "uploading");
        if n == 0 {
            self.0.drain(..).for_each(|reply| reply.done(0));
            reply.done(0);
        } else {
            self.0.push(reply);
        }
    }
}

impl Handler<Cancel<()>> for Uploader {
    type Result = ();

    fn handle(&mut self, _: Cancel<()>, _: &mut Self::Context) {}
}

#[test]
fn progress_of_a_task_that_an_actor_has() {
    still(async {
        let uploader = Uploader::default().start();
        let handle = Pipeline::new("p")
            .stage(Work::actor("upload", uploader))
            .current_arbiter()
            .start()
            .await
            .unwrap();
        let tickets = [
            handle.submit(3).await.unwrap(),
            handle.submit(6).await.unwrap(),
        ];
        sleep(1).await;
        let both = [
            "task 1 in upload: 30 %, uploading",
            "task 2 in upload: 60 %, uploading",
        ];
        let shown = handle.snapshot().progress.into_iter();
        let shown: Vec<_> = shown.map(|progress| progress.to_string()).collect();
        assert_eq!(shown, both);
        handle.submit(0).await.unwrap();
        for ticket in tickets {
            assert!(ticket.outcome().await.unwrap().is_done());
        }
        assert_eq!(told(&handle), []);
        handle.shutdown(DRAIN).await.unwrap();
    });
}
