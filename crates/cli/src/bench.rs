use std::collections::BTreeSet;
use std::io::Write;
use std::time::Instant;

use anyhow::{Result, bail};
use indicatif::HumanBytes;
use serde_json::{Value as Json, json};
use siskin_engine::{FinishReason, GenerateOptions, RequestEvent, Session};
use siskin_gpu::{Counts, KernelTime};

use crate::args::BenchArgs;
use crate::{open, stop};

pub async fn bench(args: BenchArgs) -> Result<()> {
    if args.prompt == 0 || args.n == 0 || args.runs == 0 || args.parallel == 0 {
        bail!("-p, -n, --runs and --parallel must be at least 1");
    }
    stop::install()?;
    let mut session = open::open_for(&args.model.model, &args.model.on, args.parallel).await?;
    let rates = match args.parallel {
        1 => measure(&mut session, &args).await?,
        _ => measure_parallel(&mut session, &args).await?,
    };
    let position = args.prompt + args.n;
    let measured = Measured {
        rates,
        counts: session.decode_counts(position).await?,
        times: session.decode_times(position).await?,
        peak: peak_memory(),
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", measured.json(&args, &session))?;
        return Ok(());
    }
    measured.print_rates(&mut out, &args, &session)?;
    measured.print_step(&mut out, position)
}

/// Medians, in tokens per second.
struct Rates {
    prefill: f64,
    decode: f64,
}

async fn measure(session: &mut Session, args: &BenchArgs) -> Result<Rates> {
    let vocab = session.model.dims().vocab_size;
    // Any tokens will do: the time does not depend on them.
    let prompt: Vec<u32> = (0..args.prompt)
        .map(|i| ((i * 7919 + 17) % vocab) as u32)
        .collect();
    let options = GenerateOptions {
        max_tokens: args.n + 1,
        ignore_end: true,
        ..GenerateOptions::default()
    };
    let (mut prefill, mut decode) = (vec![], vec![]);
    for _ in 0..args.runs {
        session.reset();
        let answer = session
            .generate(&prompt, &options, async |_| stop::flow())
            .await?;
        if answer.finish_reason == FinishReason::Cancelled {
            std::process::exit(130);
        }
        if answer.ids.len() <= args.n {
            bail!(
                "-p {} -n {} does not fit the context; raise --ctx",
                args.prompt,
                args.n
            );
        }
        prefill.push(answer.prefill_rate());
        decode.push(answer.decode_rate());
    }
    Ok(Rates {
        prefill: median(prefill),
        decode: median(decode),
    })
}

/// Several answers at once: from when all of them have begun, for as many steps as they have tokens to decode.
async fn measure_parallel(session: &mut Session, args: &BenchArgs) -> Result<Rates> {
    let vocab = session.model.dims().vocab_size;
    let options = GenerateOptions {
        max_tokens: usize::MAX,
        ignore_end: true,
        ..GenerateOptions::default()
    };
    let (mut prefill, mut decode) = (vec![], vec![]);
    for _ in 0..args.runs {
        session.reset();
        let begin = Instant::now();
        let mut requests = vec![];
        for r in 0..args.parallel {
            // No two have the same beginning.
            let token = |i| ((i * 7919 + r * 31 + 17) % vocab) as u32;
            let prompt: Vec<u32> = (0..args.prompt).map(token).collect();
            requests.push(session.submit(&prompt, options.clone())?);
        }
        let mut started = BTreeSet::new();
        let (mut begun, mut tokens) = (begin, 0);
        while tokens < args.parallel * args.n {
            let updates = session.step().await?;
            if stop::flow().is_break() {
                std::process::exit(130);
            }
            let all_begun = started.len() == args.parallel;
            for update in updates {
                match update.event {
                    RequestEvent::Token { .. } if all_begun => tokens += 1,
                    RequestEvent::Token { .. } => {
                        started.insert(update.request);
                    }
                    RequestEvent::Done(_) => bail!(
                        "-p {} -n {} does not fit the context {} times; raise --ctx",
                        args.prompt,
                        args.n,
                        args.parallel
                    ),
                    RequestEvent::Failed(e) => return Err(e.into()),
                    _ => {}
                }
            }
            if !all_begun && started.len() == args.parallel {
                begun = Instant::now();
            }
        }
        decode.push(tokens as f64 / begun.elapsed().as_secs_f64());
        let prompts = (args.parallel * args.prompt) as f64;
        prefill.push(prompts / (begun - begin).as_secs_f64());
        requests.into_iter().for_each(|r| drop(session.cancel(r)));
        while !session.is_idle() {
            session.step().await?;
        }
    }
    Ok(Rates {
        prefill: median(prefill),
        decode: median(decode),
    })
}

struct Measured {
    rates: Rates,
    counts: Option<Counts>,
    times: Option<Vec<KernelTime>>,
    /// Bytes.
    peak: Option<u64>,
}

impl Measured {
    fn json(&self, args: &BenchArgs, session: &Session) -> Json {
        json!({
            "prefill_tok_s": self.rates.prefill,
            "decode_tok_s": self.rates.decode,
            "device": session.device().name(),
            "profile": session.device().profile(),
            "prompt_tokens": args.prompt,
            "decode_tokens": args.n,
            "parallel": args.parallel,
            "runs": args.runs,
            "peak_memory_bytes": self.peak,
            "counts": self.counts.map(|c| json!({
                "dispatches": c.dispatches,
                "submits": c.submits,
                "readbacks": c.readbacks,
                "buffers_created": c.buffers_created,
                "bind_groups_created": c.bind_groups_created,
                "bytes_bound": c.bytes_bound,
            })),
            "kernels": self.times.as_ref().map(|times| times.iter().map(|t| json!({
                "kernel": t.kernel,
                "dispatches": t.dispatches,
                "microseconds": t.microseconds,
                "bytes": t.bytes,
            })).collect::<Vec<_>>()),
        })
    }

    fn print_rates(&self, out: &mut impl Write, args: &BenchArgs, session: &Session) -> Result<()> {
        let (device, profile) = (session.device().name(), session.device().profile());
        let Rates { prefill, decode } = self.rates;
        writeln!(
            out,
            "{device}, profile {profile}; median of {} runs",
            args.runs
        )?;
        writeln!(
            out,
            "prefill  {prefill:>9.2} tok/s  ({} tokens)",
            args.prompt
        )?;
        let at_once = match args.parallel {
            1 => String::new(),
            n => format!(" in each of {n} answers"),
        };
        writeln!(
            out,
            "decode   {decode:>9.2} tok/s  ({} tokens{at_once})",
            args.n
        )?;
        if let Some(peak) = self.peak {
            writeln!(out, "memory   {:>9} peak", HumanBytes(peak).to_string())?;
        }
        Ok(())
    }

    /// What one decode step does.
    fn print_step(&self, out: &mut impl Write, position: usize) -> Result<()> {
        if let Some(c) = self.counts {
            writeln!(
                out,
                "\none decode step of one answer at position {position}"
            )?;
            writeln!(
                out,
                "  {} dispatches, {} submits, {} read-backs, {} buffers and {} bind groups created, {} bound",
                c.dispatches,
                c.submits,
                c.readbacks,
                c.buffers_created,
                c.bind_groups_created,
                HumanBytes(c.bytes_bound)
            )?;
        }
        if let Some(times) = &self.times {
            writeln!(
                out,
                "\n  kernel                dispatches         µs    MiB    GiB/s"
            )?;
            for t in times {
                let rate = t.bytes as f64 / t.microseconds * 1e6 / f64::from(1 << 30);
                writeln!(
                    out,
                    "  {:<21} {:>10} {:>10.0} {:>6.1} {rate:>8.2}",
                    t.kernel,
                    t.dispatches,
                    t.microseconds,
                    t.bytes as f64 / f64::from(1 << 20)
                )?;
            }
        }
        Ok(())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Peak memory of this process in bytes; `None` where the system does not report it.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
