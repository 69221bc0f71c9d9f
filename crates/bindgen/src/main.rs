//! `siskin-bindgen IN.wasm OUT_DIR NAME`: writes `NAME.js`, its types and `NAME_bg.wasm`.

mod function_order;

use std::path::Path;

use anyhow::{Context, Result};
use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [input, output, name] = &args[..] else {
        anyhow::bail!("usage: siskin-bindgen IN.wasm OUT_DIR NAME");
    };
    Bindgen::new()
        .web(true)?
        .typescript(true)
        .remove_producers_section(true)
        .input_path(input)
        .out_name(name)
        .generate(Path::new(output))
        .with_context(|| format!("cannot generate bindings for {input}"))?;
    let path = Path::new(output).join(format!("{name}_bg.wasm"));
    let wasm = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let wasm = function_order::by_name(&wasm)?;
    std::fs::write(&path, wasm).with_context(|| format!("cannot write {}", path.display()))
}
