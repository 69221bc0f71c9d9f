//! `/v1/chat/completions`, `/v1/completions` and `/v1/responses`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use siskin_openai::{Request, Route};

use crate::answering::Answering;
use crate::app::App;
use crate::body::Body;
use crate::error::Result;
use crate::streams;

pub async fn chat(app: State<Arc<App>>, body: Body) -> Result<Response> {
    answer(app, body, Route::Chat).await
}

pub async fn text(app: State<Arc<App>>, body: Body) -> Result<Response> {
    answer(app, body, Route::Text).await
}

pub async fn responses(app: State<Arc<App>>, body: Body) -> Result<Response> {
    answer(app, body, Route::Responses).await
}

async fn answer(State(app): State<Arc<App>>, Body(fields): Body, route: Route) -> Result<Response> {
    let request = Request::read(route, fields)?;
    let model = app.models.get(request.model()).await?;
    let mut exchange = request.exchange(&model.text, model.name())?;
    let mut prompts = std::mem::take(&mut exchange.prompts);
    if let Some((field, source)) = &exchange.grammar {
        let grammar = model.grammar(field, source)?;
        for prompt in &mut prompts {
            prompt.options.grammar = Some(grammar.clone());
        }
    }
    let answering = Answering::start(model, prompts, exchange.field).await?;
    if exchange.is_stream {
        return Ok(streams::stream(answering, exchange.stream()));
    }
    let answers = answering.whole().await?;
    Ok(Json(exchange.whole(&answers)).into_response())
}
