use std::io::{IsTerminal, Write};

use anyhow::{Result, bail};
use serde_json::json;
use siskin_engine::DeviceRequest;
use siskin_engine::self_test;

use crate::args::CertifyArgs;
use crate::devices::described;

pub async fn certify(args: CertifyArgs) -> Result<()> {
    let DeviceRequest::Gpu { index, .. } = args.device else {
        bail!("--device: kernels run on a GPU; use gpu or gpu:N");
    };
    let device = siskin_gpu::GpuDevice::open(index, args.profile).await?;
    let gpus = siskin_gpu::gpus().await;
    let index = device.index();
    let Some(gpu) = gpus.get(index) else {
        return Err(siskin_gpu::Error::NoGpu.into());
    };
    let profile = device.profile();
    // The test opens it once more.
    drop(device);
    let mut out = std::io::stdout().lock();
    if !args.json {
        writeln!(out, "{} ({}), profile {profile}", gpu.name, gpu.driver)?;
    }
    let is_shown = !args.json || std::io::stderr().is_terminal();
    let mut results = vec![];
    let mut broken = None;
    self_test::certify(Some(index), Some(profile), &mut |result| {
        let line = format!(
            "{}  {:<48} error {:.1e} of {:.0e}  {:>8.2} ms",
            if result.passed { "ok    " } else { "FAILED" },
            result.kernel,
            result.error,
            result.tolerance,
            result.milliseconds,
        );
        if !args.json {
            broken = broken.take().or(writeln!(out, "{line}").err());
        } else if is_shown {
            eprintln!("{line}");
        }
        results.push(result);
    })
    .await?;
    if let Some(e) = broken {
        return Err(e.into());
    }
    let failed = results.iter().filter(|r| !r.passed).count();
    if args.json {
        let certificate = json!({
            "siskin": env!("CARGO_PKG_VERSION"),
            "gpu": described(index, gpu),
            "profile": profile.to_string(),
            "passed": failed == 0,
            "kernels": results,
        });
        writeln!(out, "{certificate}")?;
    } else {
        writeln!(
            out,
            "{} of {} kernels are right",
            results.len() - failed,
            results.len()
        )?;
    }
    if failed > 0 {
        bail!(
            "{failed} of {} kernels are wrong on {}",
            results.len(),
            gpu.name
        );
    }
    Ok(())
}
