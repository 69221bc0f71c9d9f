//! The body of a request, as JSON.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use tokio::time::timeout;

use crate::app::App;
use crate::error::{ApiError, Result};
use crate::requests::Fields;

impl FromRequest<Arc<App>> for Fields {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self> {
        let limit = app.options.client_timeout;
        let read = timeout(limit, Bytes::from_request(request, app)).await;
        let body = read.map_err(|_| ApiError::too_slow(limit))?;
        let body = body.map_err(|e| match e.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ApiError::too_large(app.options.max_body),
            _ => ApiError::invalid(format!("the body cannot be read: {e}")),
        })?;
        let json = serde_json::from_slice(&body);
        Self::of(json.map_err(|e| ApiError::invalid(format!("the body is not JSON: {e}")))?)
    }
}
