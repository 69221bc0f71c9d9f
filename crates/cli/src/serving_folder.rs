//! How a merged folder is served beyond one machine.

use std::path::Path;

use anyhow::{Result, bail};

use crate::args::ServerArg;
use crate::export_plan::Target;
use crate::output;

const FILE: &str = "SERVE.md";

/// Only folders can be served.
pub fn check(to: Option<ServerArg>, out: &Path) -> Result<()> {
    let Some(to) = to else { return Ok(()) };
    if Target::of(out) == Target::Gguf {
        bail!(
            "--to {} needs a folder, and {} is a GGUF file; choose another --out",
            name(to),
            out.display()
        );
    }
    Ok(())
}

fn name(to: ServerArg) -> &'static str {
    match to {
        ServerArg::Vllm => "vllm",
        ServerArg::Tgi => "tgi",
    }
}

/// Writes the launch line beside the weights, and returns it.
pub fn write(to: ServerArg, out: &Path) -> Result<String> {
    let folder = out.display();
    let (line, more) = match to {
        ServerArg::Vllm => (
            format!("vllm serve {folder} --port 8000"),
            "Several GPUs: `--tensor-parallel-size N`; several machines: a Ray cluster, and `--pipeline-parallel-size M`. \
             The server has OpenAI's API at http://localhost:8000/v1.",
        ),
        ServerArg::Tgi => (
            format!(
                "docker run --gpus all --shm-size 1g -p 8080:80 -v {folder}:/model \
                 ghcr.io/huggingface/text-generation-inference --model-id /model"
            ),
            "Several GPUs: `--num-shard N`. The server has OpenAI's API at http://localhost:8080/v1.",
        ),
    };
    let text = format!("# Serving this model\n\n```sh\n{line}\n```\n\n{more}\n");
    output::whole(&out.join(FILE), |part| Ok(std::fs::write(part, text)?))?;
    Ok(line)
}
