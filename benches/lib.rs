//! Benches: `cargo bench -p siskin-benches` for the CPU kernels, `benches/cpu_table.py` and
//! `benches/peers.mjs` for whole models compared with llama.cpp; `siskin bench` times the GPU kernels individually.
