//! A Vulkan driver for machines without one: Mesa's lavapipe runs shaders on the processor.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::command::run;

fn has_driver() -> bool {
    let folders = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
    let has_icd = folders.iter().any(|f| {
        Path::new(f)
            .read_dir()
            .is_ok_and(|mut d| d.next().is_some())
    });
    let loaders = [
        "/usr/lib",
        "/usr/lib64",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
    ];
    has_icd
        && loaders
            .iter()
            .any(|f| Path::new(f).join("libvulkan.so.1").exists())
}

/// Installs a driver where there is none and apt can.
pub fn ensure() -> Result<()> {
    if !cfg!(target_os = "linux") || has_driver() {
        return Ok(());
    }
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!("no Vulkan driver was found, and no apt to install one; install Mesa's lavapipe");
    }
    println!("installing a Vulkan driver (Mesa)");
    let is_root =
        std::env::var("USER").is_ok_and(|u| u == "root") || Path::new("/root").read_dir().is_ok();
    let apt = |args: &[&str]| {
        let mut command = if is_root {
            Command::new("apt-get")
        } else {
            Command::new("sudo")
        };
        if !is_root {
            command.arg("apt-get");
        }
        run(command.args(args))
    };
    apt(&["update", "-q"])?;
    apt(&[
        "install",
        "-y",
        "-q",
        "--no-install-recommends",
        "mesa-vulkan-drivers",
        "libvulkan1",
    ])
}
