//! The monitor inside an actix-web application.

use std::{collections::HashMap, sync::Arc};

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse,
    body::BoxBody,
    dev::{AppService, HttpServiceFactory, ServiceRequest, ServiceResponse},
    guard,
    http::header,
    middleware::{Next, from_fn},
    web,
};
use percent_encoding::percent_decode_str;

use crate::{
    access::Access,
    answer::Refused,
    assets,
    call::Call,
    doors::{Doors, secure},
    route::{Route, Run},
    routes::ROUTES,
    shared::Inner,
};

/// The bytes of a body.
const BODY: usize = 64 * 1024;

/// A monitor at a path of an application; made by [`Monitor::mount`](crate::Monitor::mount), for
/// `App::service`. It stands under the middleware of the application.
#[derive(Debug)]
pub struct Mount {
    path: String,
    inner: Arc<Inner>,
    doors: Doors,
}

impl Mount {
    pub(crate) fn new(path: &str, inner: Arc<Inner>, doors: Doors) -> Self {
        Mount {
            path: path.trim_end_matches('/').to_owned(),
            inner,
            doors,
        }
    }

    /// Says what the sender of a request may see and do. Called for each request, before anything else. Default:
    /// everything for requests from this machine that came through no proxy and ask for `localhost`, `127.0.0.1` or
    /// `[::1]`, and nothing for others.
    ///
    /// ```
    /// # use batrun_monitor::{Access, Monitor};
    /// # let monitor = Monitor::new();
    /// # fn role(request: &actix_web::HttpRequest) -> &str { "" }
    /// let mount = monitor.mount("/batrun").access(|request| match role(request) {
    ///     "admin" => Access::all(),
    ///     "staff" => Access::look(),
    ///     _ => Access::none(),
    /// });
    /// # let _ = mount;
    /// ```
    pub fn access(mut self, hook: impl Fn(&HttpRequest) -> Access + Send + Sync + 'static) -> Self {
        self.doors.hook = Some(Arc::new(hook));
        self
    }

    /// Lets pages of this origin, such as `https://ops.example`, send actions: for a proxy that changes the `Host`
    /// and a browser that says nothing better. Default: the monitor's own page only.
    pub fn trust_origin(mut self, origin: impl Into<String>) -> Self {
        self.doors.trusted.push(origin.into());
        self
    }

    /// Lets pages of this origin show the monitor in a frame. Default: none.
    pub fn frame_ancestors(mut self, origin: impl Into<String>) -> Self {
        self.doors.ancestors.push(origin.into());
        self
    }
}

impl HttpServiceFactory for Mount {
    fn register(self, config: &mut AppService) {
        let Mount { path, inner, doors } = self;
        let doors = Arc::new(doors);
        let mut scope = web::scope(&path);
        // `tasks/cancel` before `tasks/{task}`, which would take it for a number.
        let (actions, others): (Vec<&Route>, Vec<&Route>) =
            ROUTES.iter().partition(|route| route.action.is_some());
        for route in actions.into_iter().chain(others) {
            let inner = inner.clone();
            let method = match route.action {
                Some(_) => web::post(),
                None => web::route().guard(guard::Any(guard::Get()).or(guard::Head())),
            };
            let handler = move |request: HttpRequest, payload: web::Payload| {
                let inner = inner.clone();
                async move {
                    let answer = answer(route, inner, &request, payload).await;
                    answer.unwrap_or_else(Refused::response)
                }
            };
            let resource = web::resource(format!("/{}", route.path)).route(method.to(handler));
            scope = scope.service(resource.default_service(web::to(wrong_method)));
        }
        scope = scope.default_service(web::to(page));
        let doors = from_fn(move |request, next| pass(doors.clone(), request, next));
        scope.wrap(doors).register(config);
    }
}

async fn wrong_method() -> HttpResponse {
    Refused::method().response()
}

/// Every request passes here before it is routed.
async fn pass(
    doors: Arc<Doors>,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let mut response = match doors.admit(request.request()) {
        Ok(access) => {
            request.extensions_mut().insert(access);
            next.call(request).await?
        }
        Err(refused) => request.into_response(refused.response()),
    };
    secure(response.headers_mut(), &doors.ancestors);
    Ok(response)
}

/// The files of the page, and what there is not.
async fn page(request: HttpRequest) -> HttpResponse {
    let path = request.match_info().unprocessed();
    if path.is_empty() && !request.path().ends_with('/') {
        // Relative, since only the browser knows the prefix by which it has come.
        let last = request.path().rsplit('/').next().unwrap_or_default();
        return HttpResponse::PermanentRedirect()
            .insert_header((header::LOCATION, format!("./{last}/")))
            .finish();
    }
    if request.method() == actix_web::http::Method::POST {
        return Refused::not_found("no such path; api/v1/openapi.json lists them").response();
    }
    let file = assets::find(path.trim_start_matches('/'));
    file.unwrap_or_else(|| {
        Refused::not_found("no such path; api/v1/openapi.json lists them").response()
    })
}

/// The rights that the doors have found.
fn access(request: &HttpRequest) -> Access {
    request.extensions().get().cloned().unwrap_or_default()
}

async fn answer(
    route: &'static Route,
    inner: Arc<Inner>,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Refused> {
    let access = access(request);
    if !access.may_look() {
        return Err(Refused::forbidden("you may not look at this monitor"));
    }
    if let Some(action) = route.action {
        if !access.may(action) {
            return Err(Refused::forbidden(format!(
                "you may not {action} here; the monitor's .access(..) hook says who may"
            )));
        }
        inner.actions.take(std::time::Instant::now())?;
    }
    let body = match route.action {
        Some(_) => match payload.to_bytes_limited(BODY).await {
            Ok(Ok(body)) => body,
            Ok(Err(error)) => {
                return Err(Refused::bad_request(format!(
                    "the body can't be read: {error}"
                )));
            }
            Err(_) => return Err(Refused::too_large()),
        },
        None => web::Bytes::new(),
    };
    let call = call(inner, access, request, body)?;
    match route.run {
        Run::Now(handler) => handler(&call).map(|reply| reply.response()),
        Run::Apart(handler) => {
            let reply = web::block(move || handler(&call)).await;
            let reply = reply.map_err(|_| Refused::unavailable("the server is stopping"))?;
            reply.map(|reply| reply.response())
        }
        Run::Stream => stream(&call),
    }
}

fn call(
    inner: Arc<Inner>,
    access: Access,
    request: &HttpRequest,
    body: web::Bytes,
) -> Result<Call, Refused> {
    // The router has decoded all but %, / and +, which it leaves as they were sent.
    let decode = |(name, value): (&str, &str)| {
        let value = percent_decode_str(value).decode_utf8().ok()?;
        Some((name.to_owned(), value.into_owned()))
    };
    let path: Option<HashMap<String, String>> = request.match_info().iter().map(decode).collect();
    let path = path.ok_or_else(|| Refused::bad_request("the path isn't UTF-8"))?;
    let query = web::Query::<HashMap<String, String>>::from_query(request.query_string());
    let query =
        query.map_err(|error| Refused::bad_request(format!("the query can't be read: {error}")))?;
    let accept = request
        .headers()
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let who = match (access.who(), request.peer_addr()) {
        (Some(who), _) => who.to_owned(),
        (None, Some(peer)) => peer.ip().to_string(),
        (None, None) => "somebody".to_owned(),
    };
    Ok(Call {
        inner,
        access,
        path,
        query: query.into_inner(),
        body,
        accept: accept.unwrap_or_default().to_owned(),
        who,
    })
}

fn stream(call: &Call) -> Result<HttpResponse, Refused> {
    let every = call.number("every")?.unwrap_or(1).clamp(1, 60);
    // From now on the sampler sees that somebody looks.
    let newest = call.inner.newest.subscribe();
    let first = call.inner.sampled();
    let events = call
        .inner
        .streams
        .open(first, newest, every * 1_000, call.access.clone())?;
    let mut response = HttpResponse::Ok();
    response
        .content_type("text/event-stream")
        .insert_header(("x-accel-buffering", "no"));
    // A server that stops waits for connections: this one ends with its stream.
    response.force_close();
    Ok(response.streaming(events))
}
