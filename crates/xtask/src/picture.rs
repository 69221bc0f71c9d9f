//! The README's picture: commands and the program's actual output, drawn as a terminal in SVG, which shows each
//! character as long after the command as the program printed it.

use std::io::Read;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::command::{root, siskin};
use crate::model;
use crate::terminal_svg::{Cell, Line, svg};

const MODEL: &str = "smollm2-135m-instruct";
const COLUMNS: usize = 92;

/// Seconds that a character of a command takes to type.
const TYPING: f64 = 0.03;
/// Seconds before a command is typed and before it is run.
const PAUSE: f64 = 0.6;

pub fn draw() -> Result<()> {
    model::fetch()?;
    let commands: [&[&str]; 3] = [
        &["run", MODEL, "What is the capital of France?"],
        &["tokenize", MODEL, "Hello wörld"],
        &["run", MODEL, "Write one sentence about a small green bird."],
    ];
    let (mut lines, mut now) = (vec![], 0.0);
    for args in commands {
        now = type_command(args, &mut lines, now + PAUSE) + PAUSE;
        let output = output(args)?;
        lines.extend(
            output
                .split(|cell| cell.text == '\n')
                .flat_map(wrap)
                .map(|line| Line::Output(line.into_iter().map(|cell| cell.later(now)).collect())),
        );
        now += output.last().map_or(0.0, |cell| cell.at);
        // What follows the last newline.
        lines.pop();
    }
    let path = root().join("crates/cli/terminal.svg");
    std::fs::write(&path, svg(&lines)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}

/// Adds the line of a command that is typed from `start` on; returns when that ends.
fn type_command(args: &[&str], lines: &mut Vec<Line>, start: f64) -> f64 {
    let quoted = args.iter().map(|arg| match arg.contains(' ') {
        true => format!("\"{arg}\""),
        false => (*arg).to_string(),
    });
    let text = format!("siskin {}", quoted.collect::<Vec<_>>().join(" "));
    let end = start + TYPING * text.chars().count() as f64;
    lines.push(Line::Command { text, start, end });
    end
}

/// What the program prints, and when.
fn output(args: &[&str]) -> Result<Vec<Cell>> {
    let mut command = siskin()?;
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn().context("cannot start siskin")?;
    let mut stdout = child.stdout.take().context("siskin has no output")?;
    let (mut cells, mut bytes, mut buffer) = (vec![], vec![], [0; 4096]);
    loop {
        let n = stdout.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        let at = (start.elapsed().as_secs_f64() * 100.0).round() / 100.0;
        bytes.extend_from_slice(&buffer[..n]);
        // A character may be cut.
        let whole = match std::str::from_utf8(&bytes) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let rest = bytes.split_off(whole);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        cells.extend(text.chars().map(|text| Cell { text, at }));
        bytes = rest;
    }
    if !child.wait()?.success() {
        bail!("`siskin {}` failed", args.join(" "));
    }
    Ok(cells)
}

/// A line as lines of at most [`COLUMNS`], cut at spaces.
fn wrap(line: &[Cell]) -> Vec<Vec<Cell>> {
    let mut out: Vec<Vec<Cell>> = vec![vec![]];
    for word in line.split_inclusive(|cell| cell.text == ' ') {
        let shown = word.iter().filter(|cell| cell.text != ' ').count();
        if out.last().is_some_and(|l| l.len() + shown > COLUMNS) {
            let indent = Cell {
                text: ' ',
                at: word[0].at,
            };
            out.push(vec![indent; 2]);
        }
        if let Some(last) = out.last_mut() {
            last.extend_from_slice(word);
        }
    }
    out
}
