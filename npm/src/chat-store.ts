// A chat that user interfaces observe: a model that loads, messages, an answer that grows. Without a framework.

import type { ChatRequest } from "./chat.js";
import { SiskinError } from "./errors.js";
import { isLoaded, type LoadedModel } from "./loaded.js";
import { Siskin } from "./siskin.js";
import type { LoadOptions, ModelSource, Progress, RuntimeOptions } from "./types.js";

export interface ChatTurn {
  readonly role: "user" | "assistant";
  readonly content: string;
  /** What the model thought before it answered. */
  readonly reasoning?: string;
}

/** A state, which is replaced as a whole by the next one. */
export interface ChatState {
  /** `idle` without a model; `failed` if it could not be loaded. */
  readonly status: "idle" | "loading" | "ready" | "answering" | "failed";
  /** Of a model that is loading. */
  readonly progress: Progress | null;
  /** The last one is the answer that is growing. */
  readonly messages: readonly ChatTurn[];
  /** Why the model was not loaded, or the last message not answered. */
  readonly error: SiskinError | null;
  /** The loaded model, for other calls. */
  readonly model: LoadedModel | null;
}

/** Options of `Siskin.load`, and of the chat. */
export interface ChatOptions extends Omit<LoadOptions, "onProgress" | "signal">, RuntimeOptions {
  /** The system's message, which is not among the messages of the state. */
  system?: string;
  /** More fields of each request, such as `{ temperature: 0.7 }`. */
  request?: Omit<ChatRequest, "messages" | "stream" | "stream_options" | "n">;
}

export class ChatStore {
  readonly #system: string | undefined;
  readonly #request: NonNullable<ChatOptions["request"]>;
  readonly #load: LoadOptions & RuntimeOptions;
  readonly #listeners = new Set<() => void>();
  #state: ChatState = { status: "idle", progress: null, messages: [], error: null, model: null };
  #loading: AbortController | undefined;
  #answering: AbortController | undefined;
  /** Frees the model, if it was loaded here. */
  #free = () => {};

  constructor({ system, request = {}, ...load }: ChatOptions = {}) {
    this.#system = system;
    this.#request = request;
    this.#load = load;
  }

  readonly getState = (): ChatState => this.#state;

  /** Calls back after each change; returns what ends that. */
  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  #set(change: Partial<ChatState>): void {
    this.#state = { ...this.#state, ...change };
    for (const listener of [...this.#listeners]) listener();
  }

  /** Loads a model in place of the one before, or uses one that is loaded already, which `unload` then does not free. */
  readonly load = async (source: ModelSource | LoadedModel): Promise<void> => {
    this.unload();
    const loading = new AbortController();
    this.#loading = loading;
    const isCurrent = () => this.#loading === loading;
    this.#set({ status: "loading", error: null });
    try {
      const onProgress = (progress: Progress) => {
        if (isCurrent() && this.#state.status === "loading") this.#set({ progress });
      };
      const isOwn = !isLoaded(source);
      const model = isOwn ? await Siskin.load(source, { ...this.#load, onProgress, signal: loading.signal }) : source;
      if (!isCurrent()) {
        if (isOwn) model.unload();
        return;
      }
      if (isOwn) this.#free = () => model.unload();
      this.#set({ status: "ready", progress: null, model });
    } catch (thrown) {
      if (isCurrent()) this.#set({ status: "failed", progress: null, error: SiskinError.from(thrown) });
    }
  };

  /** Asks; settles when the answer is complete. Errors are in the state. */
  readonly send = async (text: string): Promise<void> => {
    const { model, status } = this.#state;
    if (!model || status !== "ready") {
      const why = status === "answering" ? "the answer before is not complete; wait for it, or stop it" : "no model is loaded";
      this.#set({ error: new SiskinError("invalid_request", why) });
      return;
    }
    const answering = new AbortController();
    this.#answering = answering;
    const asked: ChatTurn[] = [...this.#state.messages, { role: "user", content: text }];
    let [content, reasoning] = ["", ""];
    const isCurrent = () => this.#answering === answering;
    const show = (change: Partial<ChatState> = {}) => {
      const answer: ChatTurn = { role: "assistant", content, ...(reasoning && { reasoning }) };
      const messages = content + reasoning === "" && change.status ? asked : [...asked, answer];
      if (isCurrent()) this.#set({ messages, ...change });
    };
    this.#set({ status: "answering", error: null });
    show();
    try {
      const system = this.#system === undefined ? [] : [{ role: "system" as const, content: this.#system }];
      // What was thought is not said again.
      const said = asked.map(({ role, content }) => ({ role, content }));
      const request = { ...this.#request, messages: [...system, ...said], stream: true as const };
      const stream = await model.chat.completions.create(request, { signal: answering.signal });
      for await (const { choices } of stream) {
        const { content: piece, reasoning_content: thought } = choices[0]?.delta ?? {};
        if (!piece && !thought) continue;
        content += piece ?? "";
        reasoning += thought ?? "";
        show();
      }
      show({ status: "ready" });
    } catch (thrown) {
      const error = SiskinError.from(thrown);
      show({ status: "ready", error: error.code === "aborted" ? null : error });
    }
  };

  /** Ends the answer; what there is of it stays. */
  readonly stop = (): void => this.#answering?.abort();

  /** Forgets the conversation. */
  readonly clear = (): void => {
    this.#drop();
    this.#set({ messages: [], error: null, ...(this.#state.model && { status: "ready" as const }) });
  };

  /** Ends everything, and frees the model; the messages stay. */
  readonly unload = (): void => {
    this.#drop();
    this.#loading?.abort();
    this.#loading = undefined;
    this.#free();
    this.#free = () => {};
    if (this.#state.status !== "idle") this.#set({ status: "idle", progress: null, error: null, model: null });
  };

  /** Ends the answer, of which nothing more is shown. */
  #drop(): void {
    this.#answering?.abort();
    this.#answering = undefined;
  }
}
