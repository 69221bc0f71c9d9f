//! A `config.json` for transformers, from a GGUF file's metadata.

use serde_json::{Value as Json, json};
use siskin_formats::Checkpoint;

use crate::families::InConfig;
use crate::{Error, Model, Result};

impl Model {
    /// The configuration to write beside a folder's converted weights: of a model for images, that of the language
    /// model alone.
    pub fn own_config(&self, config: Json) -> Json {
        match config {
            Json::Object(config) if self.is_within_vision() => {
                let mut text = crate::config::text_part(config);
                text.retain(|key, _| {
                    !["vision_config", "mm_tokens_per_image"].contains(&key.as_str())
                        && !key.ends_with("_token_index")
                });
                text.insert("architectures".into(), json!([self.arch.class]));
                Json::Object(text)
            }
            config => config,
        }
    }

    /// A `config.json` for transformers, from a GGUF file's metadata. `is_tied` states whether the embedding is also
    /// the head.
    ///
    /// # Errors
    /// If layers differ in size, there are biases that transformers' class does not have, or the rotary frequencies are
    /// scaled in a way that a `config.json` cannot express.
    pub fn to_config(&self, checkpoint: &Checkpoint, is_tied: bool) -> Result<Json> {
        let d = self.dims();
        let no_folder = |what| Error::NoFolder {
            name: checkpoint.name.clone(),
            what,
        };
        if !d.is_uniform() {
            return Err(no_folder("its layers have different sizes"));
        }
        let InConfig {
            arch,
            window,
            biases,
            more,
        } = self.family.in_config()?;
        if !arch.can_have.contains(&biases) {
            return Err(no_folder(
                "transformers' class has other biases than the file",
            ));
        }
        let factors = self.rope_factors()?;
        let scaling = rope_scaling(&factors, d.rope_theta).ok_or_else(|| {
            no_folder("its rotary frequencies are scaled neither linearly nor as Llama 3's")
        })?;
        let mut config = json!({
            "architectures": [arch.class],
            "model_type": arch.model_type,
            "hidden_size": d.hidden_size,
            "intermediate_size": d.intermediate_size,
            "num_hidden_layers": d.n_layers,
            "num_attention_heads": d.n_heads,
            "num_key_value_heads": d.n_kv_heads,
            "head_dim": d.head_dim,
            "vocab_size": d.vocab_size,
            "rms_norm_eps": d.rms_norm_eps,
            "rope_theta": d.rope_theta,
            "rope_scaling": scaling,
            "max_position_embeddings": d.context_length,
            "attention_bias": biases.o,
            "tie_word_embeddings": is_tied,
            "sliding_window": window,
        });
        for (key, value) in more {
            config[key] = value;
        }
        Ok(config)
    }
}

/// The scaling that divides the frequencies by these factors: null for none, or linear, or Llama 3's.
///
/// Of Llama 3's four numbers, GGUF files keep only what comes of them; several quadruples give the same factors.
/// The one with a `low_freq_factor` of 1 is taken, as the models have it.
fn rope_scaling(factors: &[f32], theta: f32) -> Option<Json> {
    let largest = factors.iter().copied().fold(0f32, f32::max);
    let is_near = |a: f32, b: f32| (a / b - 1.0).abs() < 1e-3;
    if factors.iter().all(|f| is_near(*f, largest)) {
        return Some(match is_near(largest, 1.0) {
            true => Json::Null,
            false => json!({"rope_type": "linear", "factor": rounded(largest)}),
        });
    }
    let turns = |i: usize| {
        let plain = theta.powf(-(i as f32) / factors.len() as f32);
        plain / (2.0 * std::f32::consts::PI)
    };
    // Between both ends, 1 / factor goes from 1 / largest (0) to 1 (1) as a line over the turns a token.
    let smooth = |f: f32| (1.0 / f - 1.0 / largest) / (1.0 - 1.0 / largest);
    let points = factors.iter().enumerate();
    let points: Vec<(f32, f32)> = points
        .map(|(i, f)| (turns(i), smooth(*f)))
        .filter(|p| p.1 > 1e-4 && p.1 < 1.0 - 1e-4)
        .collect();
    let (high, original) = match points[..] {
        [] => return None,
        // One point lies on many lines: that of the models is taken.
        [(x, y)] => (4.0, (1.0 + 3.0 * y) / x),
        [first, .., last] => {
            let slope = (first.1 - last.1) / (first.0 - last.0);
            let low_over_width = slope * first.0 - first.1;
            (1.0 + 1.0 / low_over_width, slope / low_over_width)
        }
    };
    let (high, original) = (rounded(high), original.round());
    let expected = |i: usize| {
        let s = ((original * turns(i) - 1.0) / (high - 1.0)).clamp(0.0, 1.0);
        1.0 / ((1.0 - s) / largest + s)
    };
    let fits = (0..factors.len()).all(|i| is_near(factors[i], expected(i)));
    fits.then(|| {
        json!({
            "rope_type": "llama3",
            "factor": rounded(largest),
            "low_freq_factor": 1.0,
            "high_freq_factor": high,
            "original_max_position_embeddings": original as u64,
        })
    })
}

/// Without what rounding left behind.
fn rounded(v: f32) -> f32 {
    (v * 1000.0).round() / 1000.0
}
