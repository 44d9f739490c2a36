//! The clients: each sends sign-ups, sends them again until they are accepted, and asks for their end.

use std::{cell::Cell, fmt, net::SocketAddr, rc::Rc, time::Duration};

use actix_web::rt::time::sleep;
use awc::{Client, http::Method};
use serde::Deserialize;
use serde_json::{Value, json};

/// Time between two requests about the same sign-up.
const PAUSE: Duration = Duration::from_millis(40);

/// A sign-up that a client is going to send.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) key: String,
    pub(crate) name: String,
    pub(crate) card: String,
    /// The client sends it again although it was accepted.
    pub(crate) twice: bool,
    /// The client changes its mind this long after it was accepted.
    pub(crate) cancel: Option<Duration>,
    /// The client wants its money back when it is done.
    pub(crate) regret: bool,
}

/// The answer that the client got in the end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) plan: Plan,
    pub(crate) end: End,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    Done,
    /// In this stage.
    Failed(String),
    Cancelled,
    /// Done, and then taken back.
    TakenBack,
    /// Something is left of it, for now.
    Stuck,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Done => f.write_str("done"),
            End::Failed(stage) => write!(f, "failed in {stage}"),
            End::Cancelled => f.write_str("cancelled"),
            End::TakenBack => f.write_str("taken back"),
            End::Stuck => f.write_str("stuck"),
        }
    }
}

#[derive(Debug, Deserialize)]
struct Status {
    status: String,
    end: Option<String>,
    /// The stage that has failed.
    r#in: Option<String>,
}

#[derive(Clone)]
pub(crate) struct Service {
    http: Client,
    address: SocketAddr,
    /// Number of sign-ups that have come to their end.
    ended: Rc<Cell<usize>>,
}

impl Service {
    pub(crate) fn at(address: SocketAddr) -> Self {
        Service {
            http: Client::builder().timeout(Duration::from_secs(2)).finish(),
            address,
            ended: Rc::default(),
        }
    }

    pub(crate) fn ended(&self) -> usize {
        self.ended.get()
    }

    /// Sends a request. `None` if there is no answer: nobody knows whether the service got it.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Option<(u16, Value)> {
        let url = format!("http://{}{path}", self.address);
        let request = self.http.request(method, url).force_close();
        let mut answer = request.send_json(body).await.ok()?;
        Some((answer.status().as_u16(), answer.json().await.ok()?))
    }

    /// Sends a request until the service says something other than that it can't now.
    async fn insist(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        loop {
            match self.ask(method.clone(), path, body).await {
                None | Some((503, _)) => sleep(PAUSE).await,
                Some(answer) => return answer,
            }
        }
    }

    /// Sends a sign-up, until it is accepted.
    pub(crate) async fn submit(&self, plan: &Plan) -> Result<(), String> {
        let Plan {
            key, name, card, ..
        } = plan;
        let body = json!({ "key": key, "name": name, "card": card });
        let accepted = self.insist(Method::POST, "/signups", &body).await;
        if accepted.0 != 202 {
            return Err(format!("{key} was answered with {accepted:?}"));
        }
        if plan.twice {
            let again = self.insist(Method::POST, "/signups", &body).await;
            if again != accepted {
                return Err(format!(
                    "{key} was answered with {accepted:?}, then with {again:?}"
                ));
            }
            let other = json!({ "key": key, "name": format!("not-{name}"), "card": card });
            let refused = self.insist(Method::POST, "/signups", &other).await;
            if refused.0 != 422 {
                return Err(format!(
                    "{key} with another name was answered with {refused:?}"
                ));
            }
        }
        Ok(())
    }

    pub(crate) async fn cancel(&self, key: &str) {
        let path = format!("/signups/{key}");
        self.insist(Method::DELETE, &path, &Value::Null).await;
    }

    /// Sends a sign-up and returns how it has ended.
    pub(crate) async fn sign_up(&self, plan: &Plan) -> Result<Answer, String> {
        self.submit(plan).await?;
        if let Some(after) = plan.cancel {
            sleep(after).await;
            self.cancel(&plan.key).await;
        }
        let mut answer = self.end(plan, true).await?;
        if plan.regret && answer.end == End::Done {
            answer = self.take_back(plan).await?;
        }
        self.ended.set(self.ended.get() + 1);
        Ok(answer)
    }

    async fn take_back(&self, plan: &Plan) -> Result<Answer, String> {
        let path = format!("/signups/{}/take-back", plan.key);
        let taken = self.insist(Method::POST, &path, &Value::Null).await;
        if taken.0 != 202 {
            return Err(format!("{} can't be taken back: {taken:?}", plan.key));
        }
        self.end(plan, true).await
    }

    /// Waits for a sign-up's end. A stuck one is waited for only if that doesn't do.
    pub(crate) async fn end(&self, plan: &Plan, stuck_will_do: bool) -> Result<Answer, String> {
        let path = format!("/signups/{}", plan.key);
        let end = loop {
            let answer = self.insist(Method::GET, &path, &Value::Null).await;
            let Ok(status) = serde_json::from_value::<Status>(answer.1.clone()) else {
                return Err(format!("the status of {} is {answer:?}", plan.key));
            };
            match (&*status.status, status.end.as_deref(), status.r#in) {
                ("ended", Some("done"), None) => break End::Done,
                ("ended", Some("cancelled"), None) => break End::Cancelled,
                ("ended", Some("taken back"), None) => break End::TakenBack,
                ("ended", Some("failed"), Some(stage)) => break End::Failed(stage),
                ("stuck", ..) if stuck_will_do => break End::Stuck,
                ("ended" | "unknown", ..) => {
                    return Err(format!("the status of {} is {answer:?}", plan.key));
                }
                _ => sleep(PAUSE).await,
            }
        };
        let plan = plan.clone();
        Ok(Answer { plan, end })
    }
}
