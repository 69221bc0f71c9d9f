//! What was measured, for people and for machines.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use serde_json::{Value as Json, json};
use siskin_engine::Session;
use siskin_eval::{Comparison, ItemResult, Summary, comparisons, summaries};

use super::subject::Subject;
use super::task_file::TaskFile;
use crate::terminal::printable;

/// A task with each model.
#[derive(Debug)]
pub struct Measured {
    pub task: String,
    pub models: Vec<MeasuredModel>,
}

#[derive(Debug)]
pub struct MeasuredModel {
    pub label: String,
    device: String,
    pub results: Vec<ItemResult>,
    /// How often a judge finds the first model better than this one.
    pub judged: Option<Judged>,
}

#[derive(Debug)]
pub struct Judged {
    pub judge: String,
    /// How each record was judged.
    pub results: Vec<ItemResult>,
}

impl Measured {
    pub fn of(task: &TaskFile) -> Self {
        Self {
            task: task.task.name.clone(),
            models: vec![],
        }
    }

    pub fn push(&mut self, subject: &Subject, session: &Session, results: Vec<ItemResult>) {
        let device = session.device();
        self.models.push(MeasuredModel {
            label: subject.label.clone(),
            device: format!("{}, {}", device.name(), device.profile()),
            results,
            judged: None,
        });
    }

    /// The first model and a baseline.
    fn compared(&self, baseline: &MeasuredModel) -> BTreeMap<String, Comparison> {
        comparisons(&self.models[0].results, &baseline.results)
    }
}

pub fn json(measured: &[Measured]) -> Json {
    let judged = |j: &Judged| json!({"judge": j.judge, "metrics": summaries(&j.results)});
    let task = |m: &Measured| {
        let model = |(i, of): (usize, &MeasuredModel)| {
            let mut json = json!({
                "model": of.label,
                "device": of.device,
                "metrics": summaries(&of.results),
            });
            if i > 0 {
                json["comparison"] = json!(m.compared(of));
            }
            if let Some(of) = &of.judged {
                json["judged"] = judged(of);
            }
            json
        };
        let models: Vec<Json> = m.models.iter().enumerate().map(model).collect();
        json!({"task": m.task, "models": models})
    };
    json!({"tasks": measured.iter().map(task).collect::<Vec<_>>()})
}

fn with_error(summary: &Summary) -> String {
    match summary.stderr {
        Some(error) => format!("{:.4} ± {error:.4}", summary.value),
        None => format!("{:.4}", summary.value),
    }
}

pub fn print(out: &mut impl Write, measured: &[Measured]) -> Result<()> {
    let mut rows: Vec<[String; 4]> = vec![];
    for m in measured {
        for of in &m.models {
            for (metric, summary) in summaries(&of.results) {
                let (n, value) = (summary.n.to_string(), with_error(&summary));
                rows.push([m.task.clone(), metric, value, n]);
                if m.models.len() > 1
                    && let Some(last) = rows.last_mut()
                {
                    last[3] += &format!("  {}", of.label);
                }
            }
        }
    }
    table(out, ["task", "metric", "value", "n"], &rows)?;
    let (mut rows, mut judged) = (vec![], vec![]);
    for m in measured {
        for of in m.models.iter().skip(1) {
            for (metric, c) in m.compared(of) {
                let error = c.stderr.map_or(String::new(), |e| format!(" ± {e:.4}"));
                let difference = format!("{:+.4}{error}", c.difference);
                let p = format!("{:.4}  than {}", c.p, of.label);
                rows.push([m.task.clone(), metric, difference, p]);
            }
            for (judge, (metric, summary)) in of.judged.iter().flat_map(|j| {
                summaries(&j.results)
                    .into_iter()
                    .map(move |s| (&j.judge, s))
            }) {
                let over = format!("{}  over {}, by {judge}", summary.n, of.label);
                judged.push([m.task.clone(), metric, with_error(&summary), over]);
            }
        }
    }
    if !rows.is_empty() {
        writeln!(out)?;
        table(out, ["task", "metric", "difference", "p"], &rows)?;
    }
    if !judged.is_empty() {
        writeln!(out)?;
        table(out, ["task", "metric", "value", "n"], &judged)?;
    }
    Ok(())
}

fn table(out: &mut impl Write, head: [&str; 4], rows: &[[String; 4]]) -> Result<()> {
    let rows: Vec<[String; 4]> = rows
        .iter()
        .map(|r| r.each_ref().map(|c| printable(c)))
        .collect();
    let width = |i: usize| {
        let cells = rows.iter().map(|r| r[i].chars().count());
        cells.chain([head[i].len()]).max().unwrap_or(0)
    };
    let widths = [0, 1, 2].map(width);
    let mut line = |cells: [&str; 4]| {
        let [a, b, c] = widths;
        writeln!(
            out,
            "{:a$}  {:b$}  {:c$}  {}",
            cells[0], cells[1], cells[2], cells[3]
        )
    };
    line(head)?;
    for row in &rows {
        line(row.each_ref().map(String::as_str))?;
    }
    Ok(())
}
