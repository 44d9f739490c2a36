//! All routes in one table: what is answered, who may ask, and what it means.

use crate::{
    access::Action,
    act,
    answer::{Refused, Reply},
    call::Call,
    export, journal, look, metrics, openapi,
    route::{Handler, Route, Run},
    search,
};

const fn get(
    path: &'static str,
    run: Run,
    takes: &'static [&'static str],
    about: &'static str,
) -> Route {
    Route {
        path,
        action: None,
        run,
        about,
        takes,
    }
}

const fn post(
    path: &'static str,
    action: Action,
    run: Handler,
    takes: &'static [&'static str],
    about: &'static str,
) -> Route {
    Route {
        path,
        action: Some(action),
        run: Run::Now(run),
        about,
        takes,
    }
}

use Run::{Apart, Now, Stream};

/// All of them, below the mount.
#[rustfmt::skip]
pub(crate) const ROUTES: &[Route] = &[
    get("metrics", Apart(metrics::metrics), &[], "All metrics, as OpenMetrics or as Prometheus' text"),
    get("health", Now(look::health), &[], "200 if all pipelines are ready, else 503"),
    get("api/v1/openapi.json", Now(document), &[], "This document"),
    get("api/v1/pipelines", Now(look::pipelines), &[], "All pipelines as they are now"),
    get("api/v1/stream", Stream, &["every"], "The same as server-sent events, each 1, 2, 5, 10 or 30 seconds"),
    get("api/v1/pipelines/{p}", Now(look::pipeline), &[], "One pipeline as it is now"),
    get("api/v1/pipelines/{p}/history", Now(look::history), &["range"], "The last 5m, 1h or 24h"),
    get("api/v1/pipelines/{p}/tasks", Apart(look::tasks), &["phase", "stage", "older_ms", "q", "after", "limit"], "Tasks in flight"),
    get("api/v1/pipelines/{p}/tasks/{id}", Apart(look::task), &[], "A task, with its undos and its timeline"),
    get("api/v1/pipelines/{p}/search", Apart(search::search), &["q"], "Tasks by their number, key or label"),
    get("api/v1/pipelines/{p}/ended", Apart(look::ended), &["before", "limit"], "The last tasks that were not done, and their groups"),
    get("api/v1/pipelines/{p}/stuck", Apart(look::stuck), &[], "The stuck tasks"),
    get("api/v1/pipelines/{p}/report", Now(look::report), &[], "The final report, once the pipeline has ended"),
    get("api/v1/pipelines/{p}/journal", Apart(journal::journal), &["before", "q", "limit"], "The finished tasks in its journal, the newest first, or the one with this key"),
    get("api/v1/pipelines/{p}/journal/export", Apart(export::export), &["before", "q", "rows"], "The same as a file of JSON lines, at most 10,000 tasks; the last line says if there are more"),
    get("api/v1/pipelines/{p}/nodes", Apart(journal::nodes), &[], "The processes that share its journal in a database"),
    post("api/v1/pipelines/{p}/pause", Action::Pause, act::pause, &[], "Starts no more work"),
    post("api/v1/pipelines/{p}/resume", Action::Resume, act::resume, &[], "Goes on after a pause"),
    post("api/v1/pipelines/{p}/stages/{s}/pause", Action::Pause, act::pause_stage, &[], "Starts no more work in a stage"),
    post("api/v1/pipelines/{p}/stages/{s}/resume", Action::Resume, act::resume_stage, &[], "Goes on after the pause of a stage"),
    post("api/v1/pipelines/{p}/stages/{s}/workers", Action::Resize, act::workers, &["workers"], "Gives a stage another number of workers"),
    post("api/v1/pipelines/{p}/stages/{s}/rate", Action::Rate, act::rate, &["per_second"], "Limits the attempts of a stage; null lifts it"),
    post("api/v1/pipelines/{p}/tasks/cancel", Action::Cancel, act::cancel, &["tasks", "filter", "count"], "Cancels tasks: at most 1,000 by their numbers, or those that a filter was seen to take"),
    post("api/v1/pipelines/{p}/stuck/retry", Action::Retry, act::retry, &["tasks"], "Has the undos of stuck tasks run again"),
    post("api/v1/pipelines/{p}/stuck/resolve", Action::Resolve, act::resolve, &["tasks", "who", "why"], "Takes stuck tasks off the list"),
    post("api/v1/pipelines/{p}/drain", Action::Drain, act::drain, &["name", "grace_seconds"], "Ends the pipeline once its tasks are done"),
    post("api/v1/pipelines/{p}/abort", Action::Abort, act::abort, &["name"], "Cancels all tasks and ends the pipeline"),
];

fn document(_: &Call) -> Result<Reply, Refused> {
    openapi::document(ROUTES)
}
