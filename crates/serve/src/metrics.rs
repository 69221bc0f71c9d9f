//! What `/metrics` tells, in Prometheus' text format:
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::fmt::Write;

use siskin_engine::{Answer, FinishReason};

/// Of one model.
#[derive(Debug, Default)]
pub struct Metrics {
    pub running: usize,
    pub waiting: usize,
    /// From 0 to 1.
    pub cache_used: f64,
    stopped: u64,
    cut: u64,
    cancelled: u64,
    prompt_tokens: u64,
    cached_tokens: u64,
    completion_tokens: u64,
    guessed_tokens: u64,
    right_guesses: u64,
    first_token_seconds: f64,
    decode_seconds: f64,
}

impl Metrics {
    pub fn answered(&mut self, answer: &Answer) {
        *match answer.finish_reason {
            FinishReason::Stop => &mut self.stopped,
            FinishReason::Length => &mut self.cut,
            FinishReason::Cancelled => &mut self.cancelled,
        } += 1;
        self.prompt_tokens += answer.prompt_tokens as u64;
        self.cached_tokens += answer.cached_tokens as u64;
        self.completion_tokens += answer.ids.len() as u64;
        self.guessed_tokens += answer.guessed_tokens as u64;
        self.right_guesses += answer.right_guesses as u64;
        self.first_token_seconds += answer.prefill_time.as_secs_f64();
        self.decode_seconds += answer.decode_time.as_secs_f64();
    }

    fn values(&self, is_loaded: bool) -> [(&'static str, &'static str, &'static str, f64); 12] {
        let answered = self.stopped + self.cut;
        // One that was dropped runs nothing, whatever it told last.
        let now = |gauge: f64| if is_loaded { gauge } else { 0.0 };
        [
            (
                "model_loaded",
                "gauge",
                "Whether the model is loaded.",
                now(1.0),
            ),
            (
                "requests_running",
                "gauge",
                "Requests that are being answered.",
                now(self.running as f64),
            ),
            (
                "requests_waiting",
                "gauge",
                "Requests that wait for room.",
                now(self.waiting as f64),
            ),
            (
                "cache_used_ratio",
                "gauge",
                "The part of the KV cache that is occupied, answered sequences included.",
                now(self.cache_used),
            ),
            (
                "prompt_tokens_total",
                "counter",
                "Tokens of prompts.",
                self.prompt_tokens as f64,
            ),
            (
                "prompt_tokens_cached_total",
                "counter",
                "Tokens of prompts that were in the KV cache.",
                self.cached_tokens as f64,
            ),
            (
                "completion_tokens_total",
                "counter",
                "Generated tokens.",
                self.completion_tokens as f64,
            ),
            (
                "guessed_tokens_total",
                "counter",
                "Tokens that were guessed.",
                self.guessed_tokens as f64,
            ),
            (
                "guessed_tokens_right_total",
                "counter",
                "Guesses that were right.",
                self.right_guesses as f64,
            ),
            (
                "decode_seconds_total",
                "counter",
                "Time from the first token of an answer to its last, of all answers.",
                self.decode_seconds,
            ),
            (
                "time_to_first_token_seconds_sum",
                "counter",
                "Time from a request to its first token, of all answers.",
                self.first_token_seconds,
            ),
            (
                "time_to_first_token_seconds_count",
                "counter",
                "Answers that time is of.",
                answered as f64,
            ),
        ]
    }
}

/// The text of all models' metrics; of each, whether it is loaded.
pub fn text<'a>(models: impl Iterator<Item = (&'a str, bool, &'a Metrics)>) -> String {
    let models: Vec<_> = models
        .map(|(name, is_loaded, m)| {
            let name = name.replace('\\', r"\\").replace('"', "\\\"");
            (name, m, m.values(is_loaded))
        })
        .collect();
    let mut out = String::new();
    let n = models.first().map_or(0, |m| m.2.len());
    for i in 0..n {
        for (at, (model, _, values)) in models.iter().enumerate() {
            let (name, kind, help, value) = values[i];
            if at == 0 {
                let _ = writeln!(
                    out,
                    "# HELP siskin_{name} {help}\n# TYPE siskin_{name} {kind}"
                );
            }
            let _ = writeln!(out, "siskin_{name}{{model=\"{model}\"}} {value}");
        }
    }
    let _ = writeln!(
        out,
        "# HELP siskin_requests_total Requests that ended.\n# TYPE siskin_requests_total counter"
    );
    for (model, m, _) in &models {
        for (reason, n) in [
            ("stop", m.stopped),
            ("length", m.cut),
            ("cancelled", m.cancelled),
        ] {
            let _ = writeln!(
                out,
                "siskin_requests_total{{model=\"{model}\",finish_reason=\"{reason}\"}} {n}"
            );
        }
    }
    out
}
