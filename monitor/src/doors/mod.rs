//! The doors: every request passes here before it is routed. An answer to a request that may not pass says
//! what to do about it.

mod csrf;
mod headers;
mod local;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use actix_web::{
    HttpRequest,
    http::{Method, header},
};

use crate::{access::Access, answer::Refused};

pub(crate) use headers::secure;

type Hook = dyn Fn(&HttpRequest) -> Access + Send + Sync;

/// The settings of a mount.
#[derive(Clone, Default)]
pub(crate) struct Doors {
    pub(crate) hook: Option<Arc<Hook>>,
    /// Origins besides the request's own, as `https://host[:port]`.
    pub(crate) trusted: Vec<String>,
    /// The origins that may show the page in a frame.
    pub(crate) ancestors: Vec<String>,
    /// Requests come through a socket's file, whose rights say who may.
    pub(crate) on_socket: bool,
}

impl fmt::Debug for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doors")
            .field("access", &self.hook.is_some())
            .field("trusted", &self.trusted)
            .field("ancestors", &self.ancestors)
            .finish()
    }
}

impl Doors {
    /// Returns the sender's rights, or the reason why the request goes no further.
    pub(crate) fn admit(&self, request: &HttpRequest) -> Result<Access, Refused> {
        let access = match &self.hook {
            Some(hook) => hook(request),
            None => local::access(request, self.on_socket)?,
        };
        if !access.may_look() {
            return Err(Refused::forbidden(
                "you may not look at this monitor; its .access(..) hook says who may",
            ));
        }
        match *request.method() {
            Method::GET | Method::HEAD => {}
            Method::POST => {
                csrf::check(request, &self.trusted)?;
                ask_for_json(request)?;
            }
            _ => return Err(Refused::method()),
        }
        Ok(access)
    }
}

/// A page of another site can't send these without asking first, which is never granted.
fn ask_for_json(request: &HttpRequest) -> Result<(), Refused> {
    let text = |name| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let kind = text(header::CONTENT_TYPE.as_str()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(Refused::bad_request("send Content-Type: application/json"));
    }
    if text("x-batrun") != Some("1") {
        return Err(Refused::bad_request("send the header X-Batrun: 1"));
    }
    Ok(())
}

/// At most so many actions a second, and so many at once.
const ACTIONS: f64 = 10.0;

/// A bucket of permits for actions.
#[derive(Debug)]
pub(crate) struct ActionLimit(Mutex<(f64, Instant)>);

impl Default for ActionLimit {
    fn default() -> Self {
        ActionLimit(Mutex::new((ACTIONS, Instant::now())))
    }
}

impl ActionLimit {
    pub(crate) fn take(&self, now: Instant) -> Result<(), Refused> {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, last) = *bucket;
        let since = now.saturating_duration_since(last).as_secs_f64();
        let left = (left + since * ACTIONS).min(ACTIONS);
        let taken = left >= 1.0;
        *bucket = (if taken { left - 1.0 } else { left }, now.max(last));
        match taken {
            true => Ok(()),
            false => Err(Refused::too_many(
                "at most 10 actions a second; try again in a second",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn d2_ten_actions_pass_at_once_and_ten_a_second_then() {
        let limit = ActionLimit::default();
        let start = Instant::now() + Duration::from_secs(1);
        let passed = |now| (0..30).filter(|_| limit.take(now).is_ok()).count();
        assert_eq!(passed(start), 10);
        assert_eq!(passed(start), 0);
        assert_eq!(passed(start + Duration::from_millis(500)), 5);
        assert_eq!(passed(start + Duration::from_secs(60)), 10);
    }
}
