//! A terminal as an animated SVG. Without animation, or where less motion is preferred, it shows the end.

use std::fmt::Write as _;

use anyhow::Result;

/// A character of output.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    pub text: char,
    /// When it appears, in seconds.
    pub at: f64,
}

impl Cell {
    pub fn later(self, seconds: f64) -> Self {
        Self {
            at: self.at + seconds,
            ..self
        }
    }
}

pub enum Line {
    Command { text: String, start: f64, end: f64 },
    Output(Vec<Cell>),
}

impl Line {
    fn end(&self) -> f64 {
        match self {
            Self::Command { end, .. } => *end,
            Self::Output(cells) => cells.last().map_or(0.0, |cell| cell.at),
        }
    }
}

/// Seconds for which the end is shown before the animation restarts.
const REST: f64 = 6.0;
const STEP: usize = 19;
const LEFT: usize = 18;
const TOP: usize = 46;

pub fn svg(lines: &[Line]) -> Result<String> {
    let total = lines.iter().map(Line::end).fold(0.0, f64::max) + REST;
    let (mut style, mut body) = (String::new(), String::new());
    let mut shown_at: Vec<f64> = vec![];
    for (i, line) in lines.iter().enumerate() {
        let y = TOP + STEP * i;
        match line {
            Line::Command { text, start, end } => {
                let characters = text.chars().count() + 2;
                let (start, end) = (start / total * 100.0, end / total * 100.0);
                writeln!(
                    style,
                    ".c{i}{{animation:c{i} {total:.2}s infinite}}@keyframes c{i}{{0%,{start:.2}%{{clip-path:inset(0 100% 0 \
                     0);animation-timing-function:steps({characters})}}{end:.2}%,to{{clip-path:inset(0)}}}}"
                )?;
                writeln!(
                    body,
                    "<text class=\"c{i}\" x=\"{LEFT}\" y=\"{y}\" fill=\"#fff\" xml:space=\"preserve\"><tspan \
                     fill=\"#7ee787\">$ </tspan>{}</text>",
                    escaped(text.chars())
                )?;
            }
            Line::Output(cells) if cells.is_empty() => {}
            Line::Output(cells) => {
                write!(body, "<text x=\"{LEFT}\" y=\"{y}\" xml:space=\"preserve\">")?;
                for run in cells.chunk_by(|a, b| a.at == b.at) {
                    let class = class_of(run[0].at, &mut shown_at);
                    let text = escaped(run.iter().map(|cell| cell.text));
                    write!(body, "<tspan class=\"a{class}\">{text}</tspan>")?;
                }
                writeln!(body, "</text>")?;
            }
        }
    }
    for (class, at) in shown_at.iter().enumerate() {
        writeln!(
            style,
            ".a{class}{{animation:a{class} {total:.2}s step-end \
             infinite}}@keyframes a{class}{{0%{{visibility:hidden}}{:.2}%,to{{visibility:visible}}}}",
            at / total * 100.0
        )?;
    }
    let height = TOP + STEP * lines.len() + 10;
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 800 {height}\" font-family=\"ui-monospace, Menlo, \
         Consolas, 'DejaVu Sans Mono', monospace\" font-size=\"13\" fill=\"#c9d1d9\">\n\
         <style>\n@media (prefers-reduced-motion:no-preference){{\n{style}}}\n</style>\n\
         <rect width=\"800\" height=\"{height}\" rx=\"8\" fill=\"#16181d\"/>\n\
         <circle cx=\"20\" cy=\"18\" r=\"5\" fill=\"#ff5f57\"/>\n\
         <circle cx=\"38\" cy=\"18\" r=\"5\" fill=\"#febc2e\"/>\n\
         <circle cx=\"56\" cy=\"18\" r=\"5\" fill=\"#28c840\"/>\n\
         {body}</svg>\n"
    ))
}

/// The class of what appears at a time.
fn class_of(at: f64, shown_at: &mut Vec<f64>) -> usize {
    shown_at.iter().position(|a| *a == at).unwrap_or_else(|| {
        shown_at.push(at);
        shown_at.len() - 1
    })
}

fn escaped(text: impl Iterator<Item = char>) -> String {
    let text: String = text.collect();
    text.replace('&', "&amp;").replace('<', "&lt;")
}
