//! How answers are generated: `generation_kwargs`.

use siskin_engine::{GenerateOptions, Sampling, TextModel};

use crate::Result;
use crate::error::bad;
use crate::fields::Fields;
use crate::task::Kind;

#[derive(Debug)]
pub(crate) struct Generation {
    until: Vec<String>,
    pub max_tokens: usize,
    sampling: Sampling,
}

impl Generation {
    pub fn take(fields: &mut Fields, kind: Kind, fewshot_delimiter: &str) -> Result<Self> {
        let given = fields.take("generation_kwargs");
        let mut default = Self {
            until: vec![fewshot_delimiter.into()],
            max_tokens: 256,
            sampling: Sampling::default(),
        };
        let Some(given) = given else {
            return Ok(default);
        };
        if kind != Kind::Generate {
            return bad("generation_kwargs", "is for generate_until only");
        }
        let mut given = Fields::of(given, "generation_kwargs.")?;
        if let Some(until) = given.texts("until")? {
            default.until = until.into_iter().filter(|u| !u.is_empty()).collect();
        }
        // The first of them that is there counts.
        for key in [
            "max_completion_tokens",
            "max_tokens",
            "max_new_tokens",
            "max_gen_toks",
        ] {
            if let Some(n) = given.count(key)? {
                default.max_tokens = n;
            }
        }
        if default.max_tokens == 0 {
            return bad("generation_kwargs.max_gen_toks", "is 0");
        }
        let do_sample = given.flag("do_sample")?;
        let temperature = given.number("temperature")?;
        let sampling = &mut default.sampling;
        sampling.temperature = match (do_sample, temperature) {
            (Some(false), _) | (None, None) => 0.0,
            (Some(true), None) => 1.0,
            (_, Some(t)) => t as f32,
        };
        sampling.top_p = given.number("top_p")?.map_or(1.0, |p| p as f32);
        sampling.min_p = given.number("min_p")?.map_or(0.0, |p| p as f32);
        sampling.top_k = given.count("top_k")?.unwrap_or(0) as u32;
        given.finish()?;
        Ok(default)
    }

    pub fn is_greedy(&self) -> bool {
        self.sampling.temperature == 0.0
    }

    pub fn options(&self, text: &TextModel, seed: u64) -> GenerateOptions {
        // A special token ends the answer only if it is in its text.
        let special = |u: &&String| text.id_of(u).is_some_and(|id| text.is_special(id));
        GenerateOptions {
            sampling: Sampling {
                seed,
                ..self.sampling
            },
            max_tokens: self.max_tokens,
            stop: self.until.clone(),
            shown: self.until.iter().filter(special).cloned().collect(),
            ..GenerateOptions::default()
        }
    }
}
