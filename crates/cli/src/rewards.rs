//! What answers are rewarded for, as `--reward` and a recipe's `rewards` say it.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use anyhow::{Context, Result, anyhow, bail};
use regex::Regex;
use siskin_train::{BadRecord, Record, Rollout};

use crate::stop;

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
                Ok(is_same(&r.completion, wanted))
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

    /// Takes out records that cannot be judged.
    pub fn take_unusable(&self, records: &mut Vec<Record>) -> Vec<BadRecord> {
        let compares = self.0.iter().any(|r| matches!(r.0, Reward::Answer));
        let is_bad = |r: &mut Record| compares && r.example.reference_answer().is_none();
        let bad = |r: Record| BadRecord {
            line: r.line,
            reason: "it has no `answer` (or `solution`) for the reward answer".into(),
        };
        records.extract_if(.., is_bad).map(bad).collect()
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
fn reference(rollout: &Rollout) -> Option<&str> {
    let whole = rollout.answer.as_deref()?;
    Some(after_mark(whole).unwrap_or(whole).trim())
}

fn after_mark(text: &str) -> Option<&str> {
    text.rsplit_once("####").map(|(_, last)| last.trim())
}

/// Digits, with commas before each three; what stands before them is looked at apart.
static NUMBER: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?:[0-9]{1,3}(?:,[0-9]{3})+\b|[0-9]+)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+\b)?").ok()
});

const MINUS: [char; 2] = ['-', '\u{2212}'];

/// The last number in a text, as people write it, and what stands before and behind it.
fn last_number(text: &str) -> Option<(f64, &str, &str)> {
    let found = NUMBER.as_ref()?.find_iter(text).last()?;
    let (mut before, behind) = (&text[..found.start()], &text[found.end()..]);
    let mut digits = found.as_str().replace(',', "");
    let is_word = |c: char| c.is_alphanumeric() || c == '.';
    if let Some(rest) = before
        .strip_suffix('.')
        .filter(|rest| !rest.ends_with(is_word))
    {
        (before, digits) = (rest, format!("0.{digits}"));
    }
    before = before.strip_suffix('$').unwrap_or(before);
    let mut number: f64 = digits.parse().ok()?;
    if let Some(rest) = before
        .strip_suffix(MINUS)
        .filter(|rest| !rest.ends_with(is_word))
    {
        (before, number) = (rest, -number);
    }
    Some((number, before, behind)).filter(|n| n.0.is_finite())
}

/// A text that is a number and nothing else, such as `1,234.50` and `-$7`.
fn number(text: &str) -> Option<f64> {
    let (number, before, behind) = last_number(text)?;
    let is_nothing = before.trim_matches([' ', '$', '+']).is_empty()
        && behind.trim_matches([' ', '.', '%']).is_empty();
    is_nothing.then_some(number)
}

/// A number is compared with the answer's last one, or what follows its `####`; other texts without regard to case, white
/// space and a full stop at the end.
fn is_same(completion: &str, wanted: &str) -> bool {
    let plain = |text: &str| {
        let text = text.trim().trim_end_matches('.').to_lowercase();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let said = after_mark(completion).unwrap_or(completion);
    if plain(said) == plain(wanted) {
        return true;
    }
    let Some(wanted) = number(wanted) else {
        return false;
    };
    let found = after_mark(completion).and_then(number);
    found.or_else(|| last_number(completion).map(|n| n.0)) == Some(wanted)
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
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    // It may write before it has read everything. One that does not need all of its input may close it; what it writes is
    // checked.
    std::thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(lines.as_bytes())));
    let reader = std::thread::spawn(move || {
        let mut out = vec![];
        let read = stdout.map(|mut stdout| stdout.read_to_end(&mut out));
        read.transpose().map(|_| out)
    });
    let Some(status) = stop::wait(&mut child)? else {
        bail!("the reward `{command}` was stopped");
    };
    if !status.success() {
        bail!("the reward `{command}` failed ({status})");
    }
    let written = reader
        .join()
        .map_err(|_| anyhow!("the reward `{command}`"))?;
    let written = written.with_context(|| format!("the reward `{command}`"))?;
    let text = String::from_utf8_lossy(&written);
    let lines = text.lines().filter(|l| !l.trim().is_empty()).enumerate();
    let found: Result<Vec<f32>> = lines
        .map(|(i, line)| {
            let number = line.trim().parse();
            number.with_context(|| {
                let line: String = line.chars().take(80).collect();
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
            "the reward `{command}` wrote {} lines for {} answers; it must write one number per line, in their order",
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
                prompt: vec![],
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
