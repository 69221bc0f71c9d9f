use js_sys::Reflect;
use siskin_engine::Error;
use wasm_bindgen::JsValue;

pub type Result<T> = std::result::Result<T, JsValue>;

fn error(code: &str, message: &str) -> JsValue {
    let error = js_sys::Error::new(message);
    // Setting a property of a new object does not fail.
    let _ = Reflect::set(&error, &"code".into(), &code.into());
    error.into()
}

pub fn invalid(message: &str) -> JsValue {
    error("invalid_request", message)
}

/// What a page can do about an error. Libraries state what is wrong.
fn remedy(e: &Error) -> Option<&'static str> {
    use siskin_formats::Error as Formats;
    use siskin_gpu::Error as Gpu;
    use siskin_models::Error as Models;
    use siskin_text::Error as Text;
    Some(match e {
        Error::PromptTooLong {
            context, trained, ..
        } if context < trained => "shorten it, or raise `context`",
        Error::PromptTooLong { .. } => "shorten it",
        Error::CacheType { .. } => "leave out `cacheType`",
        Error::TextTooLong { .. } => "shorten it, or set `truncate`",
        Error::NoPooling { .. } => "set `pooling`",
        Error::Scores { .. } => "use `rerank`",
        Error::Models(Models::NoText { makes, .. }) => match *makes {
            "scores" => "use `rerank`",
            _ => "use `embeddings.create`",
        },
        Error::OutOfMemory { .. } => "a smaller model may fit",
        Error::Text(Text::NoTemplate) => "use `generate` to prompt it with plain text",
        Error::Formats(e) | Error::Models(Models::Formats(e)) | Error::Text(Text::Formats(e)) => {
            match e {
                Formats::NotGguf { .. } => "pass a GGUF file or the files of a Hugging Face folder",
                Formats::Truncated { .. }
                | Formats::BeyondFile { .. }
                | Formats::Damaged { .. } => "download it again",
                Formats::Split { .. } => "pass all parts",
                _ => return None,
            }
        }
        Error::Gpu(Gpu::OutOfMemory(_) | Gpu::TooLarge { .. }) => {
            "a smaller model, a shorter `context` or device: \"cpu\" may fit"
        }
        Error::Gpu(Gpu::Profile { .. }) => "use profile: \"base\"",
        Error::Gpu(
            Gpu::NoGpu | Gpu::Open { .. } | Gpu::Columns { .. } | Gpu::Device(_) | Gpu::Lost,
        ) => "use device: \"cpu\"",
        _ => return None,
    })
}

fn code(e: &Error) -> &'static str {
    use siskin_gpu::Error as Gpu;
    match e {
        Error::PromptTooLong { .. } | Error::TextTooLong { .. } => "prompt_too_long",
        Error::EmptyText(_)
        | Error::NothingScored { .. }
        | Error::NoPooling { .. }
        | Error::NoPrompt { .. }
        | Error::Dimensions { .. }
        | Error::Scores { .. }
        | Error::Classes(_)
        | Error::NoImportance { .. }
        | Error::Models(siskin_models::Error::NoText { .. } | siskin_models::Error::NoScores(_)) => {
            "invalid_request"
        }
        Error::EmptyPrompt
        | Error::Token { .. }
        | Error::Sampling { .. }
        | Error::Bias { .. }
        | Error::NoAdapter { .. }
        | Error::Keep { .. }
        | Error::Draft { .. }
        | Error::Beams { .. }
        | Error::Grammar { .. } => "invalid_request",
        Error::NotFinite { .. } => "invalid_model",
        Error::Context { .. }
        | Error::CacheType { .. }
        | Error::NoDevice(_)
        | Error::NotTraining => "invalid_request",
        Error::Adapter { .. } => "invalid_adapter",
        Error::Saved { .. } => "saved",
        Error::OutOfMemory { .. } => "out_of_memory",
        Error::Read { .. } => "read",
        Error::Text(
            siskin_text::Error::NoTemplate
            | siskin_text::Error::TemplateSyntax(_)
            | siskin_text::Error::TemplateUnsupported(_)
            | siskin_text::Error::TemplateRaised(_)
            | siskin_text::Error::TemplateLimit(_)
            | siskin_text::Error::TemplateFailed(_),
        ) => "chat_template",
        Error::Models(
            siskin_models::Error::UnknownArchitecture { .. }
            | siskin_models::Error::Unsupported { .. }
            | siskin_models::Error::UnusedTensor { .. }
            | siskin_models::Error::Formats(siskin_formats::Error::UnknownType { .. }),
        )
        | Error::Formats(
            siskin_formats::Error::BigEndian(_)
            | siskin_formats::Error::UnknownType { .. }
            | siskin_formats::Error::Quantisation { .. },
        ) => "unsupported_model",
        Error::Text(siskin_text::Error::Document(_)) => "invalid_request",
        Error::Text(_) | Error::Models(_) | Error::Formats(_) => "invalid_model",
        Error::Gpu(Gpu::NoGpu | Gpu::Open { .. }) => "no_webgpu",
        Error::Gpu(Gpu::Lost) => "device_lost",
        Error::Gpu(Gpu::TooLarge { .. } | Gpu::OutOfMemory(_)) => "out_of_memory",
        Error::Gpu(Gpu::Columns { .. }) => "unsupported_model",
        Error::Gpu(_) | Error::Cpu(_) => "device",
    }
}

pub fn to_js(e: Error) -> JsValue {
    match e {
        // Errors thrown by a page's own source are passed back unchanged.
        Error::Read { .. } => {
            crate::source::thrown().unwrap_or_else(|| error("read", &e.to_string()))
        }
        e => match remedy(&e) {
            Some(remedy) => error(code(&e), &format!("{e}; {remedy}")),
            None => error(code(&e), &e.to_string()),
        },
    }
}

#[cfg(feature = "training")]
pub fn train_to_js(e: siskin_train::Error) -> JsValue {
    use siskin_train::Error as Train;
    match e {
        Train::Engine(e) => to_js(e),
        Train::Text(e) => to_js(e.into()),
        Train::Models(e) => to_js(e.into()),
        e => {
            let code = match e {
                Train::NotFinite { .. } => "training",
                Train::Checkpoint(_) | Train::OtherTraining(_) | Train::PastTheEnd { .. } => {
                    "checkpoint"
                }
                _ => "invalid_request",
            };
            error(code, &e.to_string())
        }
    }
}
