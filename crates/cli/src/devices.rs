use std::io::Write;

use anyhow::Result;
use indicatif::HumanBytes;
use serde_json::json;

use crate::args::DevicesArgs;

pub async fn devices(args: &DevicesArgs) -> Result<()> {
    let adapters = siskin_gpu::adapters().await;
    let mut out = std::io::stdout().lock();
    if args.json {
        let list: Vec<_> = adapters
            .iter()
            .enumerate()
            .map(|(i, a)| {
                json!({
                    "device": format!("gpu:{i}"),
                    "name": a.name,
                    "backend": a.backend,
                    "driver": a.driver,
                    "software": a.software,
                    "profile": a.profile.to_string(),
                    "subgroups": a.subgroups,
                    "subgroup_size": [a.subgroup_size.0, a.subgroup_size.1],
                    "shader_f16": a.shader_f16,
                    "timestamps": a.timestamps,
                    "limits": {
                        "max_storage_binding": a.limits.max_storage_binding,
                        "max_buffer": a.limits.max_buffer,
                        "max_workgroup_invocations": a.limits.max_workgroup_invocations,
                        "max_workgroup_memory": a.limits.max_workgroup_memory,
                    },
                })
            })
            .collect();
        writeln!(
            out,
            "{}",
            json!({ "cpu": { "threads": threads() }, "adapters": list })
        )?;
        return Ok(());
    }
    writeln!(out, "cpu    {} threads", threads())?;
    for (i, a) in adapters.iter().enumerate() {
        writeln!(out, "gpu:{i}  {} ({}, {})", a.name, a.backend, a.driver)?;
        let kind = if a.software {
            "software: shaders run on the CPU"
        } else {
            "hardware"
        };
        let yes = |b| if b { "yes" } else { "no" };
        writeln!(out, "       {kind}; profile {}", a.profile)?;
        writeln!(
            out,
            "       subgroups {} ({} to {}), f16 {}, timestamps {}",
            yes(a.subgroups),
            a.subgroup_size.0,
            a.subgroup_size.1,
            yes(a.shader_f16),
            yes(a.timestamps)
        )?;
        writeln!(
            out,
            "       largest binding {}, buffer {}; workgroup {} threads, {}",
            HumanBytes(a.limits.max_storage_binding),
            HumanBytes(a.limits.max_buffer),
            a.limits.max_workgroup_invocations,
            HumanBytes(a.limits.max_workgroup_memory.into())
        )?;
    }
    if adapters.is_empty() {
        writeln!(out, "{}", siskin_gpu::Error::NoAdapter)?;
    }
    Ok(())
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
