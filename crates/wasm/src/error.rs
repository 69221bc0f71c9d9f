use js_sys::Reflect;
use siskin_engine::Error;
use wasm_bindgen::JsValue;

pub type Result<T> = std::result::Result<T, JsValue>;

/// How libraries name the command line's options, and how a page does.
const WORDS: [(&str, &str); 6] = [
    ("use --device cpu", "use device: \"cpu\""),
    ("--device cpu", "device: \"cpu\""),
    ("raise --ctx", "raise `context`"),
    ("--ctx", "`context`"),
    ("use --profile base", "use profile: \"base\""),
    ("use --raw to", "use `generate` to"),
];

fn error(code: &str, message: &str) -> JsValue {
    let message = WORDS
        .iter()
        .fold(message.to_string(), |m, (from, to)| m.replace(from, to));
    let error = js_sys::Error::new(&message);
    // Setting a property of a fresh object does not fail.
    let _ = Reflect::set(&error, &"code".into(), &code.into());
    error.into()
}

pub fn invalid(message: &str) -> JsValue {
    error("invalid_request", message)
}

fn code(e: &Error) -> &'static str {
    use siskin_gpu::Error as Gpu;
    match e {
        Error::PromptTooLong { .. } => "prompt_too_long",
        Error::EmptyPrompt | Error::Token { .. } | Error::Sampling { .. } => "invalid_request",
        Error::Context { .. } | Error::NotTraining => "invalid_request",
        Error::Adapter { .. } => "invalid_adapter",
        Error::OutOfMemory { .. } => "out_of_memory",
        Error::Read { .. } => "read",
        Error::Text(
            siskin_text::Error::NoTemplate
            | siskin_text::Error::TemplateSyntax(_)
            | siskin_text::Error::TemplateUnsupported(_)
            | siskin_text::Error::TemplateRaised(_)
            | siskin_text::Error::TemplateLimit(_)
            | siskin_text::Error::TemplateFailed(_),
        ) => {
            "chat_template"
        }
        Error::Models(siskin_models::Error::UnknownArchitecture { .. }) => "unsupported_model",
        Error::Text(_) | Error::Models(_) | Error::Formats(_) => "invalid_model",
        Error::Gpu(Gpu::NoAdapter | Gpu::Open { .. }) => "no_webgpu",
        Error::Gpu(Gpu::Lost) => "device_lost",
        Error::Gpu(Gpu::TooLarge { .. } | Gpu::OutOfMemory(_)) => "out_of_memory",
        Error::Gpu(Gpu::Columns { .. }) => "unsupported_model",
        Error::Gpu(_) | Error::Cpu(_) => "device",
    }
}

pub fn to_js(e: Error) -> JsValue {
    match e {
        // What a page's own source threw goes back as it came.
        Error::Read { .. } => {
            crate::source::thrown().unwrap_or_else(|| error("read", &e.to_string()))
        }
        e => error(code(&e), &e.to_string()),
    }
}

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
