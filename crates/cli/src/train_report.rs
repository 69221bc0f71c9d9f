//! What `siskin train` prints.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use serde_json::json;
use siskin_text::Message;
use siskin_train::{HeldOut, Preferences, StepReport, Summary};

use crate::args::TrainArgs;

/// A question from a held-out example, answered before and after training.
pub struct Question {
    pub messages: Vec<Message>,
    pub prompt: Vec<u32>,
}

/// What the model gives before or after training.
pub struct Results {
    /// Of the held-out examples.
    pub score: Option<HeldOut>,
    /// The mean reward of the answers to held-out prompts.
    pub reward: Option<f32>,
    pub answers: Vec<String>,
}

/// For the report.
pub struct Steps {
    /// The last one that was taken.
    pub last: Option<StepReport>,
    /// After which the held-out loss was lowest.
    pub best: Option<usize>,
}

pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

pub fn print_summary(summary: &Summary, device: &str) {
    eprintln!(
        "{} examples, {} held out; {} tokens{}{}",
        summary.examples,
        summary.held_out,
        summary.tokens,
        match summary.learned {
            // What is learned is drawn later.
            0 => String::new(),
            n => format!(", {n} of them learned"),
        },
        match summary.cut {
            0 => String::new(),
            n => format!(
                "; {n} examples were truncated to {} tokens",
                summary.max_len
            ),
        }
    );
    eprintln!(
        "{} steps on {device}; {} parameters; about {:.0} MiB",
        summary.steps,
        summary.parameters,
        mebibytes(summary.memory.total)
    );
}

/// For the progress bar.
pub fn rewards(report: &StepReport) -> String {
    if let Some(rewarded) = &report.rewarded {
        return format!(" reward {:.3}", rewarded.reward);
    }
    let found = report.preferences.as_ref();
    let margin = found
        .and_then(|p| p.margins)
        .map(|m| format!(" margin {m:.3}"));
    let right = found
        .and_then(|p| p.accuracies)
        .map(|a| format!(" accuracy {a:.2}"));
    [margin, right].into_iter().flatten().collect()
}

/// What the held-out examples' rewards are after training; before, they are those of the reference.
pub fn held_out_rewards(found: Preferences) -> String {
    let text = |name: &str, value: Option<f32>| value.map(|v| format!("{name} {v:.3}"));
    let all = [
        text("chosen", found.chosen),
        text("rejected", found.rejected),
        text("margin", found.margins),
        text("accuracy", found.accuracies),
    ];
    let all: Vec<String> = all.into_iter().flatten().collect();
    format!("held-out rewards: {}", all.join(", "))
}

pub fn report(
    args: &TrainArgs,
    out: &Path,
    summary: &Summary,
    questions: &[Question],
    [before, after]: [&Results; 2],
    steps: Steps,
) -> Result<()> {
    let mut stdout = std::io::stdout();
    let samples = || questions.iter().zip(&before.answers).zip(&after.answers);
    if args.json {
        let samples: Vec<_> = samples()
            .map(|((q, b), a)| json!({"messages": q.messages, "before": b, "after": a}))
            .collect();
        let json = json!({
            "out": out,
            "summary": summary,
            "held_out_before": before.score.map(|s| s.loss),
            "held_out_after": after.score.map(|s| s.loss),
            "held_out_reward_before": before.reward,
            "held_out_reward_after": after.reward,
            "held_out_rewards": after.score.and_then(|s| s.preferences),
            "last_step": steps.last,
            "best_step": steps.best,
            "samples": samples,
        });
        writeln!(stdout, "{json}")?;
        return Ok(());
    }
    if let [Some(before), Some(after)] = [before.score, after.score] {
        writeln!(
            stdout,
            "held-out loss: {:.4} before, {:.4} after",
            before.loss, after.loss
        )?;
        if let Some(found) = after.preferences {
            writeln!(stdout, "{}", held_out_rewards(found))?;
        }
    }
    if let [Some(before), Some(after)] = [before.reward, after.reward] {
        writeln!(
            stdout,
            "held-out reward: {before:.4} before, {after:.4} after"
        )?;
    }
    for ((question, before), after) in samples() {
        let question = question.messages.last().map_or("", |m| m.content());
        writeln!(stdout, "\n> {question}\nbefore: {before}\nafter:  {after}")?;
    }
    writeln!(stdout, "\nadapter saved to {}", out.display())?;
    Ok(())
}
