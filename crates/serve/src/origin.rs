//! Which pages may use the server: its own, and those of the origin that `--cors` names.
//!
//! Browsers let any page send requests, to loopback too, and a page whose name resolves to the server's address ("DNS
//! rebinding") could read the answers. So hosts' names are checked where there is no key that a page would need.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::error::{Result, ServeError};

/// Whether a request may come from where it comes from.
fn check_source(app: &App, headers: &HeaderMap) -> Result<()> {
    let text = |name| {
        let value: Option<&HeaderValue> = headers.get(name);
        value.map(|v| v.to_str().unwrap_or_default())
    };
    let (host, origin) = (text(header::HOST), text(header::ORIGIN));
    let has_key = app.options.api_key.is_some();
    let is_sure = host.is_some_and(|h| has_key || is_certain(h, app.address));
    // Browsers always send a host.
    if let Some(host) = host
        && !is_sure
        && app.address.is_loopback()
    {
        return Err(ServeError::other_host(host));
    }
    let Some(origin) = origin else {
        return Ok(());
    };
    let allowed = app.options.cors.as_deref();
    let is_own = is_sure && host.is_some_and(|host| is_same(origin, host));
    match is_own || allowed.is_some_and(|allowed| allowed == "*" || allowed == origin) {
        true => Ok(()),
        false => Err(ServeError::other_origin(origin)),
    }
}

/// CORS: <https://fetch.spec.whatwg.org/#http-cors-protocol>.
pub async fn check(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if let Err(e) = check_source(&app, request.headers()) {
        return e.into_response();
    }
    let allowed = app.options.cors.as_deref();
    let Some(allowed) = allowed.and_then(|o| HeaderValue::from_str(o).ok()) else {
        return next.run(request).await;
    };
    let mut response = match *request.method() {
        Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        _ => next.run(request).await,
    };
    allow(response.headers_mut(), allowed);
    response
}

fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "*, Authorization, Content-Type",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// Whether an origin is that of a host.
fn is_same(origin: &str, host: &str) -> bool {
    // A proxy in front of the server may speak TLS.
    let scheme = ["http://", "https://"];
    let rest = scheme.iter().find_map(|s| origin.strip_prefix(s));
    rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host))
}

/// Whether a host can only be this machine, or the address that the server listens on: no name server is asked for it.
fn is_certain(host: &str, bound: IpAddr) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    if let Ok(address) = bare.unwrap_or(name).parse::<IpAddr>() {
        return address.is_loopback() || address == bound || !bound.is_loopback();
    }
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_no_name_server_is_asked_for() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        for host in [
            "127.0.0.1:80",
            "127.0.0.1",
            "[::1]:80",
            "[::1]",
            "LocalHost:1",
            "a.localhost",
        ] {
            assert!(is_certain(host, loopback), "{host}");
        }
        for host in [
            "example.com",
            "localhost.example.com",
            "127.0.0.1.example.com:80",
            "10.0.0.1:80",
            "",
            "[::1",
        ] {
            assert!(!is_certain(host, loopback), "{host}");
        }
        assert!(is_certain("10.0.0.1:80", IpAddr::from([0, 0, 0, 0])));
        assert!(!is_certain("example.com", IpAddr::from([0, 0, 0, 0])));
    }

    #[test]
    fn an_origin_is_a_scheme_and_a_host() {
        assert!(is_same("http://localhost:80", "localhost:80"));
        for origin in [
            "null",
            "http://localhost:81",
            "http://localhost",
            "file://localhost:80",
        ] {
            assert!(!is_same(origin, "localhost:80"), "{origin}");
        }
    }
}
