/** Bytes in an `ArrayBuffer`: `Uint8Array<ArrayBuffer>`, which TypeScript before 5.7 does not have. */
export type Bytes = ReturnType<Uint8Array["slice"]>;

/** A token and its range of UTF-8 bytes in the text. */
export interface Token {
  id: number;
  /** As written in the vocabulary. */
  piece: string;
  start: number;
  end: number;
  special: boolean;
}

/** A word and its pieces after each merge of BPE; the only step of tokenizers without merges is the tokens. */
export interface MergedWord {
  word: string;
  steps: string[][];
}

/** A likely token. */
export interface TopToken {
  id: number;
  piece: string;
  /** The bytes of its text, which may be part of a character. */
  bytes: number[];
  /** Natural logarithm of its probability. */
  logprob: number;
}

/** The contents of a model's files. */
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
  /** The context length that the model was trained with, in tokens. */
  contextLength: number;
  ropeTheta: number;
  /** How many experts a layer has, how many process a token, and the parameters that do. */
  experts: { count: number; used: number; activeParameters: number } | null;
  tokenizer: string;
  chatTemplate: string | null;
  /** What it makes: text, embeddings or scores of texts. A model for text can be asked for embeddings too. */
  makes: "text" | "embeddings" | "scores";
  /** How its files say that embeddings are made; null where they do not. */
  pooling: "mean" | "cls" | "last" | null;
  /** The metadata of a GGUF file, without arrays. */
  metadata: Record<string, string | number | boolean>;
  tensors: { name: string; shape: number[]; type: string; bytes: number }[];
}

/** Bytes, computed from the plan. */
export interface Memory {
  weights: number;
  kvCache: number;
  activations: number;
  total: number;
}

/** What a model runs on. */
export interface DeviceInfo {
  device: "webgpu" | "cpu";
  deviceName: string;
  /** The kernel profile in use. */
  profile: string;
  /** Why it is not the GPU, if no device was requested. */
  reason?: string;
}

export interface Info extends DeviceInfo {
  model: ModelInfo;
  /** The capacity of the KV cache, in tokens. */
  context: number;
  contextUsed: number;
  memory: Memory;
  /** Bytes of WebAssembly memory; on WebGPU it does not contain the weights. */
  wasmHeap: number;
}

/** The result of `Siskin.fits`. */
export interface Fit {
  fits: boolean;
  context: number;
  /** Bytes at `context`. */
  memory: Memory;
  /** The longest context that fits; 0 if none does. */
  maxContext: number;
  trainedContext: number;
  /** Bytes available, as far as the browser reports. */
  available?: number;
  /** The comparison, in words. */
  reason: string;
}

/** The GPU that this browser offers through WebGPU. */
export interface GpuInfo {
  name: string;
  /** Whether shaders run on the CPU. */
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
  /** What the case takes once it is compiled, with what is uploaded before and read after. */
  milliseconds: number;
}

export interface Progress {
  phase: "download" | "upload" | "compile" | "ready";
  /** Bytes of this phase; `total` is 0 if unknown. */
  loaded: number;
  total: number;
  /** Bytes per second. */
  rate: number;
  file?: string;
}

/** How a KV cache stores its values. */
export type CacheType = "f32" | "f16" | "q8_0" | "q4_0";

export interface LoadOptions {
  /** By default WebGPU on a real GPU, else the CPU. */
  device?: "webgpu" | "cpu";
  /** The kernel profile to use instead of the GPU's own: for tests. */
  profile?: "cpu" | "base" | "sg" | "sg_dot4";
  /** Capacity of the KV cache in tokens; by default the model's own context, at most 4096. */
  context?: number;
  /**
   * How keys and values are cached; f16 by default. q8_0 takes half of its memory, q4_0 little more than a quarter; these
   * two need heads of a multiple of 32 dimensions.
   */
  cacheType?: CacheType | { keys?: CacheType; values?: CacheType };
  /**
   * Guesses the next tokens from what followed the last ones before, and checks several at once: the same answers, sooner
   * where they repeat the prompt or themselves, as corrected texts and code do.
   */
  draft?: "ngram";
  onProgress?: (progress: Progress) => void;
  /** The device was lost during an answer and is being reopened. */
  onDeviceLost?: () => void;
  signal?: AbortSignal;
  /** Whether downloaded files are cached for the next visit; true by default. */
  cache?: boolean;
  /** SHA-256 of the file, in hexadecimal. */
  sha256?: string;
  /**
   * Whether to load the wasm that also trains. By default, that one is loaded when training is first asked for; the model
   * is then opened again in it, and `onProgress` is called again.
   */
  training?: boolean;
}

/** A `TrustedScriptURL` of Trusted Types, which TypeScript does not declare yet. */
export interface TrustedAddress {
  toString(): string;
  toJSON(): string;
}

/** How siskin itself runs. */
export interface RuntimeOptions {
  /** False runs it on the calling thread, which handles events only between slices of computation. */
  worker?: boolean;
  /**
   * The address of the worker's script (`worker.js` of the package), if a bundler does not find it, or of Trusted Types' type
   * `TrustedScriptURL`.
   */
  workerUrl?: string | URL | TrustedAddress;
  /** The same for the worker that trains (`training-worker.js`). */
  trainingWorkerUrl?: string | URL | TrustedAddress;
  /**
   * The same for the worker that reads PDFs (`pdf-worker.js`). With `worker: false`, that script is imported: it needs this
   * address then.
   */
  pdfWorkerUrl?: string | URL | TrustedAddress;
  /** The address of the wasm file, if not next to the script. */
  wasmUrl?: string | URL;
  /** The contents of the wasm file. */
  wasmBytes?: ArrayBuffer | Uint8Array;
  /** The address of the wasm file that trains and tests kernels, if not next to the other one. */
  trainingWasmUrl?: string | URL;
  /** Its contents. */
  trainingWasmBytes?: ArrayBuffer | Uint8Array;
  /** The address of the wasm file that compiles grammars and JSON schemas, if not next to the first one. */
  grammarWasmUrl?: string | URL;
  /** Its contents. */
  grammarWasmBytes?: ArrayBuffer | Uint8Array;
  /** The base address of `hf:` references. */
  hub?: string;
}

export interface FitOptions {
  device?: "webgpu" | "cpu";
  context?: number;
  cacheType?: LoadOptions["cacheType"];
  /** Bytes to use; by default what the browser reports for the machine. */
  memory?: number;
  signal?: AbortSignal;
}

/** What to generate. */
export interface GenerateOptions {
  /** 0, the default, always chooses the most likely token. */
  temperature?: number;
  topP?: number;
  topK?: number;
  minP?: number;
  repeatPenalty?: number;
  /** From -2 to 2, as OpenAI's: subtracted from a token's logit for each time that the answer has it; the prompt does not count. */
  frequencyPenalty?: number;
  /** From -2 to 2: subtracted from a token's logit if the answer has it. */
  presencePenalty?: number;
  /** Added to the logits of tokens, by id: from -100, which bans a token, to 100. */
  logitBias?: Record<number, number>;
  /** A non-negative integer; the same seed gives the same answer. By default a new one each time. */
  seed?: number | bigint;
  maxTokens?: number;
  stop?: string[];
  /** Report this many most likely tokens for each chosen token. */
  topLogprobs?: number;
  /** Continue past tokens that end an answer. */
  ignoreEnd?: boolean;
}

export interface TokenLogprob extends TopToken {
  top: TopToken[];
}

/** How texts become vectors. */
export interface EmbedOptions {
  pooling?: "mean" | "cls" | "last";
  dimensions?: number;
  prompt?: string;
  truncate?: boolean;
}

/** Vectors, one after another. */
export interface Embedded {
  values: Float32Array;
  /** Values of each. */
  columns: number;
  /** Tokens that were read. */
  tokens: number;
}

/** Events during generation. */
export type GenerateEvent =
  | { kind: "prefill"; done: number; total: number }
  | { kind: "token"; id: number; text: string; logprob?: TokenLogprob }
  | { kind: "rest"; text: string };

export interface Generated {
  ids: number[];
  finishReason: "stop" | "length" | "cancelled";
  /** Reproduces the answer. */
  seed: number | bigint;
  promptTokens: number;
  /** Prompt tokens that were already in the cache. */
  cachedTokens: number;
  prefillSeconds: number;
  decodeSeconds: number;
}

/** A sequence that was saved. */
export interface Restored {
  /** How many of its tokens are in the KV cache now. */
  tokens: number;
  /** As it was given to `save`. */
  note: string;
}

export interface TraceOptions {
  /** Attention weights by layer and head. */
  attention?: boolean;
  /** This many most likely next tokens at each position. */
  topK?: number;
  /** The most likely token at each position, if the model ended after each layer. */
  logitLens?: boolean;
}

export interface Trace {
  tokens: Token[];
  /** `[position][rank]`. */
  top: TopToken[][];
  /** `[layer]` of `[nHeads, T, T]`; rows are queries. Empty for a layer without attention (Mamba, short convolutions, …). */
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

/** One turn of a conversation, as passed to the chat template. */
export interface Message {
  role: string;
  content: string | null;
  [field: string]: unknown;
}

/**
 * A model: the address of a GGUF file or (ending in `/`) of a Hugging Face folder; a hub reference
 * `hf:owner/repo/file.gguf`, `hf:owner/repo` or `hf:owner/repo@revision/…`; a GGUF file; or a
 * folder's files.
 */
export type ModelSource = string | URL | Blob | readonly File[];
