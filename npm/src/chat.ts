// Chat completions in OpenAI's shapes: https://platform.openai.com/docs/api-reference/chat
// Requests are read, and answers are shaped, by the wasm: what is not known is refused there, by name.

import { ask, type Exchanger, type ReplyStream, type RequestOptions } from "./exchange.js";
import { runTools, type RunToolsOptions, type RunToolsRequest, type ToolRun } from "./run-tools.js";

/** A message. The type accepts what OpenAI's clients build; parts that are not text are refused by name. */
export interface ChatMessage {
  role: "system" | "developer" | "user" | "assistant" | "tool" | "function";
  content?: string | readonly { type: string }[] | null;
  name?: string;
  /** What the assistant thought before it answered. */
  reasoning_content?: string | null;
  /** Of the assistant. */
  tool_calls?: readonly object[];
  /** The call that a tool's message answers. */
  tool_call_id?: string;
}

/** A tool that the model may call. */
export interface ChatTool {
  type: "function";
  function: {
    name: string;
    description?: string;
    /** A JSON schema of an object. Arguments always fit it where a call is required. */
    parameters?: Record<string, unknown>;
    strict?: boolean | null;
  };
}

/** A call of a tool. */
export interface ChatToolCall {
  id: string;
  type: "function";
  /** The arguments are JSON, as text. */
  function: { name: string; arguments: string };
}

/** What an answer must look like. */
export type ResponseFormat =
  | { type: "text" }
  | { type: "json_object" }
  | { type: "json_schema"; json_schema: { name: string; description?: string; schema?: Record<string, unknown>; strict?: boolean | null } };

/** What chat and text completions have in common. */
export interface CommonRequest {
  /** Echoed in the answer; there is only one model. */
  model?: string;
  stream?: boolean | null;
  stream_options?: { include_usage?: boolean; include_obfuscation?: boolean } | null;
  /** 0, the default here, always chooses the most likely token. */
  temperature?: number | null;
  top_p?: number | null;
  /** Extension: samples only from this many most likely tokens. */
  top_k?: number | null;
  /** Extension: samples only from tokens at least this fraction as likely as the most likely one. */
  min_p?: number | null;
  /** Extension: values above 1 make tokens that are already in the context less likely. */
  repeat_penalty?: number | null;
  /** Makes tokens less likely for each time that the answer has them already, from -2 to 2. */
  frequency_penalty?: number | null;
  /** Makes tokens less likely that the answer has already, from -2 to 2. */
  presence_penalty?: number | null;
  /** What is added to the logits of tokens, by id, from -100 to 100. */
  logit_bias?: Record<string, number> | null;
  max_tokens?: number | null;
  stop?: string | string[] | null;
  /** The same seed gives the same answer; by default each answer has a new one, which it reports (`siskin.seed`). */
  seed?: number | null;
  /** Answers to the prompt, side by side; with a seed, the others have the following seeds. */
  n?: number | null;
  /** Extension: a grammar in llguidance's dialect of Lark. */
  grammar?: string | null;
  /** Extension: a regular expression that matches the whole answer. */
  regex?: string | null;
  /** Extension: the answer is one of these. */
  choice?: string[] | null;
}

export interface ChatRequest extends CommonRequest {
  messages: ChatMessage[];
  max_completion_tokens?: number | null;
  logprobs?: boolean | null;
  top_logprobs?: number | null;
  response_format?: ResponseFormat | null;
  tools?: ChatTool[] | null;
  tool_choice?: "auto" | "none" | "required" | { type: "function"; function: { name: string } } | null;
  parallel_tool_calls?: boolean | null;
  /** Extension: more variables for the chat template, such as `{ enable_thinking: false }`. */
  chat_template_kwargs?: Record<string, unknown> | null;
  /** Extension: parses control tokens, such as `<|im_end|>`, in the text of messages. */
  allow_special_tokens?: boolean | null;
}

export interface TopLogprob {
  token: string;
  bytes: number[] | null;
  logprob: number;
}

export interface ChatTokenLogprob extends TopLogprob {
  top_logprobs: TopLogprob[];
}

export interface Logprobs {
  content: ChatTokenLogprob[] | null;
  refusal: null;
}

export type FinishReason = "stop" | "length" | "tool_calls";

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
  /** Guesses of the next tokens that were right and wrong, if there were any. */
  completion_tokens_details?: { accepted_prediction_tokens: number; rejected_prediction_tokens: number };
}

/** Extension: what was generated, what it can be repeated with, and how fast it was. */
export interface Details {
  ids: number[];
  seed: number;
  prefill_seconds: number;
  decode_seconds: number;
  /** Tokens that were guessed (`draft`), and those of them that were right. */
  guessed_tokens: number;
  right_guesses: number;
}

/** An assistant's message. */
export interface AnswerMessage {
  role: "assistant";
  content: string | null;
  refusal: null;
  /** What the model thought before it answered. */
  reasoning_content?: string;
  tool_calls?: ChatToolCall[];
}

export interface ChatCompletion {
  id: string;
  object: "chat.completion";
  created: number;
  model: string;
  choices: { index: number; finish_reason: FinishReason; logprobs: Logprobs | null; message: AnswerMessage }[];
  usage: Usage;
  siskin: Details;
}

/** What a chunk adds to the message. */
export interface Delta {
  role?: "assistant";
  content?: string | null;
  reasoning_content?: string;
  /** Calls come whole. */
  tool_calls?: (ChatToolCall & { index: number })[];
}

export interface ChatCompletionChunk {
  id: string;
  object: "chat.completion.chunk";
  created: number;
  model: string;
  choices: { index: number; delta: Delta; finish_reason: FinishReason | null; logprobs?: Logprobs | null }[];
  usage?: Usage | null;
  /** In the last chunk of an answer. */
  siskin?: Details;
}

/** A streamed answer. Leaving the loop, or calling `controller.abort()`, stops it. */
export type ChatStream = ReplyStream<ChatCompletionChunk>;

/** Chat completions of one model. */
export class Completions {
  constructor(private readonly model: Exchanger) {}

  create(request: ChatRequest & { stream: true }, options?: RequestOptions): Promise<ChatStream>;
  create(request: ChatRequest & { stream?: false | null }, options?: RequestOptions): Promise<ChatCompletion>;
  create(request: ChatRequest, options?: RequestOptions): Promise<ChatStream | ChatCompletion>;
  create(request: ChatRequest, options: RequestOptions = {}): Promise<ChatStream | ChatCompletion> {
    return ask(this.model, "/v1/chat/completions", request, options);
  }

  /** Answers, runs the tools that the model calls, and answers again with their results, until it calls none. */
  runTools(request: RunToolsRequest, options: RunToolsOptions = {}): ToolRun {
    return runTools(this, request, options);
  }
}
