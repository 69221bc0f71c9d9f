//! System requirements: a Vulkan driver (Mesa's lavapipe runs shaders on the CPU), and
//! Debian packages in general.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::command::{run, say};

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

/// Installs a driver with apt where there is none.
pub fn ensure() -> Result<()> {
    if !cfg!(target_os = "linux") || has_driver() {
        return Ok(());
    }
    say("installing a Vulkan driver (Mesa)");
    apt(&["mesa-vulkan-drivers", "libvulkan1"])
}

/// Chromium's own software driver: a second implementation to test against, where it is installed.
/// CI installs it.
pub fn second() -> Result<Option<&'static Path>> {
    let icd = Path::new("/usr/lib/chromium/vk_swiftshader_icd.json");
    let has_apt = Path::new("/usr/bin/apt-get").exists();
    if !icd.exists() && has_apt && std::env::var_os("CI").is_some() {
        say("installing a second Vulkan driver (SwiftShader, which comes with Chromium)");
        apt(&["chromium"])?;
    }
    Ok(Some(icd).filter(|icd| icd.exists()))
}

/// Installs Debian packages.
pub fn apt(packages: &[&str]) -> Result<()> {
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "{} must be installed, and apt, which could install it, is missing",
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
    // Another stage may be installing something.
    let wait = "DPkg::Lock::Timeout=600";
    apt_get(&["update", "-q", "-o", wait])?;
    apt_get(
        &[
            &["install", "-y", "-q", "-o", wait, "--no-install-recommends"],
            packages,
        ]
        .concat(),
    )
}
