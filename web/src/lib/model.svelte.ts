import { Siskin, SiskinError, type Fit, type Info, type ModelSource, type Progress } from "siskin";

import { language } from "../language/language.svelte.js";
import { drop, read, write } from "./kept-values.js";
import { restoreSequence } from "./sequence.js";
import { words } from "./words.js";

/** A model to open. */
export interface Choice {
  source: ModelSource;
  name: string;
  /** In tokens. */
  context?: number;
  sha256?: string | null;
}

/** What is opened at the next visit. */
interface Remembered extends Choice {
  source: string;
  device: Device;
}

export type Device = "" | "webgpu" | "cpu";

/** The hub of `hf:` references. */
const HUB = "https://huggingface.co";
const REMEMBERED = "model";
/** Set while a remembered model is being opened: a tab that this ends must not try again. */
const OPENING = "opening";
/** Held meanwhile, by each tab that does so. */
const LOCK = "siskin-opening";

/** The page's model, shared by all views. */
class Model {
  /** The open model's name. */
  name = $state("");
  /** What is being opened, or does not fit. */
  chosen = $state.raw<Choice | undefined>();
  /** Why the chosen model does not fit. */
  misfit = $state.raw<Fit | undefined>();
  phase = $state<"" | "checking" | Progress["phase"]>("");
  progress = $state.raw<Progress | undefined>();
  error = $state("");
  notice = $state("");
  siskin = $state.raw<Siskin | undefined>();
  /** Where the open model is from. */
  source = $state.raw<ModelSource | undefined>();
  info = $state.raw<Info | undefined>();
  device = $state<Device>(read<Device>("device") ?? "");
  hub = $state(read<string>("hub") ?? HUB);
  /** Whether the next tokens are guessed. */
  guesses = $state(read<boolean>("guesses") ?? false);
  /** Set where the hub could not be reached. */
  hubFailed = $state(false);
  /** The adapter in use, by name. */
  adapter = $state<string | null>(null);
  #stop: AbortController | undefined;

  get busy(): boolean {
    return this.phase !== "";
  }

  /** Opens a model if it fits; its headers say so before it is downloaded. */
  async open(choice: Choice): Promise<void> {
    if (this.busy) return;
    const { source, context } = choice;
    this.error = "";
    this.notice = "";
    this.hubFailed = false;
    this.misfit = undefined;
    this.chosen = choice;
    this.phase = "checking";
    const stop = (this.#stop = new AbortController());
    const device = this.device || undefined;
    write("device", this.device);
    write("hub", this.hub);
    write("guesses", this.guesses);
    try {
      const fit = await Siskin.fits(source, { device, context, hub: this.hub, signal: stop.signal });
      if (!fit.fits) return void (this.misfit = fit);
      this.close();
      this.name = choice.name;
      const siskin = await Siskin.load(source, {
        device,
        context,
        draft: this.guesses ? "ngram" : undefined,
        hub: this.hub,
        sha256: choice.sha256 ?? undefined,
        signal: stop.signal,
        // Also when the model is opened again to train.
        onProgress: (p) => this.#report(p),
        onDeviceLost: () => (this.notice = language.words.open.gpuLost),
      });
      await restoreSequence(siskin);
      this.info = await siskin.info();
      [this.siskin, this.source] = [siskin, source];
      this.chosen = undefined;
      if (typeof source === "string") write(REMEMBERED, { ...choice, device: this.device });
    } catch (thrown) {
      const code = thrown instanceof SiskinError ? thrown.code : undefined;
      if (code === "network" && String(source).startsWith("hf:")) this.hubFailed = true;
      if (code !== "aborted") this.error = words(thrown);
    } finally {
      this.phase = "";
      this.progress = undefined;
    }
  }

  /** Opens a user's file, or a folder's files. */
  openFiles(files: File[], context?: number): Promise<void> {
    const [first] = files;
    return files.length === 1 ? this.open({ source: first!, name: first!.name, context }) : this.open({ source: files, name: language.words.open.folder, context });
  }

  #report(progress: Progress): void {
    if (progress.phase === "ready") [this.phase, this.progress] = ["", undefined];
    else [this.phase, this.progress] = [progress.phase, progress];
  }

  /** Opens the model of the last visit, if it is still in the cache. */
  async reopen(): Promise<void> {
    const choice = read<Remembered>(REMEMBERED);
    if (!choice || typeof choice.source !== "string") return;
    const inOtherTab = (await navigator.locks?.query())?.held?.some(({ name }) => name === LOCK);
    if (read(OPENING) && !inOtherTab) {
      drop(OPENING);
      this.error = language.words.open.brokeDown(choice.name);
      return;
    }
    const address = this.address(choice.source);
    const kept = await Siskin.cache.list();
    if (!kept.some(({ url, complete }) => complete && url.startsWith(address))) {
      this.error = language.words.open.notKept(choice.name);
      return;
    }
    this.device = choice.device;
    const opened = () => drop(OPENING);
    write(OPENING, true);
    // A tab that the user closes is not one that broke down.
    addEventListener("pagehide", opened);
    if (navigator.locks) await navigator.locks.request(LOCK, { mode: "shared" }, () => this.open(choice));
    else await this.open(choice);
    removeEventListener("pagehide", opened);
    opened();
  }

  /** Where a source is downloaded from. */
  address(source: string): string {
    const [, owner, repo, revision = "main", file = ""] = /^hf:([^/]+)\/([^/@]+)(?:@([^/]+))?(?:\/(.+))?$/.exec(source) ?? [];
    const hub = URL.canParse(this.hub) ? this.hub : HUB;
    const base = hub.endsWith("/") ? hub : `${hub}/`;
    return owner ? new URL(`${owner}/${repo}/resolve/${revision}/${file}`, base).href : new URL(source, document.baseURI).href;
  }

  stop(): void {
    this.#stop?.abort();
  }

  async refresh(): Promise<void> {
    if (this.siskin) this.info = await this.siskin.info();
  }

  close(): void {
    this.siskin?.unload();
    this.siskin = undefined;
    this.source = undefined;
    this.info = undefined;
    this.adapter = null;
  }

  /** Closes it, at the next visit too. */
  forget(): void {
    drop(REMEMBERED);
    this.close();
  }
}

export const model = new Model();
