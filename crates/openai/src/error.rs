//! Errors in OpenAI's shape: <https://platform.openai.com/docs/guides/error-codes>.

use serde_json::{Value, json};
use siskin_engine::Error;

/// Of whatever reads a request.
pub type Result<T> = std::result::Result<T, ApiError>;

/// Why there is no answer.
#[derive(Debug)]
pub struct ApiError {
    /// Of HTTP.
    status: u16,
    kind: &'static str,
    code: Option<&'static str>,
    /// The request's field that is wrong.
    param: Option<String>,
    message: String,
    /// The engine's own error, if it is one.
    cause: Option<Box<Error>>,
}

impl ApiError {
    /// With one of OpenAI's types of errors.
    pub fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            code: None,
            param: None,
            message: message.into(),
            cause: None,
        }
    }

    /// The same with one of OpenAI's codes.
    pub fn with_code(self, code: &'static str) -> Self {
        let code = Some(code);
        Self { code, ..self }
    }

    /// The same about a field of the request.
    pub fn about(self, field: &str) -> Self {
        let param = Some(field.into());
        Self { param, ..self }
    }

    /// Why the engine does not accept a prompt that comes from a field.
    pub fn refused(e: impl Into<Error>, field: &str) -> Self {
        let e = e.into();
        let message = e.to_string();
        let error = match e {
            Error::PromptTooLong { .. } | Error::TextTooLong { .. } => {
                Self::too_long(field, message)
            }
            Error::Bias { .. } => Self::field("logit_bias", message),
            Error::Sampling { field, .. } => Self::field(field, message),
            Error::Text(_) => Self::field(field, message),
            Error::Gpu(_) | Error::Cpu(_) => Self::server(message),
            _ => Self::invalid(message),
        };
        Self {
            cause: Some(Box::new(e)),
            ..error
        }
    }

    /// Why an answer has failed.
    pub fn failed(e: &Error) -> Self {
        Self::server(e.to_string())
    }

    /// The request is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request_error", message)
    }

    /// A field of the request is wrong.
    pub fn field(name: &str, message: impl Into<String>) -> Self {
        Self {
            param: Some(name.into()),
            ..Self::invalid(message)
        }
    }

    /// A prompt that comes from a field has more tokens than fit.
    fn too_long(field: &str, message: impl Into<String>) -> Self {
        Self::field(field, message).with_code("context_length_exceeded")
    }

    /// Not the request's fault.
    pub fn server(message: impl Into<String>) -> Self {
        Self::new(500, "server_error", message)
    }

    /// What is wrong, in words.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The status of an HTTP answer.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The engine's own error, if it is one.
    pub fn cause(self) -> Option<Error> {
        self.cause.map(|e| *e)
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
