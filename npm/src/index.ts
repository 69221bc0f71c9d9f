/// <reference lib="dom" preserve="true" />
/// <reference lib="dom.iterable" preserve="true" />
export type {
  AnswerMessage,
  ChatCompletion,
  ChatCompletionChunk,
  ChatMessage,
  ChatRequest,
  ChatStream,
  ChatTokenLogprob,
  ChatTool,
  ChatToolCall,
  Completions,
  Delta,
  Details,
  ResponseFormat,
  TopLogprob,
  Usage,
} from "./chat.js";
export type {
  AddOptions,
  AddProgress,
  DamagedDocument,
  DocumentIndex,
  DocumentRequest,
  DocumentSource,
  DocumentType,
  Documents,
  ListedDocument,
  OpenDocumentsOptions,
  Passage,
  Sources,
} from "./documents.js";
export type {
  EmbeddingOf,
  EmbeddingRequest,
  EmbeddingResponse,
  Embeddings,
  RerankRequest,
  RerankResponse,
} from "./embeddings.js";
export type { ReplyStream, RequestOptions } from "./exchange.js";
export { SiskinError, type SiskinErrorCode } from "./errors.js";
export type { ResponseAnswer, ResponseCall, ResponseEvent, ResponseMessage, ResponseReasoning, ResponseRequest, Responses } from "./responses.js";
export type { RunnableTool, RunToolsOptions, RunToolsRequest, ToolRun, ToolStep } from "./run-tools.js";
export { Inspected, Siskin, type Tokenizer } from "./siskin.js";
export type { CachedFile } from "./store.js";
export type { TextCompletion, TextCompletions, TextRequest } from "./text-completions.js";
export type * from "./types.js";
export type {
  Adapters,
  Dataset,
  DrawnAnswer,
  Example,
  ExamplePreview,
  LoraAdapter,
  Preference,
  PreferenceDataset,
  Prompt,
  RatedAnswer,
  Reward,
  RunOptions,
  TrainExample,
  TrainOptions,
  TrainPlan,
  TrainStep,
  TrainSummary,
  Training,
} from "./train.js";
export { rewards } from "./rewards.js";
