//! What a user of the command line can do about an error. Libraries state what is wrong; this module adds the remedy.

use anyhow::anyhow;
use siskin_engine::Error as Engine;
use siskin_eval::Error as Eval;
use siskin_formats::Error as Formats;
use siskin_gpu::Error as Gpu;
use siskin_models::Error as Models;
use siskin_text::Error as Text;
use siskin_train::Error as Train;

use crate::terminal::printable;

/// An error on one line, with its remedy.
pub fn line(error: &anyhow::Error) -> String {
    let text = match remedy(error) {
        Some(remedy) => format!("{error:#}; {remedy}"),
        None => format!("{error:#}"),
    };
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    printable(&text)
}

/// The remedy for the first error of the chain that has one.
fn remedy(error: &anyhow::Error) -> Option<&'static str> {
    error.chain().find_map(|e| {
        e.downcast_ref::<Engine>()
            .and_then(of_engine)
            .or_else(|| e.downcast_ref::<Train>().and_then(of_train))
            .or_else(|| e.downcast_ref::<Eval>().and_then(of_eval))
            .or_else(|| e.downcast_ref::<Formats>().and_then(of_formats))
            .or_else(|| e.downcast_ref::<Text>().and_then(of_text))
            .or_else(|| e.downcast_ref::<Models>().and_then(of_models))
            .or_else(|| e.downcast_ref::<Gpu>().and_then(of_gpu))
    })
}

fn of_engine(e: &Engine) -> Option<&'static str> {
    Some(match e {
        Engine::PromptTooLong {
            context, trained, ..
        } if context < trained => "shorten it, or raise --ctx",
        Engine::PromptTooLong { .. } => "shorten it",
        Engine::CacheType { .. } => "use --cache f16",
        Engine::TextTooLong { .. } => "shorten it, or use --truncate",
        Engine::NoPooling { .. } => "use --pooling mean, cls or last",
        Engine::Scores { .. } => "use `siskin rerank`",
        Engine::Formats(e) => return of_formats(e),
        Engine::Text(e) => return of_text(e),
        Engine::Models(e) => return of_models(e),
        Engine::Gpu(e) => return of_gpu(e),
        _ => return None,
    })
}

fn of_formats(e: &Formats) -> Option<&'static str> {
    Some(match e {
        Formats::NotGguf { .. } => "use a .gguf file or a Hugging Face folder",
        Formats::Truncated { .. } | Formats::BeyondFile { .. } | Formats::Damaged { .. } => {
            "download it again"
        }
        Formats::GgufVersion { .. } => "convert it with a current llama.cpp",
        Formats::Split { .. } => "put all parts into one folder under their own names",
        Formats::Io { .. } => "check the path and its permissions",
        _ => return None,
    })
}

fn of_models(e: &Models) -> Option<&'static str> {
    match e {
        Models::Formats(e) => of_formats(e),
        Models::NoText { makes, .. } => Some(match *makes {
            "scores" => "use `siskin rerank`",
            _ => "use `siskin embed`",
        }),
        Models::NoScores(_) => Some("use a cross-encoder, or `siskin embed`"),
        Models::NoPooler(_) => Some("use the folder that it was made from"),
        Models::NoFolder { .. } => Some("use an --out that ends in .gguf"),
        _ => None,
    }
}

fn of_text(e: &Text) -> Option<&'static str> {
    match e {
        Text::Formats(e) => of_formats(e),
        _ => None,
    }
}

fn of_train(e: &Train) -> Option<&'static str> {
    match e {
        Train::Engine(e) => of_engine(e),
        Train::Text(e) => of_text(e),
        Train::Models(e) => of_models(e),
        _ => None,
    }
}

fn of_eval(e: &Eval) -> Option<&'static str> {
    match e {
        Eval::Engine(e) => of_engine(e),
        Eval::Text(e) => of_text(e),
        _ => None,
    }
}

/// A template's error, for a command that can work without the template.
pub fn or_raw(e: Text) -> anyhow::Error {
    match e {
        Text::NoTemplate => anyhow!("{e}; use --raw to prompt it with plain text"),
        Text::TemplateSyntax(_)
        | Text::TemplateUnsupported(_)
        | Text::TemplateLimit(_)
        | Text::TemplateFailed(_) => anyhow!("{e}; use --raw to work without it"),
        e => e.into(),
    }
}

fn of_gpu(e: &Gpu) -> Option<&'static str> {
    Some(match e {
        Gpu::NoGpu if cfg!(target_os = "linux") => {
            "install a driver (on Debian or Ubuntu: `apt install mesa-vulkan-drivers libvulkan1`), or use \
             --device cpu"
        }
        Gpu::NoGpu | Gpu::Open { .. } | Gpu::Columns { .. } | Gpu::Lost => "use --device cpu",
        Gpu::NoSuchGpu { .. } => "`siskin devices` lists them",
        Gpu::Profile { .. } => "use --profile base",
        Gpu::OutOfMemory(_) | Gpu::TooLarge { .. } => {
            "a smaller model, a shorter --ctx or --device cpu may fit"
        }
        Gpu::Device(_) => "free some of its memory, or use --device cpu",
        _ => return None,
    })
}
