//! What the system must have: a Vulkan driver (Mesa's lavapipe runs shaders on the processor), and
//! Debian packages in general.

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
    println!("installing a Vulkan driver (Mesa)");
    apt(&["mesa-vulkan-drivers", "libvulkan1"])
}

/// Installs Debian packages.
pub fn apt(packages: &[&str]) -> Result<()> {
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "{} must be installed, and there is no apt to do it",
            packages.join(", ")
        );
    }
    let id = Command::new("id").arg("-u").output()?;
    let is_root = id.stdout.trim_ascii() == b"0";
    let apt_get = |args: &[&str]| {
        let mut command = Command::new(if is_root { "apt-get" } else { "sudo" });
        if !is_root {
            command.arg("apt-get");
        }
        run(command.args(args))
    };
    apt_get(&["update", "-q"])?;
    apt_get(
        &[
            &["install", "-y", "-q", "--no-install-recommends"],
            packages,
        ]
        .concat(),
    )
}
