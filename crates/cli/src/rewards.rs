//! What answers are rewarded for, as `--reward` and a recipe's `rewards` say it.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use regex::Regex;
use siskin_train::Rollout;

/// One way to judge an answer.
#[derive(Debug)]
enum Reward {
    /// 1 if the answer is the record's.
    Answer,
    /// 1 if the answer is JSON.
    Json,
    /// 1 if the expression matches somewhere in the answer.
    Regex(Box<Regex>),
    /// A program that reads a JSON object per answer, and writes a number for each.
    Command(String),
}

/// The sum of rewards, each with its weight.
#[derive(Debug)]
pub struct Rewards(Vec<(Reward, f32)>);

impl Reward {
    fn parse(spec: &str) -> Result<Self> {
        let (name, rest) = spec.split_once(':').unwrap_or((spec, ""));
        Ok(match (name, rest) {
            ("answer", "") => Self::Answer,
            ("json", "") => Self::Json,
            ("regex", _) if rest.is_empty() => {
                bail!("the reward regex has no expression; use regex:EXPRESSION")
            }
            ("regex", _) => {
                let regex = Regex::new(rest);
                Self::Regex(Box::new(
                    regex.with_context(|| format!("the reward {spec}"))?,
                ))
            }
            ("command", _) if rest.trim().is_empty() => {
                bail!("the reward command has no command; use command:PROGRAM ARGUMENTS")
            }
            ("command", _) => Self::Command(rest.into()),
            _ => bail!(
                "there is no reward `{spec}`; use answer, json, regex:EXPRESSION or command:PROGRAM"
            ),
        })
    }

    fn of(&self, rollouts: &[Rollout]) -> Result<Vec<f32>> {
        let each = |of: &dyn Fn(&Rollout) -> Result<bool>| {
            let found = rollouts.iter().map(|r| Ok(f32::from(of(r)?)));
            found.collect()
        };
        match self {
            Self::Answer => each(&|r| {
                let wanted = reference(r).with_context(|| {
                    format!(
                        "record {} has no `answer` (or `solution`) for the reward answer",
                        r.line
                    )
                })?;
                Ok(is_same(&r.completion, &wanted))
            }),
            Self::Json => each(&|r| Ok(is_json(&r.completion))),
            Self::Regex(regex) => each(&|r| Ok(regex.is_match(&r.completion))),
            Self::Command(command) => run(command, rollouts),
        }
    }
}

impl Rewards {
    /// # Errors
    /// If one is not known, or weights do not belong to them.
    pub fn parse(specs: &[String], weights: &[f32]) -> Result<Self> {
        if !weights.is_empty() && weights.len() != specs.len() {
            bail!(
                "there are {} reward_weights for {} rewards",
                weights.len(),
                specs.len()
            );
        }
        if let Some(wrong) = weights.iter().find(|w| !w.is_finite()) {
            bail!("reward_weights has {wrong}, which is no number to multiply by");
        }
        let parsed = specs.iter().enumerate().map(|(i, spec)| {
            let weight = weights.get(i).copied().unwrap_or(1.0);
            Ok((Reward::parse(spec)?, weight))
        });
        Ok(Self(parsed.collect::<Result<_>>()?))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The reward of each answer.
    pub fn of(&self, rollouts: &[Rollout]) -> Result<Vec<f32>> {
        let mut sums = vec![0.0; rollouts.len()];
        for (reward, weight) in &self.0 {
            let found = reward.of(rollouts)?;
            sums.iter_mut()
                .zip(found)
                .for_each(|(sum, r)| *sum += weight * r);
        }
        Ok(sums)
    }
}

/// The record's answer; what follows `####` where it ends with that, as GSM8K's do.
fn reference(rollout: &Rollout) -> Option<String> {
    let column = || {
        let solution = rollout.columns.get("solution")?;
        Some(
            solution
                .as_str()
                .map_or_else(|| solution.to_string(), String::from),
        )
    };
    let whole = rollout.answer.clone().or_else(column)?;
    Some(after_mark(&whole).unwrap_or(&whole).trim().into())
}

fn after_mark(text: &str) -> Option<&str> {
    text.rsplit_once("####").map(|(_, last)| last.trim())
}

/// A number as people write it: `1,234.50` and `$7` are numbers.
fn number(text: &str) -> Option<f64> {
    let plain: String = text
        .chars()
        .filter(|c| !matches!(c, ',' | '$' | '%'))
        .collect();
    let number: Option<f64> = plain.trim().trim_end_matches('.').parse().ok();
    number.filter(|n| n.is_finite())
}

/// The last number in a text.
fn last_number(text: &str) -> Option<f64> {
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | '-');
    let parts = text.split(|c| !is_part(c)).rev();
    parts.filter_map(number).next()
}

/// A number is compared with the answer's last one, or what follows its `####`; other texts without regard to case, white
/// space and a full stop at the end.
fn is_same(completion: &str, wanted: &str) -> bool {
    if let Some(wanted) = number(wanted) {
        let found = after_mark(completion).and_then(number);
        return found.or_else(|| last_number(completion)) == Some(wanted);
    }
    let plain = |text: &str| {
        let text = text.trim().trim_end_matches('.').to_lowercase();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    plain(after_mark(completion).unwrap_or(completion)) == plain(wanted)
}

/// JSON alone, or in a fence.
fn is_json(text: &str) -> bool {
    let text = text.trim();
    let fenced = text
        .strip_prefix("```json")
        .or_else(|| text.strip_prefix("```"));
    let text = fenced.and_then(|t| t.strip_suffix("```")).unwrap_or(text);
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// Writes a JSON object per answer to the program, and reads a number per line.
fn run(command: &str, rollouts: &[Rollout]) -> Result<Vec<f32>> {
    let (shell, flag) = if cfg!(windows) {
        ("cmd", "/C")
    } else {
        ("sh", "-c")
    };
    let mut child = Command::new(shell)
        .args([flag, command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("the reward `{command}` cannot be started"))?;
    let mut lines = String::new();
    for rollout in rollouts {
        lines += &serde_json::to_string(rollout)?;
        lines.push('\n');
    }
    let stdin = child.stdin.take();
    // It may write before it has read everything.
    let writer = std::thread::spawn(move || {
        // A program that does not need all of its input may close it; what it writes is checked.
        stdin.map(|mut stdin| stdin.write_all(lines.as_bytes()))
    });
    let output = child.wait_with_output();
    let _ = writer.join();
    let output = output.with_context(|| format!("the reward `{command}`"))?;
    if !output.status.success() {
        bail!("the reward `{command}` failed ({})", output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().filter(|l| !l.trim().is_empty()).enumerate();
    let found: Result<Vec<f32>> = lines
        .map(|(i, line)| {
            let number = line.trim().parse();
            number.with_context(|| {
                format!(
                    "line {} of the reward `{command}` is `{line}`, which is no number",
                    i + 1
                )
            })
        })
        .collect();
    let found = found?;
    if found.len() != rollouts.len() {
        bail!(
            "the reward `{command}` wrote {} numbers for {} answers; it must write one per line, in their order",
            found.len(),
            rollouts.len()
        );
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same cases as those of the package's rewards.
    #[test]
    fn answers_are_judged_as_by_the_package() {
        let cases = include_str!("../../../tests/fixtures/rewards/judged.json");
        let cases: Vec<serde_json::Value> = serde_json::from_str(cases).unwrap();
        for case in cases {
            let text = |key: &str| case[key].as_str().unwrap_or_default().to_string();
            let rollout = Rollout {
                line: 1,
                prompt: siskin_train::Said::Text("q".into()),
                completion: text("completion"),
                answer: case["answer"].as_str().map(String::from),
                columns: serde_json::Map::new(),
                truncated: false,
                ids: vec![],
                place: 0,
            };
            let reward = Reward::parse(&text("reward")).unwrap();
            let found = reward.of(&[rollout]).unwrap()[0];
            assert_eq!(Some(f64::from(found)), case["is"].as_f64(), "{case}");
        }
    }

    #[test]
    fn what_is_no_reward_is_told() {
        for (spec, wanted) in [
            ("length", "no reward `length`"),
            ("regex:(", "the reward regex:("),
            ("regex", "no expression"),
            ("command:", "no command"),
            ("answer:x", "no reward `answer:x`"),
        ] {
            let error = Reward::parse(spec).unwrap_err();
            assert!(format!("{error:#}").contains(wanted), "{error:#}");
        }
        let error = Rewards::parse(&["json".into()], &[1.0, 2.0]).unwrap_err();
        assert!(error.to_string().contains("2 reward_weights for 1"));
    }
}
