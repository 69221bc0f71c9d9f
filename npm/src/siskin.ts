import type { Purpose } from "./bindings.js";
import { Completions } from "./chat.js";
import { Documents } from "./documents.js";
import { Embeddings, rerank, type Embedder, type RerankRequest, type RerankResponse } from "./embeddings.js";
import type { LoadRequest, Source } from "./engine.js";
import { SiskinError, aborted } from "./errors.js";
import type { Exchanger } from "./exchange.js";
import { createFetch } from "./fetch.js";
import { ModelHost, type Opening } from "./model-host.js";
import { check } from "./options.js";
import { HUB, address } from "./reference.js";
import { Responses } from "./responses.js";
import { base, startHost, type Host } from "./remote.js";
import { list, remove, type CachedFile } from "./store.js";
import { TextCompletions } from "./text-completions.js";
import {
  Adapters,
  Training,
  answersOf,
  preferencesOf,
  snake,
  type Dataset,
  type Example,
  type ExamplePreview,
  type LoraAdapter,
  type PreferenceDataset,
  type RunOptions,
  type TrainExample,
  type TrainHost,
  type TrainOptions,
  type TrainPlan,
} from "./train.js";
import type {
  Counts,
  Fit,
  FitOptions,
  GenerateEvent,
  GenerateOptions,
  Generated,
  GpuInfo,
  Info,
  KernelResult,
  LoadOptions,
  MergedWord,
  Message,
  ModelInfo,
  ModelSource,
  Progress,
  Restored,
  RuntimeOptions,
  Token,
  Trace,
  TraceOptions,
} from "./types.js";

const sourceOf = (source: ModelSource, options: RuntimeOptions): Source =>
  typeof source === "string" || source instanceof URL ? address(source, options.hub ?? HUB, base()) : source;

let calls = 0;

/** Runs a call that can be stopped by a signal. */
async function stoppable<T>(host: Host, signal: AbortSignal | null | undefined, work: (call: number) => Promise<T>): Promise<T> {
  if (signal?.aborted) throw aborted();
  const call = ++calls;
  const stop = () => void host.calls.stop(call).catch(() => {});
  signal?.addEventListener("abort", stop, { once: true });
  try {
    return await work(call);
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}

/** Converts text to tokens and back, as the model does. */
export class Tokenizer {
  /** @internal */
  constructor(private readonly host: Host) {}

  /** Tokens of plain text, with the beginning-of-text token if the model uses one. */
  encode(text: string): Promise<Token[]> {
    return this.host.calls.encode(text, false);
  }

  /** Tokens of a rendered chat template, which already contains its special tokens. */
  encodeRendered(text: string): Promise<Token[]> {
    return this.host.calls.encode(text, true);
  }

  /** Text of tokens; special tokens are omitted. */
  decode(ids: ArrayLike<number>): Promise<string> {
    return this.host.calls.decode(Uint32Array.from(ids));
  }

  /** A conversation, rendered by the model's chat template. */
  async render(messages: Message[], options: { addGenerationPrompt?: boolean } = {}): Promise<string> {
    check("render", options);
    const { addGenerationPrompt = true } = options;
    return this.host.calls.render(messages, addGenerationPrompt);
  }

  /** How each word of a text is assembled; empty for a tokenizer that is not BPE. */
  merges(text: string): Promise<MergedWord[]> {
    return this.host.calls.merges(text);
  }
}

/** A model of which only the headers have been read. */
export class Inspected {
  readonly tokenizer: Tokenizer;

  /** @internal */
  constructor(
    private readonly host: Host,
    readonly info: ModelInfo,
  ) {
    this.tokenizer = new Tokenizer(host);
  }

  /** Whether it fits this machine, and with what context. */
  async fit(options: Omit<FitOptions, "signal"> = {}): Promise<Fit> {
    check("fit", options);
    return this.host.calls.fit(options);
  }

  close(): void {
    this.host.close();
  }
}

/** A loaded model. */
export class Siskin {
  readonly tokenizer: Tokenizer;
  readonly chat: { readonly completions: Completions };
  readonly completions: TextCompletions;
  readonly responses: Responses;
  /** OpenAI's HTTP API, answered by this model: for clients that take a `fetch`. */
  readonly fetch: typeof globalThis.fetch;
  /** @internal */
  readonly exchanger: Exchanger;
  readonly adapters: Adapters;
  readonly embeddings: Embeddings;
  /** Search in documents, and answers from them. */
  readonly documents: Documents;
  /** @internal */
  readonly embedder: Embedder;
  /** @internal */
  readonly runtime: RuntimeOptions;
  readonly #host: ModelHost;
  readonly #onLost: () => void;
  readonly #model: ModelInfo;
  /** The number of the current training run. */
  #training = 0;

  private constructor(host: ModelHost, model: ModelInfo, runtime: RuntimeOptions, onLost: () => void) {
    this.#host = host;
    this.runtime = runtime;
    this.#model = model;
    this.#onLost = onLost;
    this.tokenizer = new Tokenizer(host);
    const name = model.name.split("/").at(-1) || model.name;
    const exchanger: Exchanger = {
      name,
      exchange: async (route, name, body, onReply, signal) => {
        if (model.makes !== "text" && model.chatTemplate === null) {
          const call = model.makes === "scores" ? "rerank" : "embeddings.create";
          throw new SiskinError("invalid_request", `${name} makes ${model.makes} of texts; use \`${call}\``);
        }
        return stoppable(host, signal, (call) =>
          host.calls.exchange(call, route, name, body, host.callback(onReply), host.callback(this.#onLost)),
        );
      },
    };
    this.exchanger = exchanger;
    this.chat = { completions: new Completions(exchanger) };
    this.completions = new TextCompletions(exchanger);
    this.responses = new Responses(exchanger);
    this.embedder = {
      name,
      embed: (texts, options) => host.calls.embed(texts, options),
      rerank: (query, texts, truncate) => host.calls.rerank(query, texts, truncate),
    };
    this.embeddings = new Embeddings(this.embedder);
    this.documents = new Documents(this);
    this.fetch = createFetch(this);
    this.adapters = new Adapters((adapter, scale) => host.calls.setAdapter(adapter, scale));
  }

  /** Downloads a model, or uses the cached one, and loads it onto a device. */
  static async load(source: ModelSource, options: LoadOptions & RuntimeOptions = {}): Promise<Siskin> {
    const { signal, onProgress = () => {}, onDeviceLost = () => {} } = options;
    check("load", options);
    if (signal?.aborted) throw aborted();
    const { device, profile, context, cacheType, draft, cache, sha256, training = false } = options;
    const request: LoadRequest = { device, profile, context, cacheType, draft, cache, sha256 };
    const opening: Opening = { source: sourceOf(source, options), request, options, onProgress: (p: Progress) => onProgress(p) };
    try {
      const [host, model] = await ModelHost.load(opening, training, (host, { source, request, onProgress }) =>
        stoppable(host, signal, (call) => host.calls.load(call, source, request, host.callback(onProgress))),
      );
      return new Siskin(host, model, options, onDeviceLost);
    } catch (thrown) {
      throw SiskinError.from(thrown);
    }
  }

  /** Reads only a model's headers, with range requests: its sizes, tensors and tokenizer. Close it after use. */
  static async inspect(source: ModelSource, options: RuntimeOptions & { signal?: AbortSignal } = {}): Promise<Inspected> {
    check("inspect", options);
    const host = await startHost(options, "chat");
    try {
      const info = await stoppable(host, options.signal, (call) => host.calls.inspect(call, sourceOf(source, options)));
      return new Inspected(host, info);
    } catch (thrown) {
      host.close();
      throw SiskinError.from(thrown);
    }
  }

  /** Whether a model fits this machine, before it is downloaded. */
  static async fits(source: ModelSource, options: FitOptions & RuntimeOptions = {}): Promise<Fit> {
    check("fits", options);
    const { device, context, cacheType, memory, ...rest } = options;
    const inspected = await Siskin.inspect(source, rest);
    try {
      return await inspected.fit({ device, context, cacheType, memory });
    } finally {
      inspected.close();
    }
  }

  /** What this browser's WebGPU offers; null without it. */
  static async gpu(options: RuntimeOptions = {}): Promise<GpuInfo | null> {
    check("gpu", options);
    return using(options, "chat", (host) => host.calls.gpu());
  }

  /** Runs every kernel on the GPU and on the CPU; results are reported as they arrive. */
  static async selfTest(
    onResult: (result: KernelResult) => void,
    options: RuntimeOptions & Pick<LoadOptions, "profile"> = {},
  ): Promise<void> {
    check("selfTest", options);
    return using(options, "training", (host) => host.calls.selfTest(options.profile, host.callback(onResult)));
  }

  /** The cache of downloaded files. */
  static readonly cache = {
    list: (): Promise<CachedFile[]> => list(),
    /** Deletes a file from the cache; resolves to whether there was one. */
    delete: async (source: string | URL, options: Pick<RuntimeOptions, "hub"> = {}): Promise<boolean> => {
      check("cache.delete", options);
      return remove(address(source, options.hub ?? HUB, base()));
    },
  };

  /** The model, the device, the context and the memory. */
  info(): Promise<Info> {
    return this.#host.calls.info();
  }

  /** The contents of the model's files. */
  get model(): ModelInfo {
    return this.#model;
  }

  /** Continues text or tokens, without a chat template. */
  async generate(
    prompt: string | ArrayLike<number>,
    options: GenerateOptions = {},
    listeners: { onEvent?: (event: GenerateEvent) => void; signal?: AbortSignal | null } = {},
  ): Promise<Generated> {
    check("generate's listeners", listeners);
    const { onEvent = () => {}, signal } = listeners;
    const ids = await this.#ids(prompt);
    const host = this.#host;
    return stoppable(host, signal, (call) =>
      host.calls.generate(call, ids, options, host.callback(onEvent), host.callback(this.#onLost)),
    );
  }

  /**
   * Logits `[vocabSize]` for the token after a prompt. `adapter` is for this call only, in place of the one in use; with null,
   * the model runs without any.
   */
  async nextLogits(prompt: string | ArrayLike<number>, options: { adapter?: LoraAdapter | null } = {}): Promise<Float32Array> {
    check("nextLogits", options);
    return this.#host.calls.nextLogits(await this.#ids(prompt), options.adapter);
  }

  /** Sorts documents by how well they answer a query, with a model that was made for it (a cross-encoder). */
  rerank(request: RerankRequest): Promise<RerankResponse> {
    return rerank(this.embedder, request);
  }

  /** What happens inside the model: most likely tokens, attention, the logit lens. */
  async trace(prompt: string | ArrayLike<number>, options: TraceOptions = {}): Promise<Trace> {
    check("trace", options);
    const ids = await this.#ids(prompt);
    const tokens =
      typeof prompt === "string"
        ? await this.tokenizer.encode(prompt)
        : (await this.#host.calls.texts(ids)).map((piece, i) => ({ id: ids[i]!, piece, start: 0, end: 0, special: piece === "" }));
    return { tokens, ...(await this.#host.calls.trace(ids, options)) };
  }

  /** The examples in a file: JSONL, a JSON array, CSV or TSV, or text, according to the file extension. */
  async dataset(name: string, text: string): Promise<Dataset> {
    await this.#host.train();
    return answersOf(await this.#host.calls.dataset(name, text));
  }

  /** The preferences in a file. */
  async preferences(name: string, text: string): Promise<PreferenceDataset> {
    await this.#host.train();
    return preferencesOf(await this.#host.calls.dataset(name, text));
  }

  /** How an example is learned, token by token. */
  async previewExample(example: Example, options: Pick<TrainOptions, "lossOn" | "maxSeqLen"> = {}): Promise<ExamplePreview> {
    check("previewExample", options);
    const { lossOn = "assistant", maxSeqLen = 512 } = options;
    await this.#host.train();
    return this.#host.calls.preview(example, { loss_on: lossOn, max_seq_len: maxSeqLen });
  }

  /**
   * Fine-tunes an adapter on examples, or on a file of them; nothing happens until the first step is requested.
   * `resume` continues from a checkpoint made with the same examples and options.
   */
  train(
    examples: readonly TrainExample[] | File,
    options: RunOptions = {},
  ): Training {
    const { calls } = this.#host;
    let own: number | undefined;
    // A model has one training run at a time: an older one must not take the steps of a newer one.
    const mine = async <T>(call: () => Promise<T>): Promise<T> => {
      if (own !== this.#training) throw new SiskinError("invalid_request", "this training run was replaced by another");
      return call();
    };
    const host: TrainHost = {
      start: async (...args) => {
        own = ++this.#training;
        await this.#host.train();
        return calls.trainStart(...args);
      },
      step: () => mine(() => calls.trainStep()),
      draw: (heldOut) => mine(() => calls.trainDraw(heldOut)),
      learn: (rewards) => mine(() => calls.trainLearn(rewards)),
      measure: () => mine(() => calls.trainMeasure()),
      score: () => mine(() => calls.trainScore()),
      checkpoint: () => mine(() => calls.trainCheckpoint()),
      adapter: () => mine(() => calls.trainAdapter()),
    };
    return new Training(host, this.#examples(examples), options);
  }

  /** What a training run would do and need, and whether it fits; nothing runs. */
  async planTraining(examples: readonly TrainExample[] | File, options: TrainOptions = {}): Promise<TrainPlan> {
    check("train", options);
    const found = await this.#examples(examples);
    await this.#host.train();
    return this.#host.calls.trainPlan(found, snake(options));
  }

  async #examples(source: readonly TrainExample[] | File): Promise<TrainExample[]> {
    if (Array.isArray(source)) return source as TrainExample[];
    const file = source as File;
    await this.#host.train();
    const { records, bad } = await this.#host.calls.dataset(file.name, await file.text());
    if (bad.length > 0) {
      const { line, reason } = bad[0]!;
      throw new SiskinError("invalid_request", `${file.name}:${line}: ${reason} (${bad.length} such records)`);
    }
    return records;
  }

  /**
   * The sequence of the answer that ended last, with its keys and values, as the contents of a file: `restore` lets a later
   * session continue there without processing its tokens again. `note` is returned by `restore`.
   */
  save(note = ""): Promise<Uint8Array> {
    return this.#host.calls.save(note);
  }

  /** Puts a saved sequence back; throws `saved` if it was saved with another model, adapter or `cacheType`. */
  restore(file: Uint8Array): Promise<Restored> {
    return this.#host.calls.restore(file);
  }

  /** What one decode step does on the GPU; null on the CPU. */
  decodeCounts(): Promise<Counts | null> {
    return this.#host.calls.decodeCounts();
  }

  /** Frees all memory. Calls in progress fail. */
  unload(): void {
    this.#host.close();
  }

  async #ids(prompt: string | ArrayLike<number>): Promise<Uint32Array> {
    if (typeof prompt !== "string") return Uint32Array.from(prompt);
    return Uint32Array.from(await this.tokenizer.encode(prompt), (t) => t.id);
  }
}

async function using<T>(options: RuntimeOptions, purpose: Purpose, work: (host: Host) => Promise<T>): Promise<T> {
  const host = await startHost(options, purpose);
  try {
    return await work(host);
  } catch (thrown) {
    throw SiskinError.from(thrown);
  } finally {
    host.close();
  }
}
