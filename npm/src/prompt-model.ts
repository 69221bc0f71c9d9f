// The model that sessions of the Prompt API share.

import { SiskinError } from "./errors.js";
import { isLoaded, type LoadedModel } from "./loaded.js";
import { domError, unlessAborted } from "./prompt-errors.js";
import type { LanguageModelAvailability, LanguageModelLoadOptions } from "./prompt-types.js";
import { HUB, address } from "./reference.js";
import { base } from "./remote.js";
import { Siskin } from "./siskin.js";
import type { LoadOptions, ModelSource } from "./types.js";

interface Loading {
  model: Promise<LoadedModel>;
  isReady: boolean;
  stop: AbortController;
  /** Of those who wait for it; each is told the fraction that was downloaded. */
  listeners: Set<(fraction: number) => void>;
}

export class Shared {
  #loading: Loading | undefined;
  /** Whether it can be used here, which its headers tell. */
  #isUsable: Promise<boolean> | undefined;

  constructor(
    private readonly source: ModelSource | LoadedModel,
    private readonly options: LanguageModelLoadOptions,
  ) {}

  /** The model and its context; loads it if it is not loaded. */
  async use(signal: AbortSignal | undefined, onProgress: (fraction: number) => void): Promise<[LoadedModel, number]> {
    const model = isLoaded(this.source) ? this.source : await this.#load(this.source, signal, onProgress);
    if (model.model.chatTemplate === null) {
      throw new SiskinError("unsupported_model", `${model.model.name} has no chat template; use a model that was made for chats`);
    }
    return [model, (await model.info()).context];
  }

  async #load(source: ModelSource, signal: AbortSignal | undefined, onProgress: (fraction: number) => void): Promise<LoadedModel> {
    const loading = (this.#loading ??= this.#begin(source));
    loading.listeners.add(onProgress);
    try {
      return await unlessAborted(signal, loading.model);
    } finally {
      loading.listeners.delete(onProgress);
      // It failed, or nobody waits for it any more.
      if (!loading.isReady && loading.listeners.size === 0) this.#end(loading);
    }
  }

  #begin(source: ModelSource): Loading {
    const [stop, listeners] = [new AbortController(), new Set<(fraction: number) => void>()];
    const onProgress: LoadOptions["onProgress"] = ({ phase, loaded, total }) => {
      // A folder's files are downloaded one after another: 1 is told when all is ready.
      if (phase === "download" && loaded < total) for (const tell of listeners) tell(loaded / total);
    };
    const model = Siskin.load(source, { ...this.options, onProgress, signal: stop.signal });
    const loading: Loading = { model, isReady: false, stop, listeners };
    model.then(
      () => (loading.isReady = true),
      () => {},
    );
    return loading;
  }

  #end(loading: Loading): void {
    if (this.#loading === loading) this.#loading = undefined;
    loading.stop.abort();
    void loading.model.then((model) => model.unload()).catch(() => {});
  }

  /** Frees the model, unless it belongs to the page. */
  unload(): void {
    if (this.#loading) this.#end(this.#loading);
  }

  async availability(): Promise<LanguageModelAvailability> {
    if (isLoaded(this.source)) return this.source.model.chatTemplate === null ? "unavailable" : "available";
    if (this.#loading) return this.#loading.isReady ? "available" : "downloading";
    this.#isUsable ??= this.#inspect(this.source);
    try {
      if (!(await this.#isUsable)) return "unavailable";
    } catch (thrown) {
      this.#isUsable = undefined;
      const { code, message } = SiskinError.from(thrown);
      if (code === "network") throw domError("UnknownError", message);
      return "unavailable";
    }
    return (await this.#isHere(this.source)) ? "available" : "downloadable";
  }

  async #inspect(source: ModelSource): Promise<boolean> {
    const { worker, workerUrl, wasmUrl, wasmBytes, hub, device, context, cacheType } = this.options;
    const inspected = await Siskin.inspect(source, { worker, workerUrl, wasmUrl, wasmBytes, hub });
    try {
      return inspected.info.chatTemplate !== null && (await inspected.fit({ device, context, cacheType })).fits;
    } finally {
      inspected.close();
    }
  }

  /** Whether all that must be downloaded was: the file, or a folder's weights. */
  async #isHere(source: ModelSource): Promise<boolean> {
    if (!(typeof source === "string" || source instanceof URL)) return true;
    const url = address(source, this.options.hub ?? HUB, base());
    if (url.startsWith("file:")) return true;
    const found = (await Siskin.cache.list()).filter((file) => file.complete);
    return found.some((file) => (url.endsWith("/") ? file.url.startsWith(url) && file.url.endsWith(".safetensors") : file.url === url));
  }
}
