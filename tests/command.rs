//! The program, run as a user runs it.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::fixture;

/// The program beside this test. `cargo xtask test` builds it first.
pub fn siskin() -> Command {
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    let program = path.join(format!("siskin{}", std::env::consts::EXE_SUFFIX));
    assert!(
        program.exists(),
        "{} is missing; run `cargo xtask test`",
        program.display()
    );
    Command::new(program)
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
