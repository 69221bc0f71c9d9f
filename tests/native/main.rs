//! The native tests, in one program: it links once, and its tests share the devices that are open.
//! `cargo test --release -p siskin-tests conformance::` runs those of one file.

mod cli;
mod cli_embed;
mod cli_export;
mod cli_quantize;
mod cli_train;
mod configs;
mod conformance;
mod conformance_text;
mod conformance_training;
mod cpu_grads;
mod cpu_ops;
mod encoders;
mod examples;
mod experts;
mod families;
mod formats;
mod gpu_grads;
mod gpu_ops;
mod graph;
mod graph_grad;
mod importance;
mod mutants;
mod quantised;
mod real_encoder;
mod real_model;
mod recurrent;
mod refusals;
mod sequences;
mod serve;
mod shaders;
mod text;
mod tiny_models;
mod torchao;
mod training;
