//! Requests that change something must come from our own page, or from no browser at all. There is no token and
//! no session, so nothing breaks behind a load balancer.

use actix_web::{
    HttpRequest,
    http::{Uri, header},
};

use crate::answer::Refused;

pub(super) fn check(request: &HttpRequest, trusted: &[String]) -> Result<(), Refused> {
    let headers = request.headers();
    let all = |name: &str| headers.get_all(name).collect::<Vec<_>>();
    let (sites, origins) = (all("sec-fetch-site"), all("origin"));
    if sites.len() > 1 || origins.len() > 1 {
        return Err(foreign());
    }
    let origin = origins
        .first()
        .map(|origin| origin.to_str().unwrap_or_default());
    if origin.is_some_and(|origin| trusted.iter().any(|trusted| trusted == origin)) {
        return Ok(());
    }
    match sites.first().map(|site| site.as_bytes()) {
        Some(b"same-origin" | b"none") => return Ok(()),
        Some(_) => return Err(foreign()),
        // Browsers say it only where the connection is trusted: over HTTPS, and to localhost.
        None => {}
    }
    let Some(origin) = origin else {
        // No browser.
        return Ok(());
    };
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let from = origin.parse::<Uri>().ok();
    let from = from
        .as_ref()
        .and_then(|from| Some(from.authority()?.as_str()));
    match (from, host) {
        (Some(from), Some(host)) if from.eq_ignore_ascii_case(host) => Ok(()),
        _ => Err(foreign()),
    }
}

fn foreign() -> Refused {
    Refused::forbidden(
        "this request comes from a page of another site; if a proxy changes the Host, say .trust_origin(\"https://..\")",
    )
}
