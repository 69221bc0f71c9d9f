//! Benches: `cargo bench -p siskin-benches` for the CPU kernels, `node benches/peers.mjs` for whole
//! models compared with llama.cpp; `siskin bench` times the GPU kernels individually.
