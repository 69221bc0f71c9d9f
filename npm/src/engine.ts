// The code that calls the wasm: in a worker, or on the page's own thread. One model each.

import { SiskinError, aborted } from "./errors.js";
import { progressReporter } from "./pace.js";
import { Requests } from "./requests.js";
import { cacheTypes } from "./options.js";
import { openHeaders, openWhole } from "./reference.js";
import type {
  Bytes,
  Counts,
  EmbedOptions,
  Embedded,
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
  Progress,
  Restored,
  Token,
  Trace,
  TraceOptions,
} from "./types.js";
import { camel, type AnyDataset, type DrawnAnswer, type Example, type ExamplePreview, type LoraAdapter, type TrainExample, type TrainPlan, type TrainStep, type TrainSummary } from "./train.js";
import type { Bindings, GrammarBindings, Purpose } from "./bindings.js";
import type { Route } from "./exchange.js";
import { Shelf } from "./documents/shelf.js";
import { GrammarCompiler } from "./grammars.js";
import { startWasm, type Wasm } from "./wasm-files.js";
import type { CompiledGrammar } from "./wasm/siskin_grammar.js";
import type { Files, Session, Tokenizer } from "./wasm/siskin_training.js";

/** What is passed to a worker: no functions, no signals. */
export type LoadRequest = Pick<LoadOptions, "device" | "profile" | "context" | "cacheType" | "draft" | "cache" | "sha256">;
export type FitRequest = Omit<FitOptions, "signal">;
export type Source = string | Blob | readonly File[];

async function sha256(wasm: Bindings, file: Blob): Promise<string> {
  const hash = new wasm.Hash();
  const piece = 4 << 20;
  for (let at = 0; at < file.size; at += piece) {
    hash.update(new Uint8Array(await file.slice(at, at + piece).arrayBuffer()));
  }
  return hash.finish();
}

const mib = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MiB`;

async function gpuName(): Promise<string> {
  const found = await globalThis.navigator?.gpu?.requestAdapter({ powerPreference: "high-performance" });
  const { vendor = "", architecture = "", description = "" } = found?.info ?? {};
  return description || [vendor, architecture].filter(Boolean).join(" ") || "WebGPU";
}

/** WebAssembly memory has 32-bit addresses, not all of which are usable. */
const HEAP = 4 * 2 ** 30 - 2 ** 28;

/** Bytes available; beyond the heap's limit, browsers report only rough values. */
function usable(onCpu: boolean): number | undefined {
  const device = ((globalThis.navigator ?? {}) as { deviceMemory?: number }).deviceMemory;
  const machine = device === undefined ? undefined : (device * 2 ** 30) / 2;
  return onCpu ? Math.min(machine ?? Infinity, HEAP) : machine;
}

/** A training plan with the memory available for it. */
function plan(session: Session, json: string): TrainPlan {
  const found = camel(JSON.parse(json)) as TrainPlan;
  const available = usable((JSON.parse(session.info()) as Info).device !== "webgpu");
  const fits = available === undefined || found.memory.total <= available;
  return { ...found, fits, ...(available !== undefined && { available }) };
}

export class Engine {
  readonly #wasm: Bindings;
  readonly #grammarBindings: () => Promise<GrammarBindings>;
  #grammars: GrammarCompiler | undefined;
  #heap: WebAssembly.Memory | undefined;
  #files: Files | undefined;
  #session: Session | undefined;
  #tokenizer: Tokenizer | undefined;
  #model: ModelInfo | undefined;
  #whyCpu: string | undefined;
  /** What the session's weights are changed by: an adapter in use, or the one that a training run trains. */
  #adapter: { adapter: LoraAdapter; scale: number } | "training" | null = null;
  /** Serialises the calls that use the session. */
  #turn: Promise<unknown> = Promise.resolve();
  /** Calls that wait for their turn. */
  #waiting = 0;
  readonly #requests = new Requests(
    (work) => this.#inTurn(work),
    () => this.#waiting,
  );
  readonly #stops = new Map<number, AbortController>();
  readonly #shelf: Shelf;

  constructor(wasm: Bindings, grammarBindings: () => Promise<GrammarBindings>) {
    this.#wasm = wasm;
    this.#shelf = new Shelf(wasm);
    this.#grammarBindings = grammarBindings;
  }

  /** Starts the wasm; the one that compiles grammars starts when it is first needed. */
  async start(wasm: Wasm, purpose: Purpose, grammarWasm: Wasm): Promise<void> {
    this.#grammars = new GrammarCompiler(this.#grammarBindings, grammarWasm);
    this.#heap = (await startWasm(this.#wasm.default, wasm, purpose)).memory;
  }

  /** Stops the call with this number, now or when its turn comes. */
  stop(call: number): void {
    this.#stops.get(call)?.abort();
  }

  async #stoppable<T>(call: number, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const stop = new AbortController();
    this.#stops.set(call, stop);
    try {
      return await work(stop.signal);
    } catch (thrown) {
      throw stop.signal.aborted ? aborted() : SiskinError.from(thrown);
    } finally {
      this.#stops.delete(call);
    }
  }

  async #inTurn<T>(work: (session: Session) => Promise<T>): Promise<T> {
    const before = this.#turn;
    let done!: () => void;
    this.#turn = new Promise<void>((resolve) => (done = resolve));
    this.#waiting += 1;
    try {
      await before.finally(() => (this.#waiting -= 1));
      if (!this.#session) throw new SiskinError("unloaded", "the model was unloaded");
      return await work(this.#session);
    } catch (thrown) {
      throw SiskinError.from(thrown);
    } finally {
      done();
    }
  }

  /** Reads headers only. */
  inspect(call: number, source: Source): Promise<ModelInfo> {
    return this.#stoppable(call, async (signal) => this.#have(await openHeaders(this.#wasm, source, signal)));
  }

  #have(files: Files): ModelInfo {
    this.#files = files;
    this.#tokenizer = files.tokenizer();
    this.#model = JSON.parse(files.info()) as ModelInfo;
    return this.#model;
  }

  /** Whether the inspected model fits. */
  async fit(request: FitRequest): Promise<Fit> {
    if (!this.#files) throw new SiskinError("unloaded", "no model has been inspected");
    const found = request.device === "cpu" || !globalThis.navigator?.gpu ? undefined : ((await this.gpu()) ?? undefined);
    const onCpu = !found || (found.software && request.device !== "webgpu");
    const available = request.memory ?? usable(onCpu);
    try {
      const fit = JSON.parse(
        this.#files.fit(
          JSON.stringify({
            ...(request.context !== undefined && { context: request.context }),
            cacheTypes: cacheTypes(request.cacheType),
            ...(available !== undefined && { memory: Math.floor(available) }),
            cpu: onCpu,
            ...(!onCpu && { maxBuffer: Math.min(found.maxBufferSize, found.maxStorageBufferBindingSize) }),
          }),
        ),
      ) as Fit;
      const room = available === undefined ? "the browser does not report how much is available" : `about ${mib(available)} is available`;
      const where = onCpu ? "on the CPU" : `on ${found.name || "WebGPU"}`;
      const reason = `it needs ${mib(fit.memory.total)} ${where} for a context of ${fit.context}, and ${room}`;
      return { ...fit, ...(available !== undefined && { available }), reason };
    } catch (thrown) {
      throw SiskinError.from(thrown);
    }
  }

  async load(call: number, source: Source, request: LoadRequest, onProgress: (p: Progress) => void): Promise<ModelInfo> {
    return this.#stoppable(call, async (signal) => {
      const device = await this.#chooseDevice(request);
      const report = progressReporter(onProgress);
      const files = await openWhole(this.#wasm, source, {
        signal,
        keep: request.cache ?? true,
        sha256: request.sha256,
        hash: (file) => sha256(this.#wasm, file),
        onBytes: (loaded, total) => report("download", loaded, total ?? 0),
      });
      const model = this.#have(files);
      this.#files = undefined;
      const { profile, context, draft } = request;
      if (device === "cpu") this.#checkHeap(files, request);
      const options = { device, profile, context, cacheTypes: cacheTypes(request.cacheType), draft };
      this.#session = await files.load(JSON.stringify(options), (loaded: number, total: number) => {
        report("upload", loaded, total);
        if (loaded === total) report("compile", 0, 0);
      });
      if (signal.aborted) {
        this.unload();
        throw aborted();
      }
      const onSoftware = globalThis.navigator?.gpu ? "this browser's WebGPU runs on the CPU" : "this browser has no WebGPU";
      const why = device === "cpu" ? onSoftware : "the GPU cannot hold this model";
      this.#whyCpu = request.device === "cpu" ? undefined : why;
      report("ready", 0, 0);
      return model;
    });
  }

  /** Undefined for a real GPU that was not requested: if it cannot hold the model, the CPU may. */
  async #chooseDevice(request: LoadRequest): Promise<"webgpu" | "cpu" | undefined> {
    if (request.device === "cpu") return "cpu";
    if (request.device !== undefined && request.device !== "webgpu") {
      throw new SiskinError("invalid_request", `there is no device \`${String(request.device)}\`; use "webgpu" or "cpu"`);
    }
    const found = await this.gpu();
    if (request.device !== "webgpu" && !request.profile) return found && !found.software ? undefined : "cpu";
    if (!found) {
      const what = globalThis.navigator?.gpu ? "no GPU for WebGPU" : "no WebGPU";
      throw new SiskinError("no_webgpu", `this browser has ${what}; omit \`device\` to use the CPU`);
    }
    return "webgpu";
  }

  /** A model that exceeds the heap would crash the page while loading. */
  #checkHeap(files: Files, { context, cacheType }: LoadRequest): void {
    const request = { ...(context !== undefined && { context }), cacheTypes: cacheTypes(cacheType), memory: HEAP, cpu: true };
    const fit = JSON.parse(files.fit(JSON.stringify(request))) as Fit;
    // A context beyond the model's own is refused elsewhere.
    if (fit.fits || fit.context > fit.trainedContext) return;
    const fits = fit.maxContext > 0 ? `a context of ${fit.maxContext} fits` : "a smaller model may fit";
    const need = `the model needs ${mib(fit.memory.total)} for a context of ${fit.context}`;
    throw new SiskinError("out_of_memory", `${need}, and WebAssembly can hold ${mib(HEAP)}; ${fits}`);
  }

  async info(): Promise<Info> {
    if (!this.#session || !this.#model) throw new SiskinError("unloaded", "the model was unloaded");
    return this.#inTurn(async (session) => {
      // After a lost GPU, the CPU may be in use.
      const found = JSON.parse(session.info()) as Info;
      const onGpu = found.device === "webgpu";
      return {
        ...found,
        deviceName: onGpu ? await gpuName() : "WebAssembly, one thread",
        ...(!onGpu && this.#whyCpu && { reason: this.#whyCpu }),
        model: this.#model!,
        wasmHeap: this.#heap?.buffer.byteLength ?? 0,
      };
    });
  }

  #text(): Tokenizer {
    if (!this.#tokenizer) throw new SiskinError("unloaded", "the model was unloaded");
    return this.#tokenizer;
  }

  async encode(text: string, rendered: boolean): Promise<Token[]> {
    return wrap(() => JSON.parse(this.#text().encode(text, rendered)));
  }

  async decode(ids: Uint32Array): Promise<string> {
    return wrap(() => this.#text().decode(ids));
  }

  /** The text of each token by itself. */
  async texts(ids: Uint32Array): Promise<string[]> {
    return wrap(() => this.#text().texts(ids));
  }

  async render(messages: Message[], addGenerationPrompt: boolean): Promise<string> {
    return wrap(() => this.#text().render(JSON.stringify(messages), addGenerationPrompt));
  }

  async merges(text: string): Promise<MergedWord[]> {
    return wrap(() => JSON.parse(this.#text().merges(text)));
  }

  generate(
    call: number,
    prompt: Uint32Array,
    options: GenerateOptions,
    onEvent: (event: GenerateEvent) => void,
    onLost: () => void,
  ): Promise<Generated> {
    return this.#stoppable(call, async (signal) => {
      // A worker's callbacks are sent separately from its results: the last one must arrive first.
      let last: unknown;
      const tell = (event: GenerateEvent) => (last = onEvent(event));
      const listen = (kind: string, ...args: unknown[]) => {
        if (kind === "prefill") tell({ kind, done: args[0] as number, total: args[1] as number });
        if (kind === "rest") tell({ kind, text: args[0] as string });
        if (kind === "lost") onLost();
        if (kind === "token") {
          const logprob = args[2] === undefined ? undefined : JSON.parse(args[2] as string);
          tell({ kind, id: args[0] as number, text: args[1] as string, ...(logprob && { logprob }) });
        }
      };
      const { seed, ...rest } = options;
      const request = { ...rest, seed: String(seed ?? crypto.getRandomValues(new Uint32Array(1))[0]) };
      const json = JSON.stringify(request);
      const answer = await this.#requests.ask((session) => session.submit(prompt, json), signal, listen);
      await last;
      const generated = JSON.parse(answer) as Generated;
      // JSON numbers are not precise enough for the largest seeds.
      return { ...generated, seed: seed ?? generated.seed };
    });
  }

  /**
   * Answers a request in OpenAI's shape, which is JSON. Of a stream, each event's JSON is told; otherwise, resolves to the
   * JSON of the answer.
   */
  exchange(
    call: number,
    route: Route,
    name: string,
    body: string,
    onReply: (data: string) => void,
    onLost: () => void,
  ): Promise<string | undefined> {
    return this.#stoppable(call, async (signal) => {
      const exchange = new this.#wasm.Exchange(this.#text(), route, name, body);
      let grammar: CompiledGrammar | undefined;
      try {
        grammar = await this.#grammars!.compile(exchange, this.#text());
        return await this.#requests.exchange(exchange, grammar, signal, onReply, onLost);
      } finally {
        exchange.free();
        grammar?.free();
      }
    });
  }

  /** `adapter`: for this call only, in place of the one in use; null is none. */
  nextLogits(prompt: Uint32Array, adapter: LoraAdapter | null | undefined): Promise<Float32Array> {
    return this.#inTurn(async (session) => {
      const own = this.#adapter;
      if (adapter === undefined || (adapter === null && own === null)) return session.nextLogits(prompt);
      if (own === "training") {
        throw new SiskinError("invalid_request", "a training run is using the model; other adapters can be tried after `adapters.use(null)`");
      }
      try {
        await session.setAdapter(adapter?.config, adapter?.weights, 1);
        return await session.nextLogits(prompt);
      } finally {
        await session.setAdapter(own?.adapter.config, own?.adapter.weights, own?.scale ?? 1);
      }
    });
  }

  embed(texts: string[], options: EmbedOptions): Promise<Embedded> {
    return this.#inTurn(async (session) => (await session.embed(texts, JSON.stringify(options))) as Embedded);
  }

  rerank(query: string, texts: string[], truncate: boolean): Promise<Float32Array> {
    return this.#inTurn((session) => session.rerank(query, texts, truncate));
  }

  /** A call of the documents that this engine has, which need no model. */
  async documents(call: Exclude<keyof Shelf, "free">, args: unknown[]): Promise<unknown> {
    try {
      return await (this.#shelf[call] as (...a: unknown[]) => unknown)(...args);
    } catch (thrown) {
      throw SiskinError.from(thrown);
    }
  }

  trace(ids: Uint32Array, options: TraceOptions): Promise<Omit<Trace, "tokens">> {
    return this.#inTurn(async (session) => {
      const { json, attention } = await session.look(ids, JSON.stringify(options));
      const { top, lens, nHeads } = JSON.parse(json);
      return { top, attention, nHeads, logitLens: lens };
    });
  }

  save(note: string): Promise<Bytes> {
    return this.#inTurn(async (session) => (await session.save(note)) as Bytes);
  }

  restore(file: Uint8Array): Promise<Restored> {
    return this.#inTurn(async (session) => JSON.parse(await session.restore(file)) as Restored);
  }

  decodeCounts(): Promise<Counts | null> {
    return this.#inTurn(async (session) => JSON.parse(await session.decodeCounts()));
  }

  async gpu(): Promise<GpuInfo | null> {
    if (!globalThis.navigator?.gpu) return null;
    const found = JSON.parse(await this.#wasm.gpu()) as GpuInfo | null;
    return found && { ...found, name: found.name || (await gpuName()) };
  }

  async selfTest(profile: string | undefined, onResult: (result: KernelResult) => void): Promise<void> {
    if (!globalThis.navigator?.gpu) throw new SiskinError("no_webgpu", "this browser has no WebGPU");
    try {
      let last: unknown;
      await this.#wasm.selfTest(profile, (json: string) => (last = onResult(JSON.parse(json))));
      await last;
    } catch (thrown) {
      throw SiskinError.from(thrown);
    }
  }

  async dataset(name: string, text: string): Promise<AnyDataset> {
    return wrap(() => JSON.parse(this.#wasm.parseDataset(name, text)));
  }

  preview(example: Example, options: object): Promise<ExamplePreview> {
    return this.#inTurn(async (session) => JSON.parse(session.preview(JSON.stringify(example), JSON.stringify(options))));
  }

  trainPlan(examples: TrainExample[], options: object): Promise<TrainPlan> {
    return this.#inTurn(async (session) => plan(session, session.trainPlan(JSON.stringify(examples), JSON.stringify(options))));
  }

  trainStart(examples: TrainExample[], options: object, checkpoint: Uint8Array | undefined): Promise<TrainSummary> {
    return this.#inTurn(async (session) => {
      const json = await session.trainStart(JSON.stringify(examples), JSON.stringify(options), checkpoint);
      this.#adapter = "training";
      const { summary, done, heldOut } = JSON.parse(json);
      return { ...plan(session, JSON.stringify(summary)), done, heldOutExamples: heldOut };
    });
  }

  trainStep(): Promise<TrainStep | null> {
    return this.#inTurn(async (session) => {
      const report = JSON.parse(await session.trainStep());
      return report && (camel(report) as TrainStep);
    });
  }

  trainDraw(heldOut: boolean): Promise<DrawnAnswer[] | null> {
    return this.#inTurn(async (session) => JSON.parse(await session.trainDraw(heldOut)));
  }

  trainLearn(rewards: readonly number[]): Promise<TrainStep> {
    return this.#inTurn(async (session) => camel(JSON.parse(await session.trainLearn(new Float32Array(rewards)))) as TrainStep);
  }

  trainMeasure(): Promise<number> {
    return this.#inTurn((session) => session.trainMeasure());
  }

  trainScore(): Promise<number | undefined> {
    return this.#inTurn((session) => session.trainScore());
  }

  trainCheckpoint(): Promise<Bytes> {
    return this.#inTurn(async (session) => (await session.trainCheckpoint()) as Bytes);
  }

  trainAdapter(): Promise<LoraAdapter> {
    return this.#inTurn(async (session) => (await session.trainAdapter()) as LoraAdapter);
  }

  setAdapter(adapter: LoraAdapter | null, scale: number): Promise<string | undefined> {
    return this.#inTurn(async (session) => {
      const otherBase = await session.setAdapter(adapter?.config, adapter?.weights, scale);
      this.#adapter = adapter && { adapter, scale };
      return otherBase;
    });
  }

  /** Frees the model, after the calls in progress; another one can then be loaded. */
  release(): Promise<void> {
    return this.#inTurn(async (session) => {
      this.#session = undefined;
      session.free();
    });
  }

  /** Frees the memory. */
  unload(): void {
    for (const stop of this.#stops.values()) stop.abort();
    const [session, files, tokenizer] = [this.#session, this.#files, this.#tokenizer];
    this.#session = this.#files = this.#tokenizer = undefined;
    // Calls in progress end first.
    void this.#turn.then(() => {
      session?.free();
      files?.free();
      tokenizer?.free();
      this.#shelf.free();
    });
  }
}

function wrap<T>(work: () => T): T {
  try {
    return work();
  } catch (thrown) {
    throw SiskinError.from(thrown);
  }
}
