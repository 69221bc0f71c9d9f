/** Bytes of their own: `Uint8Array<ArrayBuffer>`, which TypeScript before 5.7 does not know. */
export type Bytes = ReturnType<Uint8Array["slice"]>;

/** A token and the bytes (UTF-8) of the text that it stands for. */
export interface Token {
  id: number;
  /** As the vocabulary writes it. */
  piece: string;
  start: number;
  end: number;
  special: boolean;
}

/** A word and its pieces after each merge of BPE. */
export interface MergedWord {
  word: string;
  steps: string[][];
}

/** A likely token. */
export interface TopToken {
  id: number;
  piece: string;
  /** Of the text that it stands for: perhaps a part of a character. */
  bytes: number[];
  /** Natural logarithm of its probability. */
  logprob: number;
}

/** What a model's files say. */
export interface ModelInfo {
  name: string;
  architecture: string;
  parameters: number;
  nLayers: number;
  hiddenSize: number;
  intermediateSize: number;
  nHeads: number;
  nKvHeads: number;
  headDim: number;
  vocabSize: number;
  /** Tokens it was trained for. */
  contextLength: number;
  ropeTheta: number;
  tokenizer: string;
  chatTemplate: string | null;
  /** A GGUF file's, without its arrays. */
  metadata: Record<string, string | number | boolean>;
  tensors: { name: string; shape: number[]; type: string; bytes: number }[];
}

/** Bytes, by the plan's own sums. */
export interface Memory {
  weights: number;
  kv_cache: number;
  activations: number;
  total: number;
}

/** What a model runs on. */
export interface DeviceInfo {
  device: "webgpu" | "cpu";
  adapter: string;
  /** The kernels in use. */
  profile: string;
  /** Why it is not the GPU, where none was asked for by name. */
  reason?: string;
}

export interface Info extends DeviceInfo {
  model: ModelInfo;
  /** Tokens that the KV cache holds. */
  context: number;
  contextUsed: number;
  memory: Memory;
  /** Bytes of the wasm's own memory; on WebGPU the weights are not in it. */
  wasmHeap: number;
}

/** The answer of `Siskin.fits`. */
export interface Fit {
  fits: boolean;
  context: number;
  /** Bytes at `context`. */
  memory: Memory;
  /** The longest context that fits; 0 if none does. */
  maxContext: number;
  trainedContext: number;
  /** Bytes there are, so far as the browser tells. */
  available?: number;
  /** What was compared, in words. */
  reason: string;
}

/** The adapter of this browser. */
export interface AdapterInfo {
  name: string;
  /** Runs shaders on the processor. */
  software: boolean;
  subgroups: boolean;
  f16: boolean;
  timestamps: boolean;
  profile: string;
  maxBufferSize: number;
  maxStorageBufferBindingSize: number;
  maxComputeInvocationsPerWorkgroup: number;
  maxComputeWorkgroupStorageSize: number;
}

export interface KernelResult {
  kernel: string;
  /** Largest error relative to the largest value. */
  error: number;
  tolerance: number;
  passed: boolean;
}

export interface Progress {
  phase: "download" | "upload" | "compile" | "ready";
  /** Bytes of this phase; `total` is 0 where it is not known. */
  loaded: number;
  total: number;
  /** Bytes a second. */
  rate: number;
  file?: string;
}

export interface LoadOptions {
  /** By default WebGPU on a real GPU, else the CPU. */
  device?: "webgpu" | "cpu";
  /** Kernels to use instead of the adapter's own: for tests. */
  profile?: "cpu" | "base" | "sg" | "sg_dot4";
  /** Tokens of the KV cache; by default the model's own context, at most 4096. */
  context?: number;
  onProgress?: (progress: Progress) => void;
  /** The device was lost in an answer and is being opened again. */
  onDeviceLost?: () => void;
  signal?: AbortSignal;
  /** Whether fetched files are kept for the next visit; true by default. */
  cache?: boolean;
  /** SHA-256 of the file, in hexadecimal. */
  sha256?: string;
}

/** Where siskin itself runs. */
export interface RuntimeOptions {
  /** False runs it on this thread, which then hears nothing while it computes on the CPU. */
  worker?: boolean;
  /** Where the wasm file is, if not beside the script. */
  wasmUrl?: string | URL;
  /** The wasm file itself. */
  wasmBytes?: ArrayBuffer | Uint8Array;
  /** Where `hf:` references lead. */
  hub?: string;
}

export interface FitOptions {
  device?: "webgpu" | "cpu";
  context?: number;
  /** Bytes to use; by default what the browser tells of the machine. */
  memory?: number;
  signal?: AbortSignal;
}

/** What to generate. */
export interface GenerateOptions {
  /** 0, the default, always takes the likeliest token. */
  temperature?: number;
  top_p?: number;
  top_k?: number;
  min_p?: number;
  repeat_penalty?: number;
  /** An integer from 0; the same gives the same answer. By default another one each time. */
  seed?: number | bigint;
  max_tokens?: number;
  stop?: string[];
  /** So many likeliest tokens beside each that is chosen. */
  top_logprobs?: number;
  /** Goes on past the tokens that end an answer. */
  ignore_end?: boolean;
}

export interface TokenLogprob extends TopToken {
  top: TopToken[];
}

/** What happens while tokens are generated. */
export type GenerateEvent =
  | { kind: "prefill"; done: number; total: number }
  | { kind: "token"; id: number; text: string; logprob?: TokenLogprob }
  | { kind: "rest"; text: string };

export interface Generated {
  ids: number[];
  finishReason: "stop" | "length" | "cancelled";
  /** With which the same tokens are drawn again. */
  seed: number | bigint;
  promptTokens: number;
  /** Tokens of the prompt that were in the cache already. */
  cachedTokens: number;
  prefillSeconds: number;
  decodeSeconds: number;
}

export interface TraceOptions {
  /** What each query gives each key, by layer and head. */
  attention?: boolean;
  /** So many likeliest next tokens at each position. */
  topK?: number;
  /** The likeliest token at each position if the model ended after each layer. */
  logitLens?: boolean;
}

export interface Trace {
  tokens: Token[];
  /** `[position][rank]`. */
  top: TopToken[][];
  /** `[layer]` of `[nHeads, T, T]`, rows by query. */
  attention: Float32Array[];
  nHeads: number;
  /** `[layer][position]`. */
  logitLens: TopToken[][];
}

/** What one decode step does on the GPU. */
export interface Counts {
  dispatches: number;
  submits: number;
  readbacks: number;
  buffersCreated: number;
  bindGroupsCreated: number;
  bytesBound: number;
}

/** One turn of a conversation, as the chat template sees it. */
export interface Message {
  role: string;
  content: string | null;
  [field: string]: unknown;
}

/** What is to be answered, as the wasm takes it. */
export interface PromptRequest {
  messages: object[];
  chat_template_kwargs?: Record<string, unknown>;
  allow_special_tokens?: boolean;
}

/**
 * A model: the address of a GGUF file or (ending in `/`) of a Hugging Face folder; a hub reference
 * `hf:owner/repo/file.gguf`, `hf:owner/repo` or `hf:owner/repo@revision/…`; a GGUF file; or a
 * folder's files.
 */
export type ModelSource = string | URL | Blob | readonly File[];
