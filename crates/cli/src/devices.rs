use std::io::Write;

use anyhow::Result;
use indicatif::HumanBytes;
use serde_json::{Value, json};
use siskin_gpu::GpuReport;

use crate::args::DevicesArgs;

pub async fn devices(args: &DevicesArgs) -> Result<()> {
    let gpus = siskin_gpu::gpus().await;
    let mut out = std::io::stdout().lock();
    if args.json {
        let list: Vec<_> = gpus
            .iter()
            .enumerate()
            .map(|(i, gpu)| described(i, gpu))
            .collect();
        writeln!(
            out,
            "{}",
            json!({ "cpu": { "threads": rayon::current_num_threads() }, "gpus": list })
        )?;
        return Ok(());
    }
    writeln!(out, "cpu    {} threads", rayon::current_num_threads())?;
    for (i, gpu) in gpus.iter().enumerate() {
        writeln!(
            out,
            "gpu:{i}  {} ({}, {})",
            gpu.name, gpu.backend, gpu.driver
        )?;
        let kind = if gpu.software {
            "software: shaders run on the CPU"
        } else {
            "hardware"
        };
        let yes = |b| if b { "yes" } else { "no" };
        writeln!(out, "       {kind}; profile {}", gpu.profile)?;
        writeln!(
            out,
            "       subgroups {} ({} to {}), f16 {}, timestamps {}",
            yes(gpu.subgroups),
            gpu.subgroup_size.0,
            gpu.subgroup_size.1,
            yes(gpu.shader_f16),
            yes(gpu.timestamps)
        )?;
        writeln!(
            out,
            "       largest binding {}, buffer {}; workgroup {} threads, {}",
            HumanBytes(gpu.limits.max_storage_binding),
            HumanBytes(gpu.limits.max_buffer),
            gpu.limits.max_workgroup_invocations,
            HumanBytes(gpu.limits.max_workgroup_memory.into())
        )?;
    }
    if gpus.is_empty() {
        writeln!(out, "{}", siskin_gpu::Error::NoGpu)?;
    }
    Ok(())
}

/// A GPU for machines.
pub fn described(index: usize, gpu: &GpuReport) -> Value {
    json!({
        "device": format!("gpu:{index}"),
        "name": gpu.name,
        "backend": gpu.backend,
        "driver": gpu.driver,
        "software": gpu.software,
        "profile": gpu.profile.to_string(),
        "subgroups": gpu.subgroups,
        "subgroup_size": [gpu.subgroup_size.0, gpu.subgroup_size.1],
        "shader_f16": gpu.shader_f16,
        "timestamps": gpu.timestamps,
        "limits": {
            "max_storage_binding": gpu.limits.max_storage_binding,
            "max_buffer": gpu.limits.max_buffer,
            "max_workgroup_invocations": gpu.limits.max_workgroup_invocations,
            "max_workgroup_memory": gpu.limits.max_workgroup_memory,
        },
    })
}
