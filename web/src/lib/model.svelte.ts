import { Siskin, type Fit, type Info, type ModelSource, type Progress } from "siskin";

import { restoreSequence } from "./sequence.js";
import { words } from "./words.js";

/** Served with the page by `cargo xtask web`. */
export const DEFAULT_MODEL = new URL("models/smollm2-135m-instruct.gguf", document.baseURI).href;

/** The page's model, shared by all views. */
class Model {
  /** The loaded model's name. */
  name = $state("");
  /** The name of the chosen model, to be loaded next. */
  chosen = $state("");
  fit = $state.raw<Fit | undefined>();
  progress = $state.raw<Progress | undefined>();
  error = $state("");
  notice = $state("");
  siskin = $state.raw<Siskin | undefined>();
  info = $state.raw<Info | undefined>();
  device = $state<"" | "webgpu" | "cpu">("");
  /** The adapter in use, by name. */
  adapter = $state<string | null>(null);
  #source: ModelSource | undefined;
  #stop: AbortController | undefined;

  get busy(): boolean {
    return this.progress !== undefined;
  }

  /** Reads the headers and determines whether the model fits. */
  async choose(source: ModelSource, name: string): Promise<void> {
    this.error = "";
    this.fit = undefined;
    this.chosen = name;
    this.#source = source;
    try {
      const fit = await Siskin.fits(source, { device: this.device || undefined });
      // Another one may have been chosen in the meantime.
      if (this.#source === source) this.fit = fit;
    } catch (thrown) {
      if (this.#source === source) this.error = words(thrown);
    }
  }

  async load(context?: number): Promise<void> {
    if (!this.#source) return;
    this.unload();
    this.name = this.chosen;
    this.error = "";
    this.notice = "";
    this.#stop = new AbortController();
    this.progress = { phase: "download", loaded: 0, total: 0, rate: 0 };
    try {
      const siskin = await Siskin.load(this.#source, {
        device: this.device || undefined,
        context,
        signal: this.#stop.signal,
        // Also when the model is opened again to train.
        onProgress: (p) => (this.progress = p.phase === "ready" ? undefined : p),
        onDeviceLost: () => (this.notice = "The GPU was lost and is being reopened; the answer will then continue."),
      });
      await restoreSequence(siskin);
      this.siskin = siskin;
      this.info = await siskin.info();
      this.fit = undefined;
    } catch (thrown) {
      this.error = words(thrown);
    } finally {
      this.progress = undefined;
    }
  }

  stop(): void {
    this.#stop?.abort();
  }

  async refresh(): Promise<void> {
    if (this.siskin) this.info = await this.siskin.info();
  }

  unload(): void {
    this.siskin?.unload();
    this.siskin = undefined;
    this.info = undefined;
    this.adapter = null;
  }
}

export const model = new Model();
