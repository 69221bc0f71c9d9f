//! `siskin eval`: models on tasks, with standard errors, results by record, and paired tests.

mod judge;
mod report;
mod results_file;
mod subject;
mod task_file;
mod yaml;

use std::collections::HashSet;
use std::io::Write;
use std::ops::ControlFlow;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use siskin_engine::Session;
use siskin_eval::{Event, Item, ItemResult};

use crate::args::EvalArgs;
use crate::stop;
use report::Measured;
use results_file::{ResultsFile, Run};
use subject::Subject;
use task_file::{TaskFile, given_data};

pub async fn eval(args: EvalArgs) -> Result<()> {
    stop::install()?;
    let given = given_data(&args.data);
    let mut tasks = vec![];
    for path in &args.tasks {
        tasks.push(TaskFile::open(path, &given, args.num_fewshot)?);
    }
    let mut names = HashSet::new();
    if let Some(twice) = tasks.iter().find(|t| !names.insert(&t.task.name)) {
        bail!("there are two tasks of the name {}", twice.task.name);
    }
    let subjects = Subject::all(&args)?;
    if args.judge.is_some() {
        judge::check(&tasks)?;
    }
    let mut out = ResultsFile::open(args.out.as_deref())?;
    let mut measured: Vec<Measured> = tasks.iter().map(Measured::of).collect();
    for subject in &subjects {
        let mut session = subject.open(&args).await?;
        for (task, measured) in tasks.iter().zip(&mut measured) {
            let results = run(&args, subject, task, &mut session, &mut out).await?;
            measured.push(subject, &session, results);
        }
    }
    if let Some(path) = &args.judge {
        judge::judge(&args, path, &tasks, &mut measured, &mut out).await?;
    }
    let mut to = std::io::stdout().lock();
    match args.json {
        true => writeln!(to, "{}", report::json(&measured))?,
        false => report::print(&mut to, &measured)?,
    }
    Ok(())
}

/// FNV-1a, which stays the same from version to version.
fn digest(parts: &[String]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in parts.iter().flat_map(|p| p.bytes().chain([0xff])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    format!("{hash:016x}")
}

/// A bar for so many records.
fn bar(len: usize, what: &str) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} {eta}");
    let bar = ProgressBar::new(len as u64).with_style(style.context("progress style")?);
    Ok(bar.with_message(crate::terminal::printable(what)))
}

/// Ends the program as Ctrl-C does; what was written can be continued.
fn stopped(args: &EvalArgs) -> ! {
    match &args.out {
        Some(out) => eprintln!("stopped; the same command continues {}", out.display()),
        None => eprintln!("stopped; with --out FILE it could be continued"),
    }
    std::process::exit(130)
}

/// The results of a task, in the order of its records.
async fn run(
    args: &EvalArgs,
    subject: &Subject,
    task: &TaskFile,
    session: &mut Session,
    out: &mut ResultsFile,
) -> Result<Vec<ItemResult>> {
    let mut items = task
        .task
        .items(&task.data, session)
        .map_err(|e| task.placed(e))?;
    let run = Run {
        task: task.task.name.clone(),
        model: subject.label.clone(),
    };
    let digest = digest(&[
        task.json.to_string(),
        format!("{items:?}"),
        args.seed.to_string(),
        session.context().to_string(),
        session.device().profile(),
        format!("{:?}", session.cache_types()),
    ]);
    items.truncate(args.limit.unwrap_or(items.len()));
    let mut results = out.begin(&run, &digest)?;
    let known: HashSet<usize> = results.iter().map(|r| r.index).collect();
    results.retain(|r| r.index < items.len());
    let missing: Vec<&Item> = items.iter().filter(|i| !known.contains(&i.index)).collect();
    let bar = bar(items.len(), &run.task)?;
    bar.set_position(results.len() as u64);
    let mut written = Ok(());
    let on_event = &mut |event| {
        if let Event::Done(result) = event {
            bar.inc(1);
            written = out.push(&run, &result);
            results.push(result);
        }
        match written {
            Ok(()) => stop::flow(),
            Err(_) => ControlFlow::Break(()),
        }
    };
    let flow = task.task.run(session, &missing, args.seed, on_event).await;
    bar.finish_and_clear();
    written?;
    if flow.map_err(|e| task.placed(e))?.is_break() && results.len() < items.len() {
        stopped(args);
    }
    results.sort_by_key(|r| r.index);
    Ok(results)
}
