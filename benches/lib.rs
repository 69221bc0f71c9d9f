//! Benches: `cargo bench -p siskin-benches` for the CPU kernels, `node benches/peers.mjs` for whole
//! models beside llama.cpp; `siskin bench` times the GPU kernels one by one.
