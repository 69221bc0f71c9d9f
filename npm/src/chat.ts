// Chat completions in OpenAI's shapes: https://platform.openai.com/docs/api-reference/chat

import { SiskinError } from "./errors.js";
import type { GenerateEvent, GenerateOptions, Generated, Message, TokenLogprob } from "./types.js";

export interface ChatMessage {
  role: "system" | "developer" | "user" | "assistant";
  content: string | { type: "text"; text: string }[];
  name?: string;
}

export interface ChatRequest {
  messages: ChatMessage[];
  /** Taken for what the answer says; there is one model. */
  model?: string;
  stream?: boolean | null;
  stream_options?: { include_usage?: boolean } | null;
  /** 0, the default here, always takes the likeliest token. */
  temperature?: number | null;
  top_p?: number | null;
  /** Extension: only the likeliest so many. */
  top_k?: number | null;
  /** Extension: only those at least this likely, measured by the likeliest. */
  min_p?: number | null;
  /** Extension: above 1, tokens that were there already are less likely. */
  repeat_penalty?: number | null;
  max_tokens?: number | null;
  max_completion_tokens?: number | null;
  stop?: string | string[] | null;
  seed?: number | null;
  logprobs?: boolean | null;
  top_logprobs?: number | null;
  n?: number | null;
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
export type Details = Pick<Generated, "ids" | "prefillSeconds" | "decodeSeconds">;

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

/** An answer as it comes. Leaving the loop, or `controller.abort()`, stops it. */
export interface ChatStream extends AsyncIterable<ChatCompletionChunk> {
  controller: AbortController;
}

/** What completions need of a model. */
export interface Generator {
  readonly name: string;
  promptOf(messages: Message[]): Promise<Uint32Array>;
  decode(ids: Uint32Array): Promise<string>;
  generate(
    prompt: Uint32Array,
    options: GenerateOptions,
    onEvent: (e: GenerateEvent) => void,
    signal?: AbortSignal,
  ): Promise<Generated>;
}

const invalid = (message: string) => new SiskinError("invalid_request", message);

function messageOf(message: unknown, i: number): Message {
  const { role, content } = (message ?? {}) as Partial<ChatMessage>;
  if (!["system", "developer", "user", "assistant"].includes(role as string)) {
    throw invalid(`messages[${i}].role is ${JSON.stringify(role)}; give system, user or assistant`);
  }
  const text = Array.isArray(content) ? content.map((part) => part?.text) : [content];
  if (!text.every((t) => typeof t === "string")) {
    throw invalid(`messages[${i}].content must be text, or a list of text parts`);
  }
  return { role: role === "developer" ? "system" : role!, content: text.join("") };
}

function optionsOf(request: ChatRequest): GenerateOptions {
  if (typeof request !== "object" || request === null) throw invalid("give an object with `messages`");
  for (const key of ["tools", "functions", "audio", "response_format"]) {
    if ((request as object as Record<string, unknown>)[key] != null) throw invalid(`\`${key}\` is not supported`);
  }
  if (request.n != null && request.n !== 1) throw invalid("`n` must be 1");
  const integer = (name: "max_tokens" | "max_completion_tokens" | "seed" | "top_k" | "top_logprobs", max: number) => {
    const value = request[name];
    if (value != null && !(Number.isSafeInteger(value) && value >= 0 && value <= max)) {
      throw invalid(`\`${name}\` is ${value}; give an integer from 0 to ${max}`);
    }
    return value ?? undefined;
  };
  const number = (name: "temperature" | "top_p" | "min_p" | "repeat_penalty") => {
    const value = request[name];
    if (value != null && !Number.isFinite(value)) throw invalid(`\`${name}\` is ${value}; give a number`);
    return value ?? undefined;
  };
  const stop = request.stop == null ? [] : [request.stop].flat();
  if (!stop.every((s) => typeof s === "string")) throw invalid("`stop` must be a string or a list of strings");
  const top = integer("top_logprobs", 20);
  if (top !== undefined && !request.logprobs) throw invalid("`top_logprobs` needs `logprobs: true`");
  const options = {
    temperature: number("temperature"),
    top_p: number("top_p"),
    min_p: number("min_p"),
    repeat_penalty: number("repeat_penalty"),
    top_k: integer("top_k", 2 ** 32 - 1),
    seed: integer("seed", Number.MAX_SAFE_INTEGER),
    max_tokens: integer("max_completion_tokens", 2 ** 31) ?? integer("max_tokens", 2 ** 31),
    stop,
    top_logprobs: request.logprobs ? (top ?? 0) : undefined,
  };
  return Object.fromEntries(Object.entries(options).filter(([, v]) => v !== undefined));
}

/** Answers requests on one model. */
export class Completions {
  constructor(private readonly model: Generator) {}

  create(request: ChatRequest & { stream: true }, options?: RequestOptions): Promise<ChatStream>;
  create(request: ChatRequest & { stream?: false | null }, options?: RequestOptions): Promise<ChatCompletion>;
  create(request: ChatRequest, options?: RequestOptions): Promise<ChatStream | ChatCompletion>;
  async create(request: ChatRequest, { signal }: RequestOptions = {}): Promise<ChatStream | ChatCompletion> {
    const options = optionsOf(request);
    if (!Array.isArray(request.messages) || request.messages.length === 0) {
      throw invalid("`messages` must be a list of at least one message");
    }
    const prompt = await this.model.promptOf(request.messages.map(messageOf));
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
      if (event.kind === "token" && event.logprob) logprobs.push(await this.#logprob(event.logprob));
      if (event.kind !== "end") continue;
      if (event.answer.finishReason === "cancelled") throw new SiskinError("aborted", "stopped by the page");
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
    throw new SiskinError("aborted", "stopped by the page");
  }

  /** The events of one answer, and its end, as something that can be waited for. */
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
          const logprobs = event.logprob && { content: [await this.#logprob(event.logprob)], refusal: null };
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
      // A stream that its reader stopped just ends, as OpenAI's does.
      if (!(controller.signal.aborted && SiskinError.from(thrown).code === "aborted")) throw thrown;
    }
  }

  async #logprob({ top, ...chosen }: TokenLogprob): Promise<ChatTokenLogprob> {
    const shape = async ({ id, piece, logprob }: { id: number; piece: string; logprob: number }): Promise<TopLogprob> => {
      // Special tokens have no text: they go by their name.
      const token = (await this.model.decode(Uint32Array.of(id))) || piece;
      const isPart = token.includes("\ufffd");
      return { token, bytes: isPart ? null : [...new TextEncoder().encode(token)], logprob };
    };
    return { ...(await shape(chosen)), top_logprobs: await Promise.all(top.map(shape)) };
  }
}

type RunEvent = GenerateEvent | { kind: "end"; answer: Generated };

const usageOf = (a: Generated): Usage => ({
  prompt_tokens: a.promptTokens,
  completion_tokens: a.ids.length,
  total_tokens: a.promptTokens + a.ids.length,
  prompt_tokens_details: { cached_tokens: a.cachedTokens },
});

const detailsOf = ({ ids, prefillSeconds, decodeSeconds }: Generated): Details => ({ ids, prefillSeconds, decodeSeconds });
