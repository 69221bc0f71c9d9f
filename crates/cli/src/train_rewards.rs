//! Steps whose answers are drawn, judged and learned from.

use std::ops::ControlFlow;

use anyhow::Result;
use indicatif::ProgressBar;
use serde_json::json;
use siskin_engine::Session;
use siskin_train::{Rollout, RolloutProgress, StepReport, Trainer};

use crate::rewards::Rewards;
use crate::stop;
use crate::train_folder::TrainFolder;

/// Shows how many answers are drawn.
fn watch(bar: &ProgressBar) -> impl FnMut(RolloutProgress) -> ControlFlow<()> {
    move |p| {
        bar.set_message(format!(
            "drawing answers: {} of {}, {} tokens",
            p.answers, p.of, p.tokens
        ));
        stop::flow()
    }
}

/// Takes a step; `None` if the program is stopped before it is taken.
pub async fn step(
    trainer: &mut Trainer,
    session: &mut Session,
    rewards: &Rewards,
    folder: &mut TrainFolder,
    bar: &ProgressBar,
) -> Result<Option<StepReport>> {
    let Some(rollouts) = trainer.roll_out(session, &mut watch(bar)).await? else {
        return Ok(None);
    };
    let found = match rewards.of(&rollouts) {
        // Ctrl-C also reaches a program that judges.
        Err(_) if stop::flow().is_break() => return Ok(None),
        found => found?,
    };
    let report = trainer.learn(session, &rollouts, &found).await?;
    for (rollout, reward) in rollouts.iter().zip(found) {
        folder.completion(&json!({"step": report.step, "rollout": rollout, "reward": reward}))?;
    }
    Ok(Some(report))
}

/// The mean reward of the likeliest answers to the held-out prompts; `None` if there are none, or the program is stopped.
pub async fn held_out(
    trainer: &Trainer,
    session: &mut Session,
    rewards: &Rewards,
    bar: &ProgressBar,
) -> Result<Option<f32>> {
    let answered = trainer.answer_held_out(session, &mut watch(bar)).await?;
    let rollouts: Vec<Rollout> = answered.unwrap_or_default();
    if rollouts.is_empty() {
        return Ok(None);
    }
    let found = match rewards.of(&rollouts) {
        Err(_) if stop::flow().is_break() => return Ok(None),
        found => found?,
    };
    Ok(Some(found.iter().sum::<f32>() / found.len() as f32))
}
