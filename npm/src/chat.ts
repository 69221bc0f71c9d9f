// Chat completions in OpenAI's shapes: https://platform.openai.com/docs/api-reference/chat

import { SiskinError } from "./errors.js";
import { check } from "./options.js";
import type { GenerateEvent, GenerateOptions, Generated, PromptRequest, TokenLogprob, TopToken } from "./types.js";

/**
 * A message. The type accepts what OpenAI's clients build; parts that are not text, and tool messages, are
 * refused by name.
 */
export interface ChatMessage {
  role: "system" | "developer" | "user" | "assistant" | "tool" | "function";
  content?: string | readonly { type: string }[] | null;
  name?: string;
}

export interface ChatRequest {
  messages: ChatMessage[];
  /** Echoed in the answer; there is only one model. */
  model?: string;
  stream?: boolean | null;
  stream_options?: { include_usage?: boolean } | null;
  /** 0, the default here, always chooses the most likely token. */
  temperature?: number | null;
  top_p?: number | null;
  /** Extension: samples only from this many most likely tokens. */
  top_k?: number | null;
  /** Extension: samples only from tokens at least this fraction as likely as the most likely one. */
  min_p?: number | null;
  /** Extension: values above 1 make tokens that are already in the context less likely. */
  repeat_penalty?: number | null;
  max_tokens?: number | null;
  max_completion_tokens?: number | null;
  stop?: string | string[] | null;
  /** The same seed gives the same answer; by default each answer has a new one, which it reports (`siskin.seed`). */
  seed?: number | null;
  logprobs?: boolean | null;
  top_logprobs?: number | null;
  n?: number | null;
  /** Extension: more variables for the chat template, such as `{ enable_thinking: false }`. */
  chat_template_kwargs?: Record<string, unknown> | null;
  /** Extension: parses control tokens, such as `<|im_end|>`, in the text of messages. */
  allow_special_tokens?: boolean | null;
}

/** OpenAI's fields that do not affect the answer. */
const WITHOUT_EFFECT = ["user", "metadata", "safety_identifier", "prompt_cache_key", "store", "service_tier", "parallel_tool_calls"];

const KNOWN = [
  "messages", "model", "stream", "stream_options", "temperature", "top_p", "top_k", "min_p", "repeat_penalty", "max_tokens",
  "max_completion_tokens", "stop", "seed", "logprobs", "top_logprobs", "n", "chat_template_kwargs", "allow_special_tokens",
];

/** OpenAI's fields that are not supported: only values that request nothing are accepted. */
const UNSUPPORTED = [
  "tools", "tool_choice", "functions", "function_call", "audio", "modalities", "response_format", "frequency_penalty",
  "presence_penalty", "logit_bias", "prediction", "reasoning_effort", "verbosity", "web_search_options",
];

function asksForNothing(key: string, value: unknown): boolean {
  if (value == null || value === false) return true;
  switch (key) {
    case "response_format":
      return (value as { type?: unknown }).type === "text";
    case "tool_choice":
      return value === "none" || value === "auto";
    case "modalities":
      return Array.isArray(value) && value.every((m) => m === "text");
    case "frequency_penalty":
    case "presence_penalty":
      return value === 0;
    case "logit_bias":
      return Object.keys(value).length === 0;
    default:
      return Array.isArray(value) && value.length === 0;
  }
}

/** Refuses unknown fields by name, so that nothing requested is silently ignored. */
function checkFields(request: object): void {
  for (const [key, value] of Object.entries(request)) {
    if (KNOWN.includes(key) || WITHOUT_EFFECT.includes(key)) continue;
    if (!UNSUPPORTED.includes(key)) throw invalid(`a request has no field \`${key}\``);
    if (!asksForNothing(key, value)) throw invalid(`\`${key}\` is not supported`);
  }
}

/** `include_usage` adds usage at the end of the stream; `include_obfuscation` pads network traffic, of which there is none. */
function checkStreamOptions(options: unknown): void {
  if (options == null) return;
  const isObject = typeof options === "object" && !Array.isArray(options);
  const known = (key: string, value: unknown) => (key === "include_usage" || key === "include_obfuscation") && typeof value === "boolean";
  if (isObject && Object.entries(options).every(([key, value]) => known(key, value))) return;
  throw invalid(`\`stream_options\` is ${JSON.stringify(options)}; use { include_usage: true or false }`);
}

export interface RequestOptions {
  signal?: AbortSignal | null;
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

export type FinishReason = "stop" | "length";

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
}

/** Extension: what was generated, and how fast. */
export type Details = Pick<Generated, "ids" | "prefillSeconds" | "decodeSeconds"> & { seed: number };

export interface ChatCompletion {
  id: string;
  object: "chat.completion";
  created: number;
  model: string;
  choices: {
    index: number;
    finish_reason: FinishReason;
    logprobs: Logprobs | null;
    message: { role: "assistant"; content: string | null; refusal: null };
  }[];
  usage: Usage;
  siskin: Details;
}

export interface ChatCompletionChunk {
  id: string;
  object: "chat.completion.chunk";
  created: number;
  model: string;
  choices: {
    index: number;
    delta: { role?: "assistant"; content?: string | null };
    finish_reason: FinishReason | null;
    logprobs?: Logprobs | null;
  }[];
  usage?: Usage | null;
  /** In the last chunk. */
  siskin?: Details;
}

/** A streamed answer. Leaving the loop, or calling `controller.abort()`, stops it. */
export interface ChatStream extends AsyncIterable<ChatCompletionChunk> {
  controller: AbortController;
}

/** What completions need from a model. */
export interface Generator {
  readonly name: string;
  promptOf(request: PromptRequest): Promise<Uint32Array>;
  generate(
    prompt: Uint32Array,
    options: GenerateOptions,
    onEvent: (e: GenerateEvent) => void,
    signal?: AbortSignal,
  ): Promise<Generated>;
}

const invalid = (message: string) => new SiskinError("invalid_request", message);

/** Fields of a message that are passed to templates. */
const MESSAGE_FIELDS = ["role", "content", "name", "reasoning_content"];

function messageOf(message: unknown, i: number): object {
  if (typeof message !== "object" || message === null) throw invalid(`messages[${i}] is not an object`);
  const { role, content, ...rest } = message as Record<string, unknown>;
  if (!["system", "developer", "user", "assistant"].includes(role as string)) {
    throw invalid(`messages[${i}].role is ${JSON.stringify(role)}; use system, user or assistant`);
  }
  for (const [key, value] of Object.entries(rest)) {
    const asksForNothing = value == null || (Array.isArray(value) && value.length === 0);
    if (!MESSAGE_FIELDS.includes(key) && !asksForNothing) throw invalid(`messages[${i}].${key} is not supported`);
  }
  const parts: unknown[] = Array.isArray(content) ? content : [{ type: "text", text: content }];
  const text = parts.map((part, j) => {
    const { type, text } = (part ?? {}) as { type?: unknown; text?: unknown };
    if (type !== undefined && type !== "text") throw invalid(`messages[${i}].content[${j}] is ${JSON.stringify(type)}; only text is supported`);
    if (typeof text !== "string") throw invalid(`messages[${i}].content must be text, or a list of text parts`);
    return text;
  });
  const given = Object.fromEntries(Object.entries(rest).filter(([key, value]) => MESSAGE_FIELDS.includes(key) && value != null));
  return { role: role === "developer" ? "system" : role, content: text.join(""), ...given };
}

function optionsOf(request: ChatRequest): GenerateOptions {
  if (typeof request !== "object" || request === null) throw invalid("a request must be an object with `messages`");
  checkFields(request);
  if (request.n != null && request.n !== 1) throw invalid("`n` must be 1");
  const integer = (name: "max_tokens" | "max_completion_tokens" | "seed" | "top_k" | "top_logprobs", max: number) => {
    const value = request[name];
    if (value != null && !(Number.isSafeInteger(value) && value >= 0 && value <= max)) {
      throw invalid(`\`${name}\` is ${value}; it must be an integer from 0 to ${max}`);
    }
    return value ?? undefined;
  };
  const number = (name: "temperature" | "top_p" | "min_p" | "repeat_penalty") => {
    const value = request[name];
    if (value != null && !Number.isFinite(value)) throw invalid(`\`${name}\` is ${value}; it must be a number`);
    return value ?? undefined;
  };
  for (const name of ["stream", "logprobs", "allow_special_tokens"] as const) {
    const value: unknown = request[name];
    if (value != null && typeof value !== "boolean") throw invalid(`\`${name}\` is ${JSON.stringify(value)}; it must be true or false`);
  }
  checkStreamOptions(request.stream_options);
  const stop = request.stop == null ? [] : [request.stop].flat();
  if (!stop.every((s) => typeof s === "string")) throw invalid("`stop` must be a string or a list of strings");
  const top = integer("top_logprobs", 20);
  if (top !== undefined && !request.logprobs) throw invalid("`top_logprobs` needs `logprobs: true`");
  const options = {
    temperature: number("temperature"),
    topP: number("top_p"),
    minP: number("min_p"),
    repeatPenalty: number("repeat_penalty"),
    topK: integer("top_k", 2 ** 32 - 1),
    seed: integer("seed", Number.MAX_SAFE_INTEGER),
    maxTokens: integer("max_completion_tokens", 2 ** 31) ?? integer("max_tokens", 2 ** 31),
    stop,
    topLogprobs: request.logprobs ? (top ?? 0) : undefined,
  };
  return Object.fromEntries(Object.entries(options).filter(([, v]) => v !== undefined));
}

/** Chat completions of one model. */
export class Completions {
  constructor(private readonly model: Generator) {}

  create(request: ChatRequest & { stream: true }, options?: RequestOptions): Promise<ChatStream>;
  create(request: ChatRequest & { stream?: false | null }, options?: RequestOptions): Promise<ChatCompletion>;
  create(request: ChatRequest, options?: RequestOptions): Promise<ChatStream | ChatCompletion>;
  async create(request: ChatRequest, requestOptions: RequestOptions = {}): Promise<ChatStream | ChatCompletion> {
    check("create", requestOptions);
    const { signal } = requestOptions;
    const options = optionsOf(request);
    if (!Array.isArray(request.messages) || request.messages.length === 0) {
      throw invalid("`messages` must be a list of at least one message");
    }
    const kwargs = request.chat_template_kwargs ?? {};
    if (typeof kwargs !== "object" || Array.isArray(kwargs)) throw invalid("`chat_template_kwargs` must be an object");
    const prompt = await this.model.promptOf({
      messages: request.messages.map(messageOf),
      chat_template_kwargs: kwargs,
      allow_special_tokens: request.allow_special_tokens ?? false,
    });
    const controller = new AbortController();
    if (signal?.aborted) controller.abort();
    signal?.addEventListener("abort", () => controller.abort(), { signal: controller.signal });
    const events = this.#run(prompt, options, controller);
    const head = {
      id: `chatcmpl-${crypto.randomUUID?.() ?? Math.random().toString(36).slice(2)}`,
      created: Math.floor(Date.now() / 1000),
      model: request.model ?? this.model.name,
    };
    if (request.stream) {
      const withUsage = request.stream_options?.include_usage ?? false;
      return { controller, [Symbol.asyncIterator]: () => this.#chunks(head, events, controller, withUsage) };
    }
    let content = "";
    const logprobs: ChatTokenLogprob[] = [];
    for await (const event of events) {
      if (event.kind === "token" || event.kind === "rest") content += event.text;
      if (event.kind === "token" && event.logprob) logprobs.push(logprobOf(event.logprob));
      if (event.kind !== "end") continue;
      if (event.answer.finishReason === "cancelled") throw new SiskinError("aborted", "aborted by the page");
      return {
        ...head,
        object: "chat.completion",
        choices: [
          {
            index: 0,
            finish_reason: event.answer.finishReason,
            logprobs: request.logprobs ? { content: logprobs, refusal: null } : null,
            message: { role: "assistant", content, refusal: null },
          },
        ],
        usage: usageOf(event.answer),
        siskin: detailsOf(event.answer),
      };
    }
    throw new SiskinError("aborted", "aborted by the page");
  }

  /** The events of one answer, including its end, as an async generator. */
  async *#run(prompt: Uint32Array, options: GenerateOptions, controller: AbortController): AsyncGenerator<RunEvent> {
    const queue: RunEvent[] = [];
    let wake = () => {};
    let failure: unknown;
    let done = false;
    const push = (event: RunEvent) => {
      queue.push(event);
      wake();
    };
    void this.model.generate(prompt, options, push, controller.signal).then(
      (answer) => push({ kind: "end", answer }),
      (thrown: unknown) => {
        [failure, done] = [thrown, true];
        wake();
      },
    );
    try {
      while (!done) {
        const event = queue.shift();
        if (event) {
          done = event.kind === "end";
          yield event;
        } else {
          await new Promise<void>((resolve) => (wake = resolve));
        }
      }
      if (failure !== undefined) throw failure;
    } finally {
      controller.abort();
    }
  }

  async *#chunks(
    head: Pick<ChatCompletionChunk, "id" | "created" | "model">,
    events: AsyncGenerator<RunEvent>,
    controller: AbortController,
    withUsage: boolean,
  ): AsyncGenerator<ChatCompletionChunk> {
    type Choice = ChatCompletionChunk["choices"][number];
    const chunk = (delta: Choice["delta"], rest: Partial<Choice> = {}): ChatCompletionChunk => ({
      ...head,
      object: "chat.completion.chunk",
      choices: [{ index: 0, delta, finish_reason: null, ...rest }],
    });
    yield chunk({ role: "assistant", content: "" });
    try {
      for await (const event of events) {
        if (event.kind === "token") {
          const logprobs = event.logprob && { content: [logprobOf(event.logprob)], refusal: null };
          if (event.text || logprobs) yield chunk({ content: event.text }, logprobs && { logprobs });
        } else if (event.kind === "rest") {
          yield chunk({ content: event.text });
        } else if (event.kind === "end" && event.answer.finishReason !== "cancelled") {
          const last = chunk({}, { finish_reason: event.answer.finishReason });
          yield { ...last, siskin: detailsOf(event.answer) };
          if (withUsage) yield { ...last, choices: [], usage: usageOf(event.answer) };
        }
      }
    } catch (thrown) {
      // A stream stopped by its reader simply ends, as OpenAI's does.
      if (!(controller.signal.aborted && SiskinError.from(thrown).code === "aborted")) throw thrown;
    }
  }
}

/** A token's text is decoded from its bytes, which may be part of a character. */
function logprobOf({ top, ...chosen }: TokenLogprob): ChatTokenLogprob {
  const shape = ({ bytes, logprob }: TopToken): TopLogprob => ({ token: new TextDecoder().decode(Uint8Array.from(bytes)), bytes, logprob });
  return { ...shape(chosen), top_logprobs: top.map(shape) };
}

type RunEvent = GenerateEvent | { kind: "end"; answer: Generated };

const usageOf = (a: Generated): Usage => ({
  prompt_tokens: a.promptTokens,
  completion_tokens: a.ids.length,
  total_tokens: a.promptTokens + a.ids.length,
  prompt_tokens_details: { cached_tokens: a.cachedTokens },
});

const detailsOf = ({ ids, seed, prefillSeconds, decodeSeconds }: Generated): Details => ({ ids, seed: Number(seed), prefillSeconds, decodeSeconds });
