//! The native tests, in one program: it links once, and its tests share the devices that are open.
//! `cargo test --release -p siskin-tests conformance::` runs those of one file.

mod adapters_of_requests;
mod beams;
mod biases;
mod cli;
mod cli_embed;
mod cli_eval;
mod cli_export;
mod cli_quantize;
mod cli_reasoning;
mod cli_recipe;
mod cli_rewards;
mod cli_serve;
// Its tools are commands of a POSIX shell.
#[cfg(unix)]
mod cli_tools;
mod cli_train;
mod configs;
mod conformance;
mod conformance_text;
mod conformance_training;
mod cpu_grads;
mod cpu_ops;
mod encoders;
mod eval;
mod examples;
mod experts;
mod families;
mod formats;
mod gpu_grads;
mod gpu_ops;
mod grammar;
mod graph;
mod graph_grad;
mod guesses;
mod importance;
mod mutants;
mod notations;
mod preferences;
mod quantised;
mod real_encoder;
mod real_model;
mod recurrent;
mod refusals;
mod rewards;
mod saved;
mod sequences;
mod serve;
mod serve_adapters;
mod serve_limits;
mod serve_models;
mod serve_page;
mod serve_responses;
mod serve_shape;
mod serve_tools;
mod server;
mod shaders;
#[cfg(target_os = "linux")]
mod terminal;
mod text;
mod tiny_models;
mod torchao;
mod training;
mod turns;
mod windows;
