//! Errors as HTTP answers.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use siskin_openai::ApiError;

pub type Result<T> = std::result::Result<T, ServeError>;

const INVALID: &str = "invalid_request_error";

#[derive(Debug)]
pub struct ServeError(pub ApiError);

impl From<ApiError> for ServeError {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl ServeError {
    pub fn no_model(name: &str, names: &[String]) -> Self {
        let message = format!("there is no model `{name}`; there are {}", names.join(", "));
        let error = ApiError::new(404, INVALID, message);
        Self(error.with_code("model_not_found").about("model"))
    }

    pub fn model_name(name: &str) -> Self {
        let message = format!("`{name}` is not a model's name: it is a path");
        Self(ApiError::field("model", message))
    }

    pub fn not_loaded(name: &str, why: &str) -> Self {
        let error = ApiError::server(format!("model `{name}` cannot be loaded: {why}"));
        Self(error.with_code("model_not_loaded").about("model"))
    }

    /// As many models as may be loaded are in use.
    pub fn no_room(names: &[&str]) -> Self {
        let message = format!(
            "no other model can be loaded while these are in use: {}; try again later, or raise --max-loaded",
            names.join(", ")
        );
        let error = ApiError::new(503, "server_error", message);
        Self(error.with_code("models_busy").about("model"))
    }

    pub fn no_route(method: &str, path: &str) -> Self {
        let message = format!("`{method} {path}` is not supported");
        Self(ApiError::new(404, INVALID, message))
    }

    pub fn too_large(max: usize) -> Self {
        let message = format!("the body is larger than {max} bytes");
        Self(ApiError::new(413, INVALID, message))
    }

    pub fn too_slow(limit: Duration) -> Self {
        let message = format!("the body did not arrive within {} seconds", limit.as_secs());
        Self(ApiError::new(408, INVALID, message))
    }

    /// The host may be the name of another site, which resolves to this server.
    pub fn other_host(host: &str) -> Self {
        let message = format!(
            "`{host}` is not this machine's own name; use localhost, or start the server with --api-key"
        );
        Self(ApiError::new(403, "permission_error", message))
    }

    pub fn other_origin(origin: &str) -> Self {
        let message =
            format!("pages of `{origin}` may not use this server; start it with --cors {origin}");
        Self(ApiError::new(403, "permission_error", message))
    }

    pub fn not_authorised() -> Self {
        let message = "the API key is missing or wrong; send it as `Authorization: Bearer KEY`";
        let error = ApiError::new(401, "authentication_error", message);
        Self(error.with_code("invalid_api_key"))
    }

    pub fn busy(waiting: usize) -> Self {
        let message = format!("{waiting} requests are waiting already; try again later");
        let error = ApiError::new(429, "rate_limit_error", message);
        Self(error.with_code("too_many_requests"))
    }

    /// The thread of a model has ended.
    pub fn ended() -> Self {
        let message = "the model's thread has ended; restart the server";
        Self(ApiError::server(message))
    }
}

impl IntoResponse for ServeError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.0.json())).into_response();
        let is_temporary = [
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::SERVICE_UNAVAILABLE,
        ];
        if is_temporary.contains(&status) {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
