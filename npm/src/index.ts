/// <reference lib="dom" preserve="true" />
/// <reference lib="dom.iterable" preserve="true" />
export type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatMessage,
  ChatRequest,
  ChatStream,
  ChatTokenLogprob,
  Completions,
  RequestOptions,
  TopLogprob,
  Usage,
} from "./chat.js";
export type {
  EmbeddingOf,
  EmbeddingRequest,
  EmbeddingResponse,
  Embeddings,
  RerankRequest,
  RerankResponse,
} from "./embeddings.js";
export { SiskinError, type SiskinErrorCode } from "./errors.js";
export { Inspected, Siskin, type Tokenizer } from "./siskin.js";
export type { CachedFile } from "./store.js";
export type * from "./types.js";
export type {
  Adapters,
  Dataset,
  Example,
  ExamplePreview,
  LoraAdapter,
  TrainOptions,
  TrainPlan,
  TrainStep,
  TrainSummary,
  Training,
} from "./train.js";
