//! The default: whoever sits at the machine, and nobody else.

use actix_web::{HttpRequest, http::header};

use crate::{access::Access, answer::Refused};

/// Headers that a proxy adds. One on this machine makes every peer look local.
const PROXIED: [&str; 7] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-real-ip",
    "via",
];

pub(super) fn access(request: &HttpRequest, on_socket: bool) -> Result<Access, Refused> {
    let not_local = |why: &str| {
        Err(Refused::forbidden(format!(
            "this monitor answers only requests from its own machine, and {why}; to let others in, say \
             monitor.mount(..).access(|request| ..) in the application"
        )))
    };
    let peer = request.peer_addr();
    let is_local = |peer: std::net::SocketAddr| peer.ip().to_canonical().is_loopback();
    if !on_socket && !peer.is_some_and(is_local) {
        return not_local("this one came from elsewhere");
    }
    let headers = request.headers();
    let forwarded = |name: &str| PROXIED.contains(&name) || name.starts_with("x-forwarded-");
    if headers.keys().any(|name| forwarded(name.as_str())) {
        return not_local("this one came through a proxy");
    }
    // A page elsewhere may have a name that leads here: its requests name that.
    let named = request.uri().authority().map(|host| host.as_str());
    let mut hosts = headers.get_all(header::HOST).map(|host| host.to_str().ok());
    let host = hosts.next().flatten();
    let all_local = [named, host].into_iter().flatten().all(names_this_machine);
    if hosts.next().is_some() || !all_local || (named.is_none() && host.is_none()) {
        return not_local("this one asks for another host than localhost, 127.0.0.1 or [::1]");
    }
    Ok(Access::all())
}

/// A host, with or without a port.
fn names_this_machine(host: &str) -> bool {
    ["localhost", "127.0.0.1", "[::1]"]
        .into_iter()
        .any(|local| {
            let matches = host
                .get(..local.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(local));
            matches && is_port(&host[local.len()..])
        })
}

fn is_port(rest: &str) -> bool {
    match rest.strip_prefix(':') {
        Some(port) => port.parse::<u16>().is_ok(),
        None => rest.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d1_only_names_of_this_machine_are_local() {
        for host in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:8080",
            "[::1]",
            "[::1]:1",
        ] {
            assert!(names_this_machine(host), "{host}");
        }
        for host in [
            "",
            "localhost.",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.example",
            "127.0.0.2",
            "localhost:",
            "localhost:x",
            "localhost:80@evil.example",
            "[::1].evil",
            "[::1",
            "::1",
            "löcalhost",
        ] {
            assert!(!names_this_machine(host), "{host}");
        }
    }
}
