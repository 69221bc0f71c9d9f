//! The README's picture: commands and the program's actual output, drawn as a terminal in SVG.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::command::{root, siskin};
use crate::model;

const MODEL: &str = "smollm2-135m-instruct";
const COLUMNS: usize = 92;

enum Line {
    Command(String),
    Output(String),
}

/// Runs the program and returns its output, wrapped.
fn session(args: &[&str], input: &[&str]) -> Result<Vec<String>> {
    let mut child = siskin()?
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.join("\n").as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("`siskin {}` failed", args.join(" "));
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .flat_map(wrap)
        .collect())
}

fn wrap(line: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    for word in line.split_inclusive(' ') {
        if out
            .last()
            .is_some_and(|l| l.chars().count() + word.trim_end().chars().count() > COLUMNS)
        {
            out.push("  ".into());
        }
        if let Some(last) = out.last_mut() {
            last.push_str(word);
        }
    }
    out
}

pub fn draw() -> Result<()> {
    model::fetch()?;
    let question = "What is the capital of France?";
    let mut lines = vec![Line::Command(format!("siskin run {MODEL} \"{question}\""))];
    let output = |args: &[&str], input: &[&str]| -> Result<Vec<Line>> {
        Ok(session(args, input)?
            .into_iter()
            .map(Line::Output)
            .collect())
    };
    lines.extend(output(&["run", MODEL, question], &[])?);
    lines.push(Line::Command(format!(
        "siskin tokenize {MODEL} \"Hello wörld\""
    )));
    lines.extend(output(&["tokenize", MODEL, "Hello wörld"], &[])?);
    lines.push(Line::Command(format!(
        "siskin bench {MODEL} -p 128 -n 32 --device gpu"
    )));
    lines.extend(output(
        &["bench", MODEL, "-p", "128", "-n", "32", "--device", "gpu"],
        &[],
    )?);
    let path = root().join("crates/cli/terminal.svg");
    std::fs::write(&path, svg(&lines)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}

fn svg(lines: &[Line]) -> Result<String> {
    let (step, left, top) = (19, 18, 46);
    let height = top + step * lines.len() + 10;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 800 {height}\" font-family=\"ui-monospace, \
         Menlo, Consolas, 'DejaVu Sans Mono', monospace\" font-size=\"13\">\n\
         <rect width=\"800\" height=\"{height}\" rx=\"8\" fill=\"#16181d\"/>\n"
    );
    for (i, colour) in ["#ff5f57", "#febc2e", "#28c840"].iter().enumerate() {
        writeln!(
            out,
            "<circle cx=\"{}\" cy=\"18\" r=\"5\" fill=\"{colour}\"/>",
            20 + 18 * i
        )?;
    }
    for (i, line) in lines.iter().enumerate() {
        let y = top + step * i;
        let (prompt, text, colour) = match line {
            Line::Command(text) => ("<tspan fill=\"#7ee787\">$ </tspan>", text, "#ffffff"),
            Line::Output(text) => ("", text, "#c9d1d9"),
        };
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        writeln!(
            out,
            "<text x=\"{left}\" y=\"{y}\" fill=\"{colour}\" xml:space=\"preserve\">{prompt}{text}</text>"
        )?;
    }
    out.push_str("</svg>\n");
    Ok(out)
}
