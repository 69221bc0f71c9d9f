//! Compiles the kernels with a real GPU's compiler, without the GPU: the kernels are those that a
//! decode step and a prefill of each family actually run (lowered on any available GPU), compiled
//! by Mesa's RADV for hardware that is not present.

mod families;
mod radv;
mod spirv;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde::{Deserialize, Serialize};

/// VGPRs, spills, occupancy and code size of each kernel, family and profile
#[derive(Debug, Parser)]
struct Args {
    /// The GPU to compile for, by RADV's name: navi21, vega10, …
    #[arg(long, default_value = "navi21")]
    gpu: String,
    #[arg(long)]
    json: bool,
    /// Compiles the SPIR-V files of a folder (used by the program itself)
    #[arg(long, hide = true)]
    compile: Option<PathBuf>,
}

/// The driver's statistics of one compiled kernel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Statistics {
    pub vgprs: u64,
    pub sgprs: u64,
    pub spills: u64,
    pub lds_bytes: u64,
    pub subgroups_per_simd: u64,
    pub instructions: u64,
    pub code_bytes: u64,
    pub latency: u64,
    pub inverse_throughput: u64,
}

#[derive(Debug, Serialize)]
struct Row {
    family: String,
    profile: String,
    kernel: String,
    /// The kernel's override constants: K, N, MODE, …
    constants: String,
    bytes_bound: u64,
    /// The kernel reads weights 16 bytes at a time.
    wide_loads: bool,
    #[serde(flatten)]
    statistics: Statistics,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(folder) = &args.compile {
        return compile(folder);
    }
    let rows = report(&args.gpu)?;
    if args.json {
        println!("{}", serde_json::to_string(&rows)?);
    } else {
        print(&args.gpu, &rows);
    }
    Ok(())
}

/// Compiles all files of the folder; prints the statistics as JSON, in order.
fn compile(folder: &Path) -> Result<()> {
    let mut driver = radv::Driver::open()?;
    let mut all: Vec<Statistics> = vec![];
    for i in 0.. {
        let Ok(bytes) = std::fs::read(folder.join(format!("{i}.spv"))) else {
            break;
        };
        all.push(driver.compile(&bytes)?);
    }
    println!("{}", serde_json::to_string(&all)?);
    Ok(())
}

fn report(gpu: &str) -> Result<Vec<Row>> {
    let kernels = families::kernels()?;
    let folder = tempfile::tempdir()?;
    for (i, k) in kernels.iter().enumerate() {
        let words = spirv::compile(&k.source).with_context(|| k.source.name.clone())?;
        std::fs::write(
            folder.path().join(format!("{i}.spv")),
            bytemuck::cast_slice(&words),
        )?;
    }
    // In a separate process: the environment decides which drivers the loader sees.
    let output = Command::new(std::env::current_exe()?)
        .arg("--compile")
        .arg(folder.path())
        .env("RADV_FORCE_FAMILY", gpu)
        .env_remove("VK_ADD_DRIVER_FILES")
        .env("VK_DRIVER_FILES", radv::icd()?)
        .env("VK_ICD_FILENAMES", radv::icd()?)
        .output()?;
    if !output.status.success() {
        bail!(
            "RADV failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let statistics: Vec<Statistics> = serde_json::from_slice(&output.stdout)?;
    if statistics.len() != kernels.len() {
        bail!("{} kernels, {} results", kernels.len(), statistics.len());
    }
    Ok(kernels
        .into_iter()
        .zip(statistics)
        .map(|(k, statistics)| Row {
            family: k.family,
            profile: k.profile.to_string(),
            constants: k
                .source
                .constants
                .iter()
                .filter(|(n, _)| {
                    ["WG", "K", "N", "MODE", "HEAD_DIM", "HAS_NORM"].contains(&n.as_str())
                })
                .map(|(n, v)| format!("{n}={v}"))
                .collect::<Vec<_>>()
                .join(" "),
            bytes_bound: k.source.bytes,
            wide_loads: k.source.source.contains("quants: array<vec4<u32>>"),
            kernel: k.source.name,
            statistics,
        })
        .collect())
}

fn print(gpu: &str, rows: &[Row]) {
    println!("RADV, {gpu}");
    let mut last = String::new();
    for r in rows {
        let head = format!("{}, {}", r.family, r.profile);
        if head != last {
            println!(
                "\n{head:<22} {:>6} {:>6} {:>9} {:>7} {:>6} {:>8} {:>8} {:>9}",
                "VGPRs", "spills", "subgroups", "LDS", "instr", "latency", "inv.thr", "KiB bound"
            );
            last = head;
        }
        let s = &r.statistics;
        println!(
            "  {:<20} {:>6} {:>6} {:>9} {:>7} {:>6} {:>8} {:>8} {:>9}  {}",
            r.kernel,
            s.vgprs,
            s.spills,
            s.subgroups_per_simd,
            s.lds_bytes,
            s.instructions,
            s.latency,
            s.inverse_throughput,
            r.bytes_bound / 1024,
            r.constants
        );
    }
}
