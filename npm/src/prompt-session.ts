// A session of the Prompt API: a conversation whose calls run one after another.

import type { ChatMessage, ChatRequest } from "./chat.js";
import { SiskinError } from "./errors.js";
import type { LoadedModel } from "./loaded.js";
import { domError, promptError, quotaExceeded, unlessAborted } from "./prompt-errors.js";
import { canonicalize, convert, responseFormat, type Constraint, type GivenMessage, type Sampling, type Turn } from "./prompt-input.js";
import type { LanguageModel, LanguageModelPrompt, LanguageModelPromptOptions } from "./prompt-types.js";
import type { GenerateEvent } from "./types.js";

export interface State {
  model: LoadedModel;
  sampling: Sampling;
  contextWindow: number;
  messages: Turn[];
  /** Messages that stay when the context overflows. */
  initial: number;
  usage: number;
}

const messagesOf = (turns: readonly Turn[]): ChatMessage[] => turns.map(({ role, content }) => ({ role, content }));

/** How many tokens a conversation has. */
export async function tokensOf({ tokenizer }: LoadedModel, turns: readonly Turn[], addGenerationPrompt = false): Promise<number> {
  if (turns.length === 0) return 0;
  try {
    const text = await tokenizer.render(messagesOf(turns) as Parameters<typeof tokenizer.render>[0], { addGenerationPrompt });
    return (await tokenizer.encodeRendered(text)).length;
  } catch (thrown) {
    // Some templates refuse parts of a conversation.
    if (SiskinError.from(thrown).code !== "chat_template") throw thrown;
    return (await tokenizer.encode(turns.map(({ content }) => content).join("\n"))).length;
  }
}

type Tell = (chunk: string) => void;
type Handler = ((event: Event) => unknown) | null;

export class Session extends EventTarget implements LanguageModel {
  oncontextoverflow: Handler = null;
  onquotaoverflow: Handler = null;
  readonly #state: State;
  readonly #destroyed = new AbortController();
  /** Settles when the calls before have ended. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(state: State) {
    super();
    // Pages find the class, but get sessions from `create` only.
    if (!(state as State | undefined)?.model) throw new TypeError("Illegal constructor");
    this.#state = state;
    this.addEventListener("contextoverflow", (event) => this.oncontextoverflow?.call(this, event));
    this.addEventListener("quotaoverflow", (event) => this.onquotaoverflow?.call(this, event));
  }

  get [Symbol.toStringTag]() {
    return "LanguageModel";
  }

  get temperature() {
    return this.#state.sampling.temperature;
  }

  get topK() {
    return this.#state.sampling.topK;
  }

  get samplingMode() {
    return this.#state.sampling.samplingMode;
  }

  get contextWindow() {
    return this.#state.contextWindow;
  }

  get contextUsage() {
    return this.#state.usage;
  }

  get inputQuota() {
    return this.contextWindow;
  }

  get inputUsage() {
    return this.contextUsage;
  }

  async prompt(input: LanguageModelPrompt, options: LanguageModelPromptOptions = {}): Promise<string> {
    const [messages, format] = [convert(input), responseFormat(options)];
    let text = "";
    await this.#inTurn(options.signal, (signal) => this.#answer(messages, format, signal, (chunk) => (text += chunk)));
    return text;
  }

  promptStreaming(input: LanguageModelPrompt, options: LanguageModelPromptOptions = {}): ReadableStream<string> {
    const [messages, format] = [convert(input), responseFormat(options)];
    const cancelled = new AbortController();
    const signal = AbortSignal.any([this.#destroyed.signal, cancelled.signal, ...(options.signal ? [options.signal] : [])]);
    signal.throwIfAborted();
    return new ReadableStream<string>({
      start: (controller) => {
        const enqueue = (chunk: string) => {
          if (!signal.aborted) controller.enqueue(chunk);
        };
        const answered = this.#inTurn(signal, (signal) => this.#answer(messages, format, signal, enqueue));
        void answered.then(
          () => !cancelled.signal.aborted && controller.close(),
          (thrown) => !cancelled.signal.aborted && controller.error(thrown),
        );
      },
      cancel: () => cancelled.abort(),
    });
  }

  async append(input: LanguageModelPrompt, options: { signal?: AbortSignal } = {}): Promise<undefined> {
    const messages = convert(input);
    if (messages.length === 0) return undefined;
    await this.#inTurn(options.signal, async () => {
      const turns = this.#canonicalize(messages);
      refusePrefix(turns);
      this.#add(turns, await this.#makeRoom(turns, false));
    });
    return undefined;
  }

  async measureContextUsage(input: LanguageModelPrompt, options: LanguageModelPromptOptions = {}): Promise<number> {
    responseFormat(options);
    const turns = canonicalize(convert(input), false);
    return unlessAborted(this.#signalOf(options.signal), tokensOf(this.#state.model, turns)).catch((thrown) => {
      throw promptError(thrown);
    });
  }

  measureInputUsage(input: LanguageModelPrompt, options: LanguageModelPromptOptions = {}): Promise<number> {
    return this.measureContextUsage(input, options);
  }

  async clone(options: { signal?: AbortSignal } = {}): Promise<LanguageModel> {
    const copy = async () => new (this.constructor as typeof Session)({ ...this.#state, messages: [...this.#state.messages] });
    return unlessAborted(this.#signalOf(options.signal), copy());
  }

  destroy(): void {
    this.end(domError("InvalidStateError", "the session was destroyed"));
  }

  /** @internal Destroys it for a reason, with which calls in progress and later ones fail. */
  end(reason: unknown): void {
    this.#destroyed.abort(reason);
  }

  #signalOf(signal: AbortSignal | undefined): AbortSignal {
    return signal ? AbortSignal.any([this.#destroyed.signal, signal]) : this.#destroyed.signal;
  }

  /** Does something when all calls before have ended; a call that is aborted while it waits is left out. */
  #inTurn(given: AbortSignal | undefined, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const signal = this.#signalOf(given);
    const done = this.#turn.then(async () => {
      signal.throwIfAborted();
      await work(signal);
    });
    this.#turn = done.catch(() => {});
    return unlessAborted(signal, done).catch((thrown) => {
      throw signal.aborted ? signal.reason : promptError(thrown);
    });
  }

  #canonicalize(messages: readonly GivenMessage[]): Turn[] {
    return canonicalize(messages, this.#state.messages.length > 0);
  }

  async #answer(messages: readonly GivenMessage[], format: Constraint | undefined, signal: AbortSignal, onChunk: Tell): Promise<void> {
    const turns = this.#canonicalize(messages);
    const prefix = turns.at(-1)!.prefix ? turns.pop()!.content : "";
    await this.#makeRoom(turns, true);
    let answer = prefix;
    const tell = (chunk: string) => {
      // What arrives after an abort is not part of the conversation.
      if (signal.aborted || chunk === "") return;
      answer += chunk;
      onChunk(chunk);
    };
    const all = [...this.#state.messages, ...turns];
    await (prefix === "" ? this.#complete(all, format, signal, tell) : this.#continue(all, prefix, format, signal, tell));
    signal.throwIfAborted();
    const complete: Turn = { role: "assistant", content: answer, prefix: false };
    const usage = await tokensOf(this.#state.model, [...all, complete]);
    signal.throwIfAborted();
    this.#add([...turns, complete], usage);
  }

  async #complete(turns: Turn[], format: Constraint | undefined, signal: AbortSignal, tell: Tell): Promise<void> {
    const { model, sampling } = this.#state;
    const request: ChatRequest & { stream: true } = {
      messages: messagesOf(turns),
      temperature: sampling.temperature,
      top_k: sampling.topK,
      stream: true,
      ...format,
    };
    const stream = await model.chat.completions.create(request, { signal });
    for await (const { choices } of stream) tell(choices[0]?.delta.content ?? "");
  }

  /** Continues an answer that begins with a prefix. */
  async #continue(turns: Turn[], prefix: string, format: Constraint | undefined, signal: AbortSignal, tell: Tell): Promise<void> {
    if (format) throw domError("NotSupportedError", "`responseConstraint` with a `prefix` is not supported");
    const { model, sampling } = this.#state;
    const { tokenizer } = model;
    const messages = messagesOf(turns) as Parameters<typeof tokenizer.render>[0];
    // A rendered template is parsed with its control tokens, so that the messages must not spell any.
    for (const text of [...turns.map(({ content }) => content), prefix]) {
      const control = (await tokenizer.encodeRendered(text)).find((t) => t.special && t.end > t.start);
      if (control) throw domError("NotSupportedError", `a \`prefix\` with messages that spell ${control.piece} is not supported`);
    }
    const rendered = await tokenizer.encodeRendered(await tokenizer.render(messages, { addGenerationPrompt: true }));
    const begun = (await tokenizer.encode(prefix)).filter((t) => t.end > t.start);
    const listeners = { onEvent: (event: GenerateEvent) => "text" in event && tell(event.text), signal };
    const { temperature, topK } = sampling;
    await model.generate([...rendered, ...begun].map(({ id }) => id), { temperature, topK }, listeners);
  }

  /** Drops the oldest exchanges if some more messages need their room; returns the usage with these. */
  async #makeRoom(turns: readonly Turn[], forAnswer: boolean): Promise<number> {
    const { model, messages, contextWindow } = this.#state;
    const first = Math.max(this.#state.initial, messages[0]?.role === "system" ? 1 : 0);
    const needed = async () => (await tokensOf(model, [...kept, ...turns], forAnswer)) + (forAnswer ? 1 : 0);
    let kept = messages;
    const requested = await needed();
    let usage = requested;
    while (usage > contextWindow) {
      if (kept.length <= first) throw quotaExceeded(requested, contextWindow);
      const next = kept.findIndex(({ role }, i) => i > first && role === "user");
      kept = [...kept.slice(0, first), ...(next < 0 ? [] : kept.slice(next))];
      usage = await needed();
    }
    if (kept !== messages) {
      this.#state.messages = kept;
      this.#state.usage = await tokensOf(model, kept);
      for (const type of ["contextoverflow", "quotaoverflow"]) this.dispatchEvent(new Event(type));
    }
    return usage;
  }

  #add(turns: readonly Turn[], usage: number): void {
    this.#state.messages = [...this.#state.messages, ...turns];
    this.#state.usage = usage;
  }
}

function refusePrefix(turns: readonly Turn[]): void {
  if (turns.at(-1)?.prefix) throw domError("NotSupportedError", "`prefix` is for messages that are answered");
}
