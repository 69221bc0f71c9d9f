//! The command line: one file for the arguments of each command, or of a few that belong together.

mod chat;
mod device;
mod embed;
mod eval;
mod export;
mod inspect;
mod project;
mod run;
mod sampling;
mod serve;
mod tools;
mod train;

use clap::{Parser, Subcommand};

pub use chat::ChatArgs;
pub use device::{
    AdapterArgs, CacheArgs, DeviceArgs, DraftArg, ModelArgs, PrecisionArg, parse_device,
    profile_parser,
};
pub use embed::{EmbedArgs, PoolingArg, RerankArgs};
pub use eval::EvalArgs;
pub use export::{ConvertArgs, ImatrixArgs, MergeArgs, QuantizeArgs, ServerArg};
pub use inspect::{BenchArgs, CertifyArgs, DevicesArgs, InspectArgs, LogitsArgs, TokenizeArgs};
pub use project::{CheckRecipeArgs, RecipeArgs, ToolArg};
pub use run::RunArgs;
pub use sampling::{SamplingArgs, ShapeArgs};
pub use serve::ServeArgs;
pub use tools::ToolArgs;
pub use train::TrainArgs;

/// Chat with, inspect, measure and fine-tune language models, on the CPU or any GPU.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Cli {
    /// Threads that compute on the CPU [default: as many as the machine has cores]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer one prompt, streamed to the terminal
    #[command(after_help = "Examples:
  siskin run smollm2-135m-instruct \"What is the capital of France?\"
  siskin run model.gguf \"Once upon a time\" --raw --max-tokens 50
  siskin run model.gguf \"A haiku\" --temperature 0.8 --top-p 0.9 --seed 7 --json
  siskin run model.gguf \"What time is it?\" --tool clock=date
Reasoning is dimmed on a terminal; elsewhere only --json has it, apart from the answer.")]
    Run(RunArgs),
    /// Chat in the terminal
    #[command(after_help = "Examples:
  siskin chat smollm2-135m-instruct
  siskin chat model.gguf --system \"Answer in one sentence.\" --device cpu
  siskin chat model.gguf --adapter pirate --adapter poet:0.5
  siskin chat model.gguf --tool 'find=jq -r .input | xargs grep -rn' --tool weather.json
In the conversation: /help lists the commands, Ctrl-C stops an answer, Ctrl-D exits.")]
    Chat(ChatArgs),
    /// Serve models over HTTP, in the shapes of OpenAI's API
    #[command(after_help = "Examples:
  siskin serve smollm2-135m-instruct
  siskin serve chat.gguf embeddings.gguf --port 9000 --parallel 4
  siskin serve --models my-models --max-loaded 3 --idle-unload 600
  SISKIN_API_KEY=secret siskin serve model.gguf --host 0.0.0.0
Clients use http://127.0.0.1:8080/v1 as their base URL. Ctrl-C finishes the answers that have begun; a second one \
does not wait.")]
    Serve(ServeArgs),
    /// Turn texts into vectors, of which similar texts have similar ones
    #[command(after_help = "Examples:
  siskin embed all-minilm-l6-v2 \"How do I reset my password?\" \"Password recovery\"
  siskin embed model.gguf --file texts.txt --json
  siskin embed model-folder \"a query\" --prompt query --dimensions 256
A vector is printed on a line of its own; with --json, in the shape of OpenAI's embeddings.")]
    Embed(EmbedArgs),
    /// Sort texts by how well they answer a query, with a cross-encoder
    #[command(after_help = "Examples:
  siskin rerank reranker-folder \"capital of France\" \"Paris is a city.\" \"Bread is baked.\"
  siskin rerank reranker.gguf \"a query\" --file texts.txt --json")]
    Rerank(RerankArgs),
    /// Show how text is tokenised
    #[command(after_help = "Examples:
  siskin tokenize smollm2-135m-instruct \"Hello, world\"
  siskin tokenize model.gguf \"Hi\" --chat --json")]
    Tokenize(TokenizeArgs),
    /// Show the architecture, tensors, tokenizer and the memory that a context needs
    #[command(after_help = "Examples:
  siskin inspect smollm2-135m-instruct
  siskin inspect model.gguf --ctx 8192 --json")]
    Inspect(InspectArgs),
    /// Write the f32 logits of every position to a safetensors file
    #[command(after_help = "Examples:
  siskin logits model.gguf --tokens 1,2,3 --out logits.safetensors
  siskin logits model.gguf --tokens 1,2,3 --precision f32 --device cpu --out oracle.safetensors")]
    Logits(LogitsArgs),
    /// Fine-tune an adapter on your examples
    #[command(after_help = "Examples:
  siskin train --model smollm2-135m-instruct --data examples.jsonl --out my-adapter
  siskin train --model smollm2-135m-instruct --data pairs.jsonl --objective dpo --out my-adapter
  siskin train recipe.toml
  siskin train recipe.toml --resume
  siskin run smollm2-135m-instruct \"Who are you?\" --adapter my-adapter
A recipe sets the same things as the flags, which take precedence: model, data, validation_data, out, device, and the \
of rewards: rewards and reward_weights (lists), num_generations, max_completion_length, num_iterations, epsilon, epsilon_high, \
scale_rewards (group, batch, none), importance_sampling_level (token, sequence), mask_truncated_completions; \
training options rank, lora_alpha, use_rslora, use_dora, target_modules, lora_dropout, optim, learning_rate, schedule (constant, \
linear, cosine, cosine_with_restarts, warmup_stable_decay), warmup_steps, warmup_ratio, num_cycles, num_decay_steps, min_lr_rate, \
adam_beta1, adam_beta2, adam_epsilon, weight_decay, max_grad_norm, epochs, steps, batch_size, max_seq_len, packing, loss_on, \
validation, eval_every, early_stopping_patience, load_best_model_at_end, gradient_checkpointing, seed, objective, beta, loss_type, label_smoothing, simpo_gamma, cpo_alpha, desirable_weight, \
undesirable_weight.
Data is JSONL of messages, ShareGPT's conversations, Alpaca's instructions, prompt and completion, prompts alone for grpo and rloo, or text; a \
JSON array of such; CSV or TSV with those columns; or a text file with an empty line between examples. The objectives \
dpo, orpo, simpo and cpo learn from records of prompt, chosen and rejected, kto from prompt, completion and label (true or \
false); each is a text or a list of messages, and without a prompt, chosen and rejected both begin with it.")]
    Train(Box<TrainArgs>),
    /// Write a recipe as a project of another tool that trains the same, with more GPUs than this machine has
    #[command(after_help = "Examples:
  siskin recipe recipe.toml --to trl --base HuggingFaceTB/SmolLM2-135M-Instruct --out trl-project
  siskin recipe recipe.toml --to axolotl --base Qwen/Qwen3-8B --out axolotl-project
The folder has the tool's configuration, the examples as tokens with what is learned of them, pinned requirements, and a \
README with the launch lines for one GPU, several (FSDP, DeepSpeed), SLURM and Ray. The base model must have the recipe's \
tokenizer; it may be larger. What the tool cannot do is refused. The adapter that comes back opens as it is.")]
    Recipe(RecipeArgs),
    /// Compare the first losses of a project for TRL with siskin's, on the CPU
    #[command(after_help = "Examples:
  siskin check-recipe trl-project --python venv/bin/python
  siskin check-recipe trl-project --python venv/bin/python --model model-folder --steps 5
Both sides train in f32, from the same adapter. The exit status is 1 if a loss differs by more than 1e-3.")]
    CheckRecipe(CheckRecipeArgs),
    /// Merge an adapter into a model's weights, for use in any program
    #[command(after_help = "Examples:
  siskin merge smollm2-135m-instruct my-adapter --out merged.gguf
  siskin merge model.gguf my-adapter:0.5 --out half.gguf --type q8_0
  siskin merge model-folder my-adapter --out merged-folder --type bf16
  siskin merge model-folder my-adapter --out merged-folder --to vllm")]
    Merge(MergeArgs),
    /// Store a model's matrices in another type
    #[command(after_help = "Examples:
  siskin quantize model-f16.gguf --type q4_k_m --out model-q4_k_m.gguf
  siskin quantize model-f16.gguf --type q3_k_m --imatrix model.imatrix.gguf --out model-q3_k_m.gguf
  siskin quantize model-folder --type nf4 --out model-nf4")]
    Quantize(QuantizeArgs),
    /// Measure on a text how much each column of a model's matrices matters, for `quantize --imatrix`
    #[command(after_help = "Examples:
  siskin imatrix model-f16.gguf --data text.txt --out model.imatrix.gguf
  siskin quantize model-f16.gguf --type q4_k_m --imatrix model.imatrix.gguf --out model-q4_k_m.gguf
The file is of the form that llama-imatrix writes, which can be used as well.")]
    Imatrix(ImatrixArgs),
    /// Convert a GGUF file to a Hugging Face folder or a folder to GGUF; adapters too
    #[command(after_help = "Examples:
  siskin convert model-folder --out model.gguf --type q8_0
  siskin convert model.gguf --out model-folder --type bf16
  siskin convert my-adapter --base model.gguf --out my-adapter.gguf")]
    Convert(ConvertArgs),
    /// Score a model on tasks: multiple choice, perplexity, generated answers
    #[command(after_help = "Examples:
  siskin eval smollm2-135m-instruct --task examples/tasks/arc.yaml
  siskin eval model.gguf --task mmlu.yaml gsm8k.yaml --limit 100 --out results.jsonl --json
  siskin eval model.gguf --task gsm8k.yaml --data train=train.jsonl --data test=test.jsonl
  siskin eval model.gguf --adapter my-adapter --task task.yaml --baseline model.gguf
Tasks have the keys of lm-evaluation-harness's task files, and data is JSON lines, a JSON array or text, whose path is \
relative to the task's. An interrupted run with --out continues when it is started again. With --baseline, p is how likely \
so large a difference is by chance: McNemar's exact test where records are right or wrong, otherwise a permutation test.")]
    Eval(Box<EvalArgs>),
    /// Measure prefill and decode speed, and count exactly what a decode step does
    #[command(after_help = "Examples:
  siskin bench smollm2-135m-instruct
  siskin bench model.gguf -p 512 -n 64 --device gpu --json
With --json, `counts` and `kernels` are null on the CPU; `kernels` is also null where timestamps are not available.")]
    Bench(BenchArgs),
    /// Compare every kernel on a GPU with the CPU, forward and backward
    #[command(after_help = "Examples:
  siskin certify
  siskin certify --device gpu:1 --json > certificate.json
A kernel passes if its largest error, relative to the largest value, is within its tolerance. The times are of small
cases, with what is uploaded and read: compare them only with each other. The exit status is 1 if a kernel fails.")]
    Certify(CertifyArgs),
    /// List the devices, with the features and limits that matter
    #[command(after_help = "Examples:
  siskin devices
  siskin devices --json")]
    Devices(DevicesArgs),
}

fn at_least_one(s: &str) -> Result<usize, String> {
    let n = s.parse().ok().filter(|n| *n > 0);
    n.ok_or_else(|| "it must be at least 1".into())
}
