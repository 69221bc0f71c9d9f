//! The program, run as a user runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::fixture;

/// A program (`siskin`, `examples/chat`) beside this test. `cargo xtask test` builds it first.
pub fn program(name: &str) -> PathBuf {
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    let program = path.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(
        program.exists(),
        "{} is missing; run `cargo xtask test`",
        program.display()
    );
    program
}

pub fn siskin() -> Command {
    Command::new(program("siskin"))
}

pub fn tiny(family: &str) -> String {
    fixture(&format!("tiny/{family}")).display().to_string()
}

pub fn output(args: &[&str]) -> Output {
    siskin().args(args).output().unwrap()
}

pub fn ok(args: &[&str]) -> String {
    let out = output(args);
    assert!(
        out.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap()
}

pub fn json(args: &[&str]) -> Value {
    serde_json::from_str(&ok(args)).unwrap_or_else(|e| panic!("{args:?}: {e}"))
}

/// A failure with one line that begins with `error:`.
pub fn fails(args: &[&str]) -> String {
    let out = output(args);
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(!out.status.success(), "{args:?} succeeded");
    assert!(!text.contains("panicked"), "{args:?}: {text}");
    text
}

/// A path in a folder.
pub fn path(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

/// f32 logits of five tokens, by `siskin logits` with these arguments.
pub fn logits(folder: &Path, args: &[&str]) -> Vec<f32> {
    let out = path(folder, "logits.safetensors");
    let common = [
        "--tokens",
        "1,2,3,4,5",
        "--out",
        &out,
        "--force",
        "--precision",
        "f32",
        "--cache",
        "f32",
    ];
    ok(&[&["logits"], args, &common].concat());
    read_logits(Path::new(&out))
}

/// The tensor `logits` of a safetensors file.
pub fn read_logits(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let data = file.tensor("logits").unwrap().data().to_vec();
    let floats = data.as_chunks::<4>().0.iter();
    floats.map(|b| f32::from_le_bytes(*b)).collect()
}
