use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use siskin_engine::{CacheType, CacheTypes, DeviceRequest, RopeScalingKind};
use siskin_gpu::Profile;

/// Chat with, inspect, measure and fine-tune language models, on the CPU or any GPU.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer one prompt, streamed to the terminal
    #[command(after_help = "Examples:
  siskin run smollm2-135m-instruct \"What is the capital of France?\"
  siskin run model.gguf \"Once upon a time\" --raw --max-tokens 50
  siskin run model.gguf \"A haiku\" --temperature 0.8 --top-p 0.9 --seed 7 --json")]
    Run(RunArgs),
    /// Chat in the terminal
    #[command(after_help = "Examples:
  siskin chat smollm2-135m-instruct
  siskin chat model.gguf --system \"Answer in one sentence.\" --device cpu
  siskin chat model.gguf --adapter pirate --adapter poet:0.5
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
  siskin train recipe.toml
  siskin train recipe.toml --resume
  siskin run smollm2-135m-instruct \"Who are you?\" --adapter my-adapter
A recipe sets the same things as the flags, which take precedence: model, data, out, device, and the \
training options rank, lora_alpha, use_rslora, use_dora, target_modules, lora_dropout, optim, learning_rate, schedule, warmup_steps, \
weight_decay, max_grad_norm, epochs, steps, batch_size, max_seq_len, packing, loss_on, validation, eval_every, \
gradient_checkpointing, seed.
Data is JSONL of messages, ShareGPT's conversations, Alpaca's instructions, prompt and completion, or text; a \
JSON array of such; CSV or TSV with those columns; or a text file with an empty line between examples.")]
    Train(Box<TrainArgs>),
    /// Merge an adapter into a model's weights, for use in any program
    #[command(after_help = "Examples:
  siskin merge smollm2-135m-instruct my-adapter --out merged.gguf
  siskin merge model.gguf my-adapter:0.5 --out half.gguf --type q8_0
  siskin merge model-folder my-adapter --out merged-folder --type bf16")]
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
    /// Measure prefill and decode speed, and count exactly what a decode step does
    #[command(after_help = "Examples:
  siskin bench smollm2-135m-instruct
  siskin bench model.gguf -p 512 -n 64 --device gpu --json
With --json, `counts` and `kernels` are null on the CPU; `kernels` is also null where timestamps are not available.")]
    Bench(BenchArgs),
    /// List the devices, with the features and limits that matter
    #[command(after_help = "Examples:
  siskin devices
  siskin devices --json")]
    Devices(DevicesArgs),
}

fn parse_named(s: &str) -> Result<(String, String), String> {
    let named = s
        .split_once('=')
        .filter(|(name, path)| !name.is_empty() && !path.is_empty());
    let (name, path) = named.ok_or("use NAME=DIR")?;
    Ok((name.into(), path.into()))
}

fn at_least_one(s: &str) -> Result<usize, String> {
    let n = s.parse().ok().filter(|n| *n > 0);
    n.ok_or_else(|| "it must be at least 1".into())
}

pub fn parse_device(s: &str) -> Result<DeviceRequest, String> {
    s.parse()
        .map_err(|_| "use auto, cpu, gpu or gpu:N (`siskin devices` lists them)".into())
}

/// The profiles that have names, by name.
fn profile_parser() -> impl TypedValueParser<Value = Profile> {
    PossibleValuesParser::new(Profile::NAMED.map(|(name, _)| name))
        .try_map(|name| name.parse::<Profile>())
}

fn cache_type_parser() -> impl TypedValueParser<Value = CacheType> {
    PossibleValuesParser::new(CacheType::ALL.map(CacheType::name))
        .try_map(|name| name.parse::<CacheType>())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PrecisionArg {
    /// Integer activations where that is faster
    Fast,
    /// f32 throughout
    F32,
}

/// Where guesses of the next tokens come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DraftArg {
    None,
    /// What followed the last tokens where they stood before, in the prompt or the answer.
    Ngram,
    /// A smaller model with the same vocabulary.
    Model(PathBuf),
}

fn parse_draft(s: &str) -> Result<DraftArg, String> {
    Ok(match s {
        "none" => DraftArg::None,
        "ngram" => DraftArg::Ngram,
        model => DraftArg::Model(model.into()),
    })
}

#[derive(Debug, Args)]
pub struct ModelArgs {
    /// A GGUF file, a Hugging Face folder, or the name of a model that `cargo xtask demo` downloaded
    pub model: PathBuf,
    #[command(flatten)]
    pub on: DeviceArgs,
}

/// How the KV cache stores keys and values.
#[derive(Debug, Clone, Copy, Args)]
pub struct CacheArgs {
    /// Type of the KV cache
    #[arg(long, value_name = "TYPE", default_value = "f16", value_parser = cache_type_parser())]
    pub cache: CacheType,
    /// Type of its keys [default: that of --cache]
    #[arg(long, value_name = "TYPE", value_parser = cache_type_parser())]
    pub cache_type_k: Option<CacheType>,
    /// Type of its values [default: that of --cache]
    #[arg(long, value_name = "TYPE", value_parser = cache_type_parser())]
    pub cache_type_v: Option<CacheType>,
}

impl Default for CacheArgs {
    fn default() -> Self {
        Self {
            cache: CacheType::F16,
            cache_type_k: None,
            cache_type_v: None,
        }
    }
}

impl CacheArgs {
    pub fn types(self) -> CacheTypes {
        CacheTypes {
            keys: self.cache_type_k.unwrap_or(self.cache),
            values: self.cache_type_v.unwrap_or(self.cache),
        }
    }
}

/// Where and how a model runs.
#[derive(Debug, Clone, Args)]
pub struct DeviceArgs {
    /// auto, cpu, gpu or gpu:N
    #[arg(long, default_value = "auto", value_parser = parse_device)]
    pub device: DeviceRequest,
    /// Kernel profile on the GPU, instead of the one chosen for it
    #[arg(long, value_parser = profile_parser())]
    pub profile: Option<Profile>,
    /// Context length in tokens [default: the model's own, at most 4096]
    #[arg(long)]
    pub ctx: Option<usize>,
    /// How rotary frequencies are scaled for a longer context, in place of the model's own scaling
    #[arg(
        long,
        value_name = "none|linear|yarn",
        requires_if("linear", "rope_factor"),
        requires_if("yarn", "rope_factor")
    )]
    pub rope_scaling: Option<RopeScalingKind>,
    /// How many times longer the context gets
    #[arg(long, value_name = "F", requires = "rope_scaling")]
    pub rope_factor: Option<f32>,
    /// The context that the model was trained for without scaling [default: what the file says]
    #[arg(long, value_name = "N", requires = "rope_scaling")]
    pub rope_original_ctx: Option<usize>,
    #[command(flatten)]
    pub cache: CacheArgs,
    /// Arithmetic on the CPU
    #[arg(long, default_value = "fast")]
    pub precision: PrecisionArg,
    /// Guesses of the next tokens, which save steps where they are right; the answers are the same. `ngram` takes what
    /// followed the same tokens before; a model, which must have the same vocabulary, is asked at each step
    #[arg(long, value_name = "none|ngram|MODEL", default_value = "none", value_parser = parse_draft)]
    pub draft: DraftArg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OptimArg {
    /// In f32
    #[value(name = "adamw")]
    AdamW,
    /// In 8 bits, block-wise: less memory, nearly the same steps
    #[value(name = "adamw_8bit")]
    AdamW8bit,
}

/// An adapter on top of a model.
#[derive(Debug, Clone, Args)]
pub struct AdapterArgs {
    /// A LoRA adapter: a folder as saved by PEFT or `siskin train`, or a GGUF file; `DIR:0.5` applies it at half strength
    #[arg(long, value_name = "DIR[:SCALE]")]
    pub adapter: Option<String>,
}

#[derive(Debug, Args)]
pub struct TrainArgs {
    /// A TOML file with settings that the flags do not give
    pub recipe: Option<PathBuf>,
    /// A GGUF file, a Hugging Face folder, or the name of a downloaded model
    #[arg(long)]
    pub model: Option<String>,
    /// Examples: JSONL, JSON, CSV, TSV or text
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// A folder for the adapter, its metrics and checkpoints
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// auto, cpu, gpu or gpu:N
    #[arg(long)]
    pub device: Option<String>,
    /// Kernel profile on the GPU, instead of the one chosen for it
    #[arg(long, value_parser = profile_parser())]
    pub profile: Option<Profile>,
    /// Passes over the examples [default: 3]
    #[arg(long, conflicts_with = "steps")]
    pub epochs: Option<usize>,
    /// Number of steps, instead of passes
    #[arg(long)]
    pub steps: Option<usize>,
    /// Rank of the adapter: determines how much it can learn, and its size [default: 8]
    #[arg(long)]
    pub rank: Option<usize>,
    /// Learn the magnitudes of weights separately from their directions (DoRA)
    #[arg(long)]
    pub dora: bool,
    /// How the optimiser stores its moments [default: adamw]
    #[arg(long)]
    pub optim: Option<OptimArg>,
    /// Peak learning rate [default: 1e-3]
    #[arg(long = "lr")]
    pub learning_rate: Option<f32>,
    /// Examples per step [default: 4]
    #[arg(long)]
    pub batch_size: Option<usize>,
    /// Truncate examples to this many tokens [default: 512]
    #[arg(long)]
    pub max_seq_len: Option<usize>,
    /// Fraction of the examples that is held out [default: 0.1]
    #[arg(long)]
    pub validation: Option<f32>,
    /// The same seed gives the same losses on the same device [default: 0]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Steps between checkpoints
    #[arg(long, default_value_t = 25)]
    pub checkpoint_every: usize,
    /// Resume from the last checkpoint in the folder
    #[arg(long)]
    pub resume: bool,
    /// Replace a training run or an adapter that is already in the folder
    #[arg(long, conflicts_with = "resume")]
    pub force: bool,
    /// Skip unusable examples instead of stopping
    #[arg(long)]
    pub skip_bad: bool,
    /// Print one JSON object at the end instead of the report
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct MergeArgs {
    /// A GGUF file, a Hugging Face folder, or the name of a downloaded model
    pub model: PathBuf,
    /// A LoRA adapter's folder or GGUF file; `DIR:0.5` merges it at half strength
    #[arg(value_name = "DIR[:SCALE]")]
    pub adapter: String,
    /// A file name ending in .gguf, or a folder for safetensors
    #[arg(long)]
    pub out: PathBuf,
    /// Overwrite what already exists
    #[arg(long)]
    pub force: bool,
    /// As for `quantize` [default: each tensor's own; for quantised ones that change q8_0, or f16 in a folder]
    #[arg(long = "type", value_name = "TYPE")]
    pub ty: Option<String>,
}

#[derive(Debug, Args)]
pub struct QuantizeArgs {
    /// A GGUF file, a Hugging Face folder, or the name of a downloaded model
    pub model: PathBuf,
    /// f32, f16 or bf16; for GGUF also q8_0, q6_k, q5_k_m, q5_k_s, q5_1, q5_0, q4_k_m, q4_k_s, q4_1, q4_0, iq4_nl,
    /// iq4_xs, q3_k_l, q3_k_m, q3_k_s, q2_k; for a folder also nf4 (bitsandbytes' layout)
    #[arg(long = "type", value_name = "TYPE")]
    pub ty: String,
    /// A file of `siskin imatrix` or llama-imatrix, which says how much each column matters
    #[arg(long, value_name = "FILE")]
    pub imatrix: Option<PathBuf>,
    /// A file name ending in .gguf, or a folder for safetensors
    #[arg(long)]
    pub out: PathBuf,
    /// Overwrite what already exists
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct ImatrixArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// A text file, of what the model will be used for
    #[arg(long)]
    pub data: PathBuf,
    /// The GGUF file to write
    #[arg(long)]
    pub out: PathBuf,
    /// Tokens that are read at once; what is left of the text is not used
    #[arg(long, default_value_t = 512)]
    pub chunk: usize,
    /// Overwrite what already exists
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// A GGUF file, a Hugging Face folder, or the name of a downloaded model; with --base, an adapter
    pub model: PathBuf,
    /// The model that the adapter is for
    #[arg(long, value_name = "MODEL", conflicts_with = "ty")]
    pub base: Option<PathBuf>,
    /// A file name ending in .gguf, or a folder for safetensors
    #[arg(long)]
    pub out: PathBuf,
    /// Overwrite what already exists
    #[arg(long)]
    pub force: bool,
    /// As for `quantize` [default: each tensor's own; f16 for quantised ones in a folder]
    #[arg(long = "type", value_name = "TYPE")]
    pub ty: Option<String>,
}

#[derive(Debug, Args)]
pub struct SamplingArgs {
    /// 0 always chooses the most likely token
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    pub temperature: f32,
    /// Keep the k most likely tokens; 0 keeps all
    #[arg(long, default_value_t = 0)]
    pub top_k: u32,
    /// Keep the smallest set of most likely tokens whose probabilities add up to this
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    pub top_p: f32,
    /// Keep tokens that are at least this fraction as likely as the most likely one
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    pub min_p: f32,
    /// Values above 1 make tokens that are already in the context less likely
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    pub repeat_penalty: f32,
    /// The same seed gives the same tokens [default: a new one for each answer; --json reports it]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Maximum length of the answer, in tokens
    #[arg(long, default_value_t = 512)]
    pub max_tokens: usize,
    /// End the answer before this text (can be repeated)
    #[arg(long)]
    pub stop: Vec<String>,
    /// Continue when the context is full: the first N tokens stay, and half of the others are dropped [default: end the
    /// answer]
    #[arg(long, value_name = "N")]
    pub keep: Option<usize>,
}

/// What an answer must look like.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct ShapeArgs {
    /// The answer is JSON that this schema allows: a file, or the schema itself
    #[arg(long, value_name = "FILE|TEXT")]
    pub json_schema: Option<String>,
    /// The answer follows this grammar, in Lark's notation
    #[arg(long, value_name = "FILE")]
    pub grammar: Option<PathBuf>,
    /// The answer is what this regular expression matches
    #[arg(long, value_name = "REGEX")]
    pub regex: Option<String>,
    /// The answer is this text, or another one that is given in the same way
    #[arg(long = "choice", value_name = "TEXT")]
    pub choices: Vec<String>,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub adapter: AdapterArgs,
    /// The prompt
    pub prompt: String,
    /// A system message before the prompt
    #[arg(long, conflicts_with = "raw")]
    pub system: Option<String>,
    /// Parse control tokens, such as <|im_end|>, in messages
    #[arg(long)]
    pub allow_special_tokens: bool,
    /// Continue the prompt as plain text, without the chat template
    #[arg(long)]
    pub raw: bool,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub shape: ShapeArgs,
    /// Continue the conversation in this file, if it is there, and save it there with the answer
    #[arg(long, value_name = "FILE", conflicts_with_all = ["raw", "samples", "beams"])]
    pub session: Option<PathBuf>,
    /// Give so many answers, with consecutive seeds
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub samples: usize,
    /// Print only what most of the samples agree on: the last match of REGEX in each, or its first group [default: the
    /// whole answer]
    #[arg(long, value_name = "REGEX", num_args = 0..=1, require_equals = true, default_missing_value = "(?s).+", requires = "samples")]
    pub vote: Option<String>,
    /// Search for the likeliest answer with so many beams, instead of choosing token by token
    #[arg(long, value_name = "N", value_parser = at_least_one, conflicts_with_all = ["samples", "logprobs", "temperature", "top_k", "top_p", "min_p", "repeat_penalty", "seed", "stop", "keep", "json_schema", "grammar", "regex", "choices"])]
    pub beams: Option<usize>,
    /// A beam's score is its log-probability over its length to this power [default: 1]
    #[arg(
        long,
        value_name = "P",
        requires = "beams",
        allow_negative_numbers = true
    )]
    pub length_penalty: Option<f32>,
    /// Log-probabilities of each token and of this many most likely ones (with --json)
    #[arg(long, requires = "json")]
    pub logprobs: Option<usize>,
    /// Print one JSON object at the end instead of streaming
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ChatArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// LoRA adapters, as for `run`; the first one is used, and /adapter switches
    #[arg(long = "adapter", value_name = "DIR[:SCALE]")]
    pub adapters: Vec<String>,
    /// Continue the conversation in this file, if it is there, and save it there at the end
    #[arg(long, value_name = "FILE")]
    pub session: Option<PathBuf>,
    /// A system message before the conversation
    #[arg(long)]
    pub system: Option<String>,
    /// Parse control tokens, such as <|im_end|>, in messages
    #[arg(long)]
    pub allow_special_tokens: bool,
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PoolingArg {
    /// The mean of all tokens
    Mean,
    /// The first token, as BERT's [CLS]
    Cls,
    /// The last token
    Last,
}

#[derive(Debug, Args)]
pub struct EmbedArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// The texts
    pub texts: Vec<String>,
    /// A file with more texts, one per line; empty lines are left out
    #[arg(long)]
    pub file: Option<PathBuf>,
    /// How a text's vector is made of its tokens' [default: as the model's files say]
    #[arg(long)]
    pub pooling: Option<PoolingArg>,
    /// Only the first dimensions of each vector
    #[arg(long)]
    pub dimensions: Option<usize>,
    /// The name of one of the model's prompts, which is put before each text
    #[arg(long, value_name = "NAME")]
    pub prompt: Option<String>,
    /// Cut texts that are longer than the model takes
    #[arg(long)]
    pub truncate: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RerankArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// What the texts are scored for
    pub query: String,
    /// The texts
    pub texts: Vec<String>,
    /// A file with more texts, one per line; empty lines are left out
    #[arg(long)]
    pub file: Option<PathBuf>,
    /// Cut texts that are longer, with the query, than the model takes
    #[arg(long)]
    pub truncate: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct TokenizeArgs {
    /// A GGUF file, a Hugging Face folder, or the name of a downloaded model
    pub model: PathBuf,
    pub text: String,
    /// Apply the chat template to the text as a user message
    #[arg(long)]
    pub chat: bool,
    /// Parse control tokens, such as <|im_end|>, in messages
    #[arg(long)]
    pub allow_special_tokens: bool,
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A GGUF file, a Hugging Face folder, or the name of a downloaded model
    pub model: PathBuf,
    /// Context length for the memory figures [default: the model's own, at most 4096]
    #[arg(long)]
    pub ctx: Option<usize>,
    #[command(flatten)]
    pub cache: CacheArgs,
    /// List every tensor, not only the totals by type
    #[arg(long)]
    pub tensors: bool,
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct LogitsArgs {
    /// Tokens per batch; 1 uses the decode kernels instead of the prefill ones
    #[arg(long, default_value_t = siskin_engine::TRACE_ROWS)]
    pub rows: usize,
    /// Also write the hidden states and attention outputs of every layer
    #[arg(long)]
    pub trace: bool,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub adapter: AdapterArgs,
    /// Token ids, separated by commas
    #[arg(long, value_delimiter = ',', required = true)]
    pub tokens: Vec<u32>,
    /// The safetensors file to write: the tensor `logits`, f32 [T, vocab], and those of --trace
    #[arg(long)]
    pub out: PathBuf,
    /// Overwrite what already exists
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Tokens to prefill
    #[arg(short, long, default_value_t = 512)]
    pub prompt: usize,
    /// Tokens to decode
    #[arg(short, long, default_value_t = 64)]
    pub n: usize,
    /// Number of runs; the median is reported
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
    /// Answers that run at once; the decode speed is that of all together
    #[arg(long, default_value_t = 1)]
    pub parallel: usize,
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Models, as for the other commands; each stays loaded, and is served under its file's name
    #[arg(required_unless_present = "models_dir", value_name = "MODEL")]
    pub models: Vec<PathBuf>,
    /// A folder of GGUF files and model folders, each loaded when a request first names it
    #[arg(long = "models", value_name = "DIR")]
    pub models_dir: Option<PathBuf>,
    /// Seconds without a request after which a model of the folder is unloaded; 0 keeps it
    #[arg(
        long,
        default_value_t = 300,
        requires = "models_dir",
        value_name = "SECONDS"
    )]
    pub idle_unload: u64,
    /// Models of the folder that are loaded at once; the one that has been idle for longest makes room
    #[arg(long, default_value_t = 2, requires = "models_dir", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub max_loaded: u16,
    /// An adapter that requests can name in place of the model, which they share (can be repeated; needs a single MODEL)
    #[arg(long = "adapter", value_name = "NAME=DIR[:SCALE]", value_parser = parse_named)]
    pub adapters: Vec<(String, String)>,
    #[command(flatten)]
    pub on: DeviceArgs,
    /// The address to listen on; other than loopback needs an API key or --no-auth
    #[arg(long, default_value = "127.0.0.1")]
    pub host: IpAddr,
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// What clients must send as their API key [default: the variable SISKIN_API_KEY, if set]
    #[arg(long)]
    pub api_key: Option<String>,
    /// Serve everybody who reaches the address
    #[arg(long, conflicts_with = "api_key")]
    pub no_auth: bool,
    /// Requests of a model that run at once, each with a context of its own
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub parallel: u16,
    /// Further requests that may wait; those beyond are answered 429
    #[arg(long, default_value_t = 64)]
    pub max_waiting: usize,
    /// The most bytes of a request
    #[arg(long, default_value_t = 4 << 20)]
    pub max_body: usize,
    /// The origin whose pages may send requests, beside the server's own, such as https://example.com, or *
    #[arg(long)]
    pub cors: Option<String>,
    /// The folder of the page to serve at / [default: `page` beside the program, or a checkout's web/dist]
    #[arg(long, value_name = "DIR")]
    pub page: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct DevicesArgs {
    #[arg(long)]
    pub json: bool,
}
