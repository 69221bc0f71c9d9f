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
  /** Answers to the prompt, side by side; with a seed, the others have the following seeds. */
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
  const integer = (name: "max_tokens" | "max_completion_tokens" | "seed" | "top_k" | "top_logprobs" | "n", max: number) => {
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
  integer("n", 128);
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
    if (request.n === 0) throw invalid("`n` is 0; it must be an integer from 1 to 128");
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
    // Answers to one prompt differ, and can be repeated together.
    const seed = options.seed ?? crypto.getRandomValues(new Uint32Array(1))[0]!;
    const answers = Array.from({ length: request.n ?? 1 }, (_, i) => ({ ...options, seed: Number(seed) + i }));
    const events = this.#run(prompt, answers, controller);
    const head = {
      id: `chatcmpl-${crypto.randomUUID?.() ?? Math.random().toString(36).slice(2)}`,
      created: Math.floor(Date.now() / 1000),
      model: request.model ?? this.model.name,
    };
    if (request.stream) {
      const withUsage = request.stream_options?.include_usage ?? false;
      return { controller, [Symbol.asyncIterator]: () => this.#chunks(head, events, controller, answers.length, withUsage) };
    }
    const choices = answers.map((_, index) => ({ index, content: "", logprobs: [] as ChatTokenLogprob[] }));
    const ended: Generated[] = [];
    for await (const [index, event] of events) {
      const choice = choices[index]!;
      if (event.kind === "token" || event.kind === "rest") choice.content += event.text;
      if (event.kind === "token" && event.logprob) choice.logprobs.push(logprobOf(event.logprob));
      if (event.kind === "end") ended[index] = event.answer;
    }
    return {
      ...head,
      object: "chat.completion",
      choices: choices.map(({ index, content, logprobs }) => {
        const { finishReason } = ended[index]!;
        if (finishReason === "cancelled") throw new SiskinError("aborted", "aborted by the page");
        return {
          index,
          finish_reason: finishReason,
          logprobs: request.logprobs ? { content: logprobs, refusal: null } : null,
          message: { role: "assistant", content, refusal: null },
        };
      }),
      usage: usageOf(ended),
      siskin: detailsOf(ended[0]!),
    };
  }

  /** The events of all answers with the index of each, including their ends, as an async generator. */
  async *#run(prompt: Uint32Array, answers: GenerateOptions[], controller: AbortController): AsyncGenerator<[number, RunEvent]> {
    const queue: [number, RunEvent][] = [];
    let wake = () => {};
    let failure: unknown;
    let [left, failed] = [answers.length, false];
    const push = (index: number, event: RunEvent) => {
      queue.push([index, event]);
      wake();
    };
    answers.forEach((options, index) => {
      void this.model.generate(prompt, options, (event) => push(index, event), controller.signal).then(
        (answer) => push(index, { kind: "end", answer }),
        (thrown: unknown) => {
          [failure, failed] = [thrown, true];
          wake();
        },
      );
    });
    try {
      while (left > 0 && !failed) {
        const event = queue.shift();
        if (event) {
          if (event[1].kind === "end") left -= 1;
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
    events: AsyncGenerator<[number, RunEvent]>,
    controller: AbortController,
    n: number,
    withUsage: boolean,
  ): AsyncGenerator<ChatCompletionChunk> {
    type Choice = ChatCompletionChunk["choices"][number];
    const chunk = (index: number, delta: Choice["delta"], rest: Partial<Choice> = {}): ChatCompletionChunk => ({
      ...head,
      object: "chat.completion.chunk",
      choices: [{ index, delta, finish_reason: null, ...rest }],
    });
    for (let index = 0; index < n; index++) yield chunk(index, { role: "assistant", content: "" });
    const ended: Generated[] = [];
    try {
      for await (const [index, event] of events) {
        if (event.kind === "token") {
          const logprobs = event.logprob && { content: [logprobOf(event.logprob)], refusal: null };
          if (event.text || logprobs) yield chunk(index, { content: event.text }, logprobs && { logprobs });
        } else if (event.kind === "rest") {
          yield chunk(index, { content: event.text });
        } else if (event.kind === "end" && event.answer.finishReason !== "cancelled") {
          ended.push(event.answer);
          const last = chunk(index, {}, { finish_reason: event.answer.finishReason });
          yield { ...last, siskin: detailsOf(event.answer) };
          if (withUsage && ended.length === n) yield { ...last, choices: [], usage: usageOf(ended) };
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

/** The prompt counts once for all of its answers. */
function usageOf(answers: Generated[]): Usage {
  const { promptTokens, cachedTokens } = answers[0]!;
  const completion = answers.reduce((sum, a) => sum + a.ids.length, 0);
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completion,
    total_tokens: promptTokens + completion,
    prompt_tokens_details: { cached_tokens: cachedTokens },
  };
}

const detailsOf = ({ ids, seed, prefillSeconds, decodeSeconds }: Generated): Details => ({ ids, seed: Number(seed), prefillSeconds, decodeSeconds });
