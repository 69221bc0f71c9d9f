//! The body of a request, as JSON.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use siskin_openai::{ApiError, Fields};
use tokio::time::timeout;

use crate::app::App;
use crate::error::{Result, ServeError};

/// The fields of a request.
pub struct Body(pub Fields);

impl FromRequest<Arc<App>> for Body {
    type Rejection = ServeError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self> {
        let limit = app.options.client_timeout;
        let read = timeout(limit, Bytes::from_request(request, app)).await;
        let body = read.map_err(|_| ServeError::too_slow(limit))?;
        let body = body.map_err(|e| match e.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ServeError::too_large(app.options.max_body),
            _ => ServeError(ApiError::invalid(format!("the body cannot be read: {e}"))),
        })?;
        let json = serde_json::from_slice(&body);
        let wrong = |e| ApiError::invalid(format!("the body is not JSON: {e}"));
        Ok(Self(Fields::of(json.map_err(wrong)?)?))
    }
}
