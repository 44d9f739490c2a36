//! The headers that tell a browser what the page may do, which is little.

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

/// Adds them to an answer. Data is never stored; files that are named by their content bring their own.
pub(crate) fn secure(headers: &mut HeaderMap, ancestors: &[String]) {
    let mut set = |name: &'static str, value: &'static str| {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    };
    set("cross-origin-opener-policy", "same-origin");
    set("cross-origin-resource-policy", "same-origin");
    set(X_CONTENT_TYPE_OPTIONS.as_str(), "nosniff");
    set(REFERRER_POLICY.as_str(), "no-referrer");
    if ancestors.is_empty() {
        set(X_FRAME_OPTIONS.as_str(), "DENY");
    }
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if let Ok(policy) = HeaderValue::from_str(&policy(ancestors)) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
}

fn policy(ancestors: &[String]) -> String {
    let ancestors = match ancestors {
        [] => "'none'".to_owned(),
        some => some.join(" "),
    };
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors {ancestors}; require-trusted-types-for 'script'"
    )
}
