// The types of the Prompt API: https://webmachinelearning.github.io/prompt-api/

import type { LoadOptions, RuntimeOptions } from "./types.js";

export type { LoadedModel } from "./loaded.js";

/** How a model is loaded. */
export type LanguageModelLoadOptions = Omit<LoadOptions, "onProgress" | "signal"> & RuntimeOptions;

export type LanguageModelRole = "system" | "user" | "assistant";
export type LanguageModelContentType = "text" | "image" | "audio" | "tool-call" | "tool-response";
export type LanguageModelAvailability = "unavailable" | "downloadable" | "downloading" | "available";
export type LanguageModelSamplingMode = "most-predictable" | "predictable" | "balanced" | "creative" | "most-creative";

export interface LanguageModelMessage {
  role: LanguageModelRole;
  content: string | readonly { type: LanguageModelContentType; value: unknown }[];
  /** The answer continues this message, which must be the assistant's and the last one. */
  prefix?: boolean;
}

export type LanguageModelPrompt = string | readonly LanguageModelMessage[];

export interface LanguageModelExpected {
  type: LanguageModelContentType;
  languages?: readonly string[];
}

export interface LanguageModelCoreOptions {
  temperature?: number;
  topK?: number;
  samplingMode?: LanguageModelSamplingMode;
  expectedInputs?: readonly LanguageModelExpected[];
  expectedOutputs?: readonly LanguageModelExpected[];
  /** Not supported. */
  tools?: readonly object[];
}

export interface LanguageModelCreateOptions extends LanguageModelCoreOptions {
  /** Stops the creation, and destroys the session later. */
  signal?: AbortSignal;
  /** Receives an object whose `downloadprogress` events have a `loaded` from 0 to 1. */
  monitor?: (monitor: LanguageModelMonitor) => void;
  initialPrompts?: readonly LanguageModelMessage[];
}

export interface LanguageModelMonitor extends EventTarget {
  ondownloadprogress: ((event: Event) => unknown) | null;
}

export interface LanguageModelPromptOptions {
  /** A JSON schema. */
  responseConstraint?: object;
  omitResponseConstraintInput?: boolean;
  signal?: AbortSignal;
}

export interface LanguageModelParams {
  defaultTopK: number;
  maxTopK: number;
  defaultTemperature: number;
  maxTemperature: number;
}

/** A session: a conversation of its own. */
export interface LanguageModel extends EventTarget {
  prompt(input: LanguageModelPrompt, options?: LanguageModelPromptOptions): Promise<string>;
  /** Its chunks are parts of the answer, to be joined. */
  promptStreaming(input: LanguageModelPrompt, options?: LanguageModelPromptOptions): ReadableStream<string>;
  append(input: LanguageModelPrompt, options?: { signal?: AbortSignal }): Promise<undefined>;
  /** Tokens that messages need by themselves. */
  measureContextUsage(input: LanguageModelPrompt, options?: LanguageModelPromptOptions): Promise<number>;
  clone(options?: { signal?: AbortSignal }): Promise<LanguageModel>;
  destroy(): void;
  /** Tokens of the conversation. */
  readonly contextUsage: number;
  readonly contextWindow: number;
  oncontextoverflow: ((event: Event) => unknown) | null;
  readonly temperature: number;
  readonly topK: number;
  /** Undefined if `temperature` or `topK` was given. */
  readonly samplingMode: LanguageModelSamplingMode | undefined;
  /** @deprecated It is `measureContextUsage`. */
  measureInputUsage(input: LanguageModelPrompt, options?: LanguageModelPromptOptions): Promise<number>;
  /** @deprecated It is `contextUsage`. */
  readonly inputUsage: number;
  /** @deprecated It is `contextWindow`. */
  readonly inputQuota: number;
  /** @deprecated It is `oncontextoverflow`. */
  onquotaoverflow: ((event: Event) => unknown) | null;
}

/** What a page finds as `LanguageModel`. */
export interface LanguageModelFactory {
  readonly prototype: LanguageModel;
  /** For `instanceof`. */
  [Symbol.hasInstance](value: unknown): boolean;
  availability(options?: LanguageModelCoreOptions): Promise<LanguageModelAvailability>;
  create(options?: LanguageModelCreateOptions): Promise<LanguageModel>;
  params(): Promise<LanguageModelParams | null>;
  /** Extension: frees the model; sessions cannot be used any more. It is loaded again by the next `create`. */
  unload(): void;
}
