//! Errors in OpenAI's shape: <https://platform.openai.com/docs/guides/error-codes>.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

pub type Result<T> = std::result::Result<T, ApiError>;

#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    /// The request's field that is wrong.
    param: Option<String>,
    message: String,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            code: None,
            param: None,
            message: message.into(),
        }
    }

    /// The request is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// A field of the request is wrong.
    pub fn field(name: &str, message: impl Into<String>) -> Self {
        Self {
            param: Some(name.into()),
            ..Self::invalid(message)
        }
    }

    pub fn no_model(name: &str, names: &[String]) -> Self {
        let message = format!("there is no model `{name}`; there are {}", names.join(", "));
        Self {
            status: StatusCode::NOT_FOUND,
            code: Some("model_not_found"),
            ..Self::field("model", message)
        }
    }

    pub fn model_name(name: &str) -> Self {
        let message = format!("`{name}` is not a model's name: it is a path");
        Self::field("model", message)
    }

    pub fn not_loaded(name: &str, why: &str) -> Self {
        Self {
            code: Some("model_not_loaded"),
            param: Some("model".into()),
            ..Self::server(format!("model `{name}` cannot be loaded: {why}"))
        }
    }

    /// As many models as may be loaded are in use.
    pub fn no_room(names: &[&str]) -> Self {
        let message = format!(
            "no other model can be loaded while these are in use: {}; try again later, or raise --max-loaded",
            names.join(", ")
        );
        Self {
            code: Some("models_busy"),
            param: Some("model".into()),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message)
        }
    }

    pub fn no_route(method: &str, path: &str) -> Self {
        let message = format!("`{method} {path}` is not supported");
        Self {
            status: StatusCode::NOT_FOUND,
            ..Self::invalid(message)
        }
    }

    pub fn too_long(field: &str, message: impl Into<String>) -> Self {
        Self {
            code: Some("context_length_exceeded"),
            ..Self::field(field, message)
        }
    }

    pub fn too_large(max: usize) -> Self {
        let message = format!("the body is larger than {max} bytes");
        Self {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            ..Self::invalid(message)
        }
    }

    pub fn too_slow(limit: Duration) -> Self {
        let message = format!("the body did not arrive within {} seconds", limit.as_secs());
        Self {
            status: StatusCode::REQUEST_TIMEOUT,
            ..Self::invalid(message)
        }
    }

    /// The host may be the name of another site, which resolves to this server.
    pub fn other_host(host: &str) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "permission_error",
            format!(
                "`{host}` is not this machine's own name; use localhost, or start the server with --api-key"
            ),
        )
    }

    pub fn other_origin(origin: &str) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "permission_error",
            format!("pages of `{origin}` may not use this server; start it with --cors {origin}"),
        )
    }

    pub fn not_authorised() -> Self {
        Self {
            code: Some("invalid_api_key"),
            ..Self::new(
                StatusCode::UNAUTHORIZED,
                "authentication_error",
                "the API key is missing or wrong; send it as `Authorization: Bearer KEY`",
            )
        }
    }

    pub fn busy(waiting: usize) -> Self {
        Self {
            code: Some("too_many_requests"),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limit_error",
                format!("{waiting} requests are waiting already; try again later"),
            )
        }
    }

    /// Not the request's fault.
    pub fn server(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    /// `{"error": …}`.
    pub fn json(&self) -> Value {
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.json())).into_response();
        let is_temporary = [
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::SERVICE_UNAVAILABLE,
        ];
        if is_temporary.contains(&self.status) {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
