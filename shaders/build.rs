//! Removes from the shaders what no device reads: a page downloads them.

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR"));
    let to = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    for folder in ["", "lib"] {
        println!("cargo::rerun-if-changed={}", from.join(folder).display());
        fs::create_dir_all(Path::new(&to).join(folder))?;
        for file in from.join(folder).read_dir()? {
            let path = file?.path();
            if path.extension().is_some_and(|e| e == "wgsl") {
                println!("cargo::rerun-if-changed={}", path.display());
                let name = path.strip_prefix(from).map_err(io::Error::other)?;
                fs::write(
                    Path::new(&to).join(name),
                    stripped(&fs::read_to_string(&path)?),
                )?;
            }
        }
    }
    Ok(())
}

/// Without comments on lines of their own, but for those that name what is linked; without indentation.
fn stripped(source: &str) -> String {
    let lines = source.lines().map(str::trim);
    let kept = lines.filter(|l| !l.is_empty() && (!l.starts_with("//") || l.starts_with("// @")));
    kept.flat_map(|line| [line, "\n"]).collect()
}
