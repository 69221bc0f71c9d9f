//! Whatever the bytes, opening a GGUF file is an answer or an error: header, tokenizer, template,
//! configuration, graph. Run: `cargo +nightly fuzz run --fuzz-dir tests/fuzz gguf`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use siskin_engine::read_text;
use siskin_formats::Checkpoint;
use siskin_models::Model;

fuzz_target!(|bytes: &[u8]| {
    let Ok(checkpoint) = Checkpoint::from_gguf(Box::new(bytes.to_vec())) else { return };
    let _ = read_text(&checkpoint);
    let _ = Model::open(&checkpoint);
    for tensor in &checkpoint.tensors {
        let _ = checkpoint.read_f32(tensor);
    }
});
