//! A request that has passed the doors.

use std::{collections::HashMap, sync::Arc, time::Duration};

use batrun::{
    report::{TaskFilter, TaskPhase},
    state::TaskId,
};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use crate::{access::Access, answer::Refused, live::Watched, shared::Inner, texts::Texts};

/// A request that may be handled on any thread.
pub(crate) struct Call {
    pub(crate) inner: Arc<Inner>,
    pub(crate) access: Access,
    pub(crate) path: HashMap<String, String>,
    pub(crate) query: HashMap<String, String>,
    pub(crate) body: Bytes,
    pub(crate) accept: String,
    /// The one who is logged with an action.
    pub(crate) who: String,
}

/// The most tasks of an answer, and what it has unless it is asked for.
const MOST: usize = 200;
const USUAL: usize = 50;
/// Bytes of a text that is searched for.
const LONGEST: usize = 200;

impl Call {
    pub(crate) fn place(&self) -> usize {
        let place = self.path.get("p").map(String::as_str);
        place.and_then(|p| p.parse().ok()).unwrap_or(usize::MAX)
    }

    pub(crate) fn pipeline(&self) -> Result<Arc<Watched>, Refused> {
        let all = self.inner.pipelines();
        let found = all.get(self.place()).cloned();
        found.ok_or_else(|| Refused::not_found("no such pipeline; api/v1/pipelines lists them"))
    }

    /// The stage that the path names.
    pub(crate) fn stage(&self) -> Result<String, Refused> {
        let named = self.path.get("s").map_or("", String::as_str);
        let pipeline = self.pipeline()?;
        let found = pipeline
            .control
            .stages()
            .iter()
            .find(|stage| &***stage == named);
        let found = found.map(|stage| stage.to_string());
        found.ok_or_else(|| Refused::not_found("the pipeline has no stage of this name"))
    }

    pub(crate) fn task(&self) -> Result<TaskId, Refused> {
        id(self.path.get("id").map_or("", String::as_str))
    }

    pub(crate) fn texts(&self) -> Texts {
        self.inner.texts()
    }

    pub(crate) fn limit(&self) -> Result<usize, Refused> {
        Ok(self
            .number("limit")?
            .map_or(USUAL, |limit| (limit as usize).clamp(1, MOST)))
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Refused> {
        let Some(text) = self.query.get(name).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let number = text.parse().ok();
        let number =
            number.ok_or_else(|| Refused::bad_request(format!("{name} is a whole number")))?;
        Ok(Some(number))
    }

    pub(crate) fn q(&self) -> Result<&str, Refused> {
        checked(self.query.get("q").map_or("", String::as_str))
    }

    /// The filter that the query asks for.
    pub(crate) fn filter(&self) -> Result<Filter, Refused> {
        let text = |name: &str| {
            self.query
                .get(name)
                .filter(|text| !text.is_empty())
                .cloned()
        };
        let filter = Filter {
            phase: text("phase"),
            stage: text("stage"),
            older_ms: self.number("older_ms")?.unwrap_or(0),
            q: text("q"),
        };
        checked(filter.q.as_deref().unwrap_or_default())?;
        Ok(filter)
    }

    /// The body, which is a JSON object.
    pub(crate) fn body<T: for<'de> Deserialize<'de>>(&self) -> Result<T, Refused> {
        let bad = |error| Refused::bad_request(format!("the body isn't what is wanted: {error}"));
        let body: Value = serde_json::from_slice(&self.body).map_err(bad)?;
        if !body.is_object() {
            return Err(Refused::bad_request(
                "the body is a JSON object, {} at least",
            ));
        }
        serde_json::from_value(body).map_err(bad)
    }
}

fn checked(q: &str) -> Result<&str, Refused> {
    match q.len() <= LONGEST {
        true => Ok(q),
        false => Err(Refused::bad_request("q has at most 200 bytes")),
    }
}

/// The number of a task, from its text.
pub(crate) fn id(text: &str) -> Result<TaskId, Refused> {
    let number = text.parse().map(TaskId);
    number.map_err(|_| Refused::bad_request("a task's number is a whole number, as a string"))
}

/// A choice of tasks in flight.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Filter {
    phase: Option<String>,
    stage: Option<String>,
    #[serde(default, deserialize_with = "number_or_text")]
    older_ms: u64,
    /// A label begins with this.
    pub(crate) q: Option<String>,
}

impl Filter {
    pub(crate) fn to_tasks(&self) -> Result<TaskFilter, Refused> {
        let mut filter = TaskFilter::new().older_than(Duration::from_millis(self.older_ms));
        for phase in self
            .phase
            .iter()
            .flat_map(|phases| phases.split(','))
            .filter(|phase| !phase.is_empty())
        {
            filter = filter.phase(match phase {
                "queued" => TaskPhase::Queued,
                "running" => TaskPhase::Running,
                "cleaning_up" => TaskPhase::CleaningUp,
                "stopping" => TaskPhase::Stopping,
                "rolling_back" => TaskPhase::RollingBack,
                _ => {
                    return Err(Refused::bad_request(
                        "phase is queued, running, cleaning_up, stopping or rolling_back",
                    ));
                }
            });
        }
        if let Some(stage) = self.stage.as_ref().filter(|stage| !stage.is_empty()) {
            filter = filter.stage(stage);
        }
        if let Some(label) = &self.q {
            filter = filter.label(checked(label)?);
        }
        Ok(filter)
    }
}

/// A number, or the same as a string.
pub(crate) fn number_or_text<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    use serde::de::Error;
    match Value::deserialize(from)? {
        Value::Null => Ok(0),
        Value::String(text) => text.parse().map_err(D::Error::custom),
        other => other
            .as_u64()
            .ok_or_else(|| D::Error::custom("a whole number is wanted")),
    }
}
