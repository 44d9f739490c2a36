//! The actions. The sender's right to them was checked before.

use std::{ops::ControlFlow, time::Duration};

use batrun::{Error, Shutdown, policy::RateLimit, state::TaskId};
use serde::Deserialize;
use serde_json::json;

use crate::{
    answer::{Refused, Reply},
    call::{Call, Filter, id, number_or_text},
};

type Answer = Result<Reply, Refused>;

/// Tasks of one call.
const MOST: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn refused(error: Error) -> Refused {
    let text = error.to_string();
    match error {
        Error::Ended => Refused::gone(text),
        Error::NoSuchStage(_) => Refused::not_found(text),
        Error::FixedSize(_) => Refused::conflict(text),
        _ => Refused::bad_request(text),
    }
}

/// Logs the action, and answers.
fn done(call: &Call, what: impl std::fmt::Display, answer: serde_json::Value) -> Answer {
    let pipeline = call.pipeline()?;
    log::info!(
        "monitor: {:?} {what} of pipeline {:?}",
        call.who,
        pipeline.control.name()
    );
    call.inner.changed();
    Reply::json(&answer)
}

pub(crate) fn pause(call: &Call) -> Answer {
    let _: Nothing = call.body()?;
    call.pipeline()?.control.pause().map_err(refused)?;
    done(call, "paused all stages", json!({}))
}

pub(crate) fn resume(call: &Call) -> Answer {
    let _: Nothing = call.body()?;
    call.pipeline()?.control.resume().map_err(refused)?;
    done(call, "resumed all stages", json!({}))
}

pub(crate) fn pause_stage(call: &Call) -> Answer {
    let _: Nothing = call.body()?;
    let stage = call.stage()?;
    call.pipeline()?
        .control
        .pause_stage(&stage)
        .map_err(refused)?;
    done(call, format_args!("paused stage {stage:?}"), json!({}))
}

pub(crate) fn resume_stage(call: &Call) -> Answer {
    let _: Nothing = call.body()?;
    let stage = call.stage()?;
    call.pipeline()?
        .control
        .resume_stage(&stage)
        .map_err(refused)?;
    done(call, format_args!("resumed stage {stage:?}"), json!({}))
}

pub(crate) fn workers(call: &Call) -> Answer {
    #[derive(Deserialize)]
    struct Body {
        #[serde(deserialize_with = "number_or_text")]
        workers: u64,
    }
    let Body { workers } = call.body()?;
    let stage = call.stage()?;
    let workers = usize::try_from(workers).unwrap_or(usize::MAX);
    call.pipeline()?
        .control
        .resize(&stage, workers)
        .map_err(refused)?;
    done(
        call,
        format_args!("gave stage {stage:?} {workers} workers"),
        json!({}),
    )
}

pub(crate) fn rate(call: &Call) -> Answer {
    #[derive(Deserialize)]
    struct Body {
        #[serde(deserialize_with = "Option::deserialize")]
        per_second: Option<f64>,
    }
    let Body { per_second } = call.body()?;
    let stage = call.stage()?;
    let limit = per_second.map(limit).transpose()?;
    call.pipeline()?
        .control
        .set_rate(&stage, limit)
        .map_err(refused)?;
    match per_second {
        Some(rate) => done(
            call,
            format_args!("limited stage {stage:?} to {rate}/s"),
            json!({}),
        ),
        None => done(
            call,
            format_args!("lifted the limit of stage {stage:?}"),
            json!({}),
        ),
    }
}

/// So many a second; fewer than one as one in so long.
fn limit(per_second: f64) -> Result<RateLimit, Refused> {
    let (least, most) = (1.0 / 86_400.0, 1e9);
    if !(least..=most).contains(&per_second) {
        return Err(Refused::bad_request(
            "per_second is from one a day, 0.0000116, to 1,000,000,000; null lifts the limit",
        ));
    }
    if per_second.fract() == 0.0 {
        return Ok(RateLimit::per_second(per_second as u32));
    }
    Ok(match per_second < 1_000.0 {
        // As many as are a whole number to three digits.
        true if per_second >= 1.0 => RateLimit::new(
            (per_second * 1_000.0).round() as u32,
            Duration::from_secs(1_000),
        )
        .burst(1),
        true => RateLimit::new(1, Duration::from_secs_f64(1.0 / per_second)),
        false => RateLimit::per_second(per_second.round() as u32),
    })
}

pub(crate) fn cancel(call: &Call) -> Answer {
    #[derive(Deserialize)]
    struct Body {
        tasks: Option<Vec<String>>,
        filter: Option<Filter>,
        count: Option<usize>,
    }
    let pipeline = call.pipeline()?;
    let control = &pipeline.control;
    let tasks = match call.body()? {
        Body {
            tasks: Some(tasks),
            filter: None,
            count: None,
        } => ids(&tasks)?,
        Body {
            tasks: None,
            filter: Some(filter),
            count: Some(count),
        } => {
            let page = control.tasks(&filter.to_tasks()?, None, MOST);
            if page.total != count {
                let now = page.total;
                let error = format!("the filter takes {now} tasks now, not {count}; look again");
                return Err(Refused::conflict(error).count(now));
            }
            if page.total > MOST {
                return Err(too_many());
            }
            page.tasks.iter().map(|task| task.task).collect()
        }
        _ => {
            return Err(Refused::bad_request(
                "send either tasks, or a filter and the count of the tasks that it was seen to take",
            ));
        }
    };
    if control.is_ended() {
        return Err(refused(Error::Ended));
    }
    let cancelled = tasks.iter().filter(|task| control.cancel(**task)).count();
    let answer = json!({ "cancelled": cancelled, "refused": tasks.len() - cancelled });
    done(call, format_args!("cancelled {}", listed(&tasks)), answer)
}

fn too_many() -> Refused {
    Refused::bad_request("at most 1,000 tasks a call")
}

fn ids(tasks: &[String]) -> Result<Vec<TaskId>, Refused> {
    if tasks.len() > MOST {
        return Err(too_many());
    }
    if tasks.is_empty() {
        return Err(Refused::bad_request("tasks is empty"));
    }
    tasks.iter().map(|task| id(task)).collect()
}

/// For the log.
fn listed(tasks: &[TaskId]) -> String {
    let some: Vec<String> = tasks.iter().take(20).map(TaskId::to_string).collect();
    let more = match tasks.len() {
        0..=20 => String::new(),
        all => format!(" and {} more", all - 20),
    };
    format!("tasks {}{more}", some.join(", "))
}

pub(crate) fn retry(call: &Call) -> Answer {
    #[derive(Deserialize)]
    struct Body {
        tasks: Vec<String>,
    }
    let Body { tasks } = call.body()?;
    let tasks = ids(&tasks)?;
    let pipeline = call.pipeline()?;
    let results = tasks.iter().map(|task| pipeline.control.retry(*task));
    let (retried, first_error) =
        counted(results.map(|result| result.map_err(|error| error.to_string())));
    if let (0, Some(error)) = (retried, &first_error) {
        return Err(Refused::conflict(error.clone()));
    }
    let answer =
        json!({ "retried": retried, "refused": tasks.len() - retried, "error": first_error });
    done(call, format_args!("retried {}", listed(&tasks)), answer)
}

fn counted(results: impl Iterator<Item = Result<(), String>>) -> (usize, Option<String>) {
    let mut count = 0;
    let mut first_error = None;
    for result in results {
        match result {
            Ok(()) => count += 1,
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    (count, first_error)
}

pub(crate) fn resolve(call: &Call) -> Answer {
    #[derive(Deserialize)]
    struct Body {
        tasks: Vec<String>,
        who: String,
        why: String,
    }
    let Body { tasks, who, why } = call.body()?;
    let tasks = ids(&tasks)?;
    if who.trim().is_empty() || why.trim().is_empty() {
        return Err(Refused::bad_request(
            "say who has dealt with it, and why that is enough",
        ));
    }
    if who.len() > 200 || why.len() > 2_000 {
        return Err(Refused::bad_request("who has at most 200 bytes, why 2,000"));
    }
    let pipeline = call.pipeline()?;
    let resolved = tasks
        .iter()
        .filter(|task| pipeline.control.resolve(**task))
        .count();
    if resolved == 0 {
        return Err(Refused::conflict(
            "none of these tasks is stuck, or their pipeline can't record it",
        ));
    }
    let answer = json!({ "resolved": resolved, "refused": tasks.len() - resolved });
    done(
        call,
        format_args!("resolved {}, who: {who:?}, why: {why:?},", listed(&tasks)),
        answer,
    )
}

/// The name of the pipeline was typed, so that nobody ends the wrong one.
fn named(call: &Call, name: &str) -> ControlFlow<Refused> {
    match call.pipeline() {
        Ok(pipeline) if pipeline.control.name() == name => ControlFlow::Continue(()),
        Ok(_) => ControlFlow::Break(Refused::conflict(
            "name isn't this pipeline's name; nothing was done",
        )),
        Err(refused) => ControlFlow::Break(refused),
    }
}

pub(crate) fn drain(call: &Call) -> Answer {
    #[derive(Deserialize)]
    struct Body {
        name: String,
        grace_seconds: Option<f64>,
    }
    let Body {
        name,
        grace_seconds,
    } = call.body()?;
    if let ControlFlow::Break(refused) = named(call, &name) {
        return Err(refused);
    }
    let grace = match grace_seconds {
        // As long as it takes.
        None => Duration::from_secs(100 * 365 * 86_400),
        Some(seconds) => Duration::try_from_secs_f64(seconds)
            .map_err(|_| Refused::bad_request("grace_seconds is a number of seconds, or null"))?,
    };
    call.pipeline()?
        .control
        .shutdown(Shutdown::Drain(grace))
        .map_err(refused)?;
    match grace_seconds {
        Some(seconds) => done(
            call,
            format_args!("began the drain, with {seconds} s of grace,"),
            json!({}),
        ),
        None => done(call, "began the drain", json!({})),
    }
}

pub(crate) fn abort(call: &Call) -> Answer {
    #[derive(Deserialize)]
    struct Body {
        name: String,
    }
    let Body { name } = call.body()?;
    if let ControlFlow::Break(refused) = named(call, &name) {
        return Err(refused);
    }
    call.pipeline()?
        .control
        .shutdown(Shutdown::Abort)
        .map_err(refused)?;
    done(call, "began the abort", json!({}))
}
