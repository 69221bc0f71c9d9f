//! Whatever the bytes, opening a safetensors file is an answer or an error.
//! Run: `cargo +nightly fuzz run --fuzz-dir tests/fuzz safetensors`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use siskin_formats::Checkpoint;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("model.safetensors"), bytes).expect("a file");
    let Ok(checkpoint) = Checkpoint::open(folder.path()) else { return };
    for tensor in &checkpoint.tensors {
        let _ = checkpoint.read_f32(tensor);
    }
});
