// The user's files, from which conversations are answered: one index, which is opened when it is first needed.

import { SiskinError, type ChatRequest, type ChatStream, type DamagedDocument, type DocumentIndex, type ListedDocument, type Siskin, type Sources } from "siskin";
import { untrack } from "svelte";

import { language } from "../language/language.svelte.js";
import { read, write } from "../lib/kept-values.js";
import { model } from "../lib/model.svelte.js";
import { server } from "../lib/server.svelte.js";
import { words } from "../lib/words.js";
import { chats, type Chat } from "./chats.svelte.js";

/** Of the index, and of what is remembered of it. */
const NAME = "files";
/** Endings of names, for a file chooser. */
export const ENDINGS = [".txt", ".text", ".md", ".markdown", ".html", ".htm", ".xhtml", ".pdf"];

export const isDocument = ({ name }: File): boolean => ENDINGS.some((ending) => name.toLowerCase().endsWith(ending));

/** What is told of an index that cannot be opened. */
interface Remembered {
  model: string;
  names: string[];
}

/** A file that is being read. */
interface Reading {
  name: string;
  /** Passages; none is known at first. */
  done: number;
  total: number;
  /** Files after this one. */
  waiting: number;
}

/** An index that another model made. */
interface Refused {
  model?: string;
  /** Files that were added during this visit can be indexed again. */
  atHand: File[];
  gone: string[];
}

class Files {
  list = $state.raw<readonly ListedDocument[]>([]);
  damaged = $state.raw<readonly DamagedDocument[]>([]);
  where = $state.raw<DocumentIndex["where"] | undefined>();
  opening = $state(false);
  reading = $state.raw<Reading | undefined>();
  refused = $state.raw<Refused | undefined>();
  /** Names of files of an index that was removed, which are to be added again. */
  gone = $state.raw<string[]>([]);
  errors = $state.raw<string[]>([]);
  #index: Promise<DocumentIndex> | undefined;
  /** The model of the index. */
  #owner: Siskin | undefined;
  #sources = new Map<string, File>();
  #waiting: { chat: Chat; file: File }[] = [];
  #stop: AbortController | undefined;

  constructor() {
    $effect.root(() => {
      $effect(() => {
        if (model.siskin !== this.#owner) untrack(() => this.#owner && this.#close());
      });
    });
  }

  /** Files are read by the page's own model. */
  get usable(): boolean {
    return !!model.siskin && !server.chosen;
  }

  /** Opens the index if it is not open. Rejects with what the user can do. */
  #open(): Promise<DocumentIndex> {
    const siskin = model.siskin!;
    if (this.#owner && this.#owner !== siskin) this.#close();
    this.#owner = siskin;
    this.#index ??= this.#opened(siskin);
    return this.#index;
  }

  async #opened(siskin: Siskin): Promise<DocumentIndex> {
    this.opening = true;
    try {
      const index = await siskin.documents.open(NAME);
      if (this.#owner !== siskin) {
        index.close();
        throw new SiskinError("aborted", "another model was opened");
      }
      this.refused = undefined;
      this.#show(index);
      return index;
    } catch (thrown) {
      if (this.#owner !== siskin) throw thrown;
      this.#index = undefined;
      // The name is right, so the embedder is not.
      if (!(thrown instanceof SiskinError && thrown.code === "invalid_request")) throw thrown;
      const { model, names = [] } = read<Remembered>(NAME) ?? {};
      const atHand = names.map((name) => this.#sources.get(name)).filter((file) => file !== undefined);
      this.refused = { model, atHand, gone: names.filter((name) => !this.#sources.has(name)) };
      throw new Error(language.words.files.otherModelAnswer);
    } finally {
      if (this.#owner === siskin) this.opening = false;
    }
  }

  #show(index: DocumentIndex): void {
    this.list = index.list();
    this.damaged = index.damaged;
    this.where = index.where;
    const known: Remembered = { model: model.name, names: [...this.list, ...this.damaged].map(({ name }) => name) };
    write(NAME, known);
    this.gone = this.gone.filter((name) => !known.names.includes(name));
  }

  /** Another model has another index. */
  #close(): void {
    this.stop();
    void this.#index?.then((index) => index.close(), () => {});
    this.#index = undefined;
    this.#owner = undefined;
    [this.list, this.damaged, this.where] = [[], [], undefined];
    [this.opening, this.refused, this.errors] = [false, undefined, []];
  }

  /** Opens the index to show its files. */
  async look(): Promise<void> {
    if (!this.usable) return;
    try {
      await this.#open();
    } catch (thrown) {
      if (!this.refused && SiskinError.from(thrown).code !== "aborted") this.errors = [words(thrown)];
    }
  }

  /** Adds files, one after another, for a conversation that is answered from them from then on. */
  async add(chat: Chat, files: File[]): Promise<void> {
    this.#waiting.push(...files.map((file) => ({ chat, file })));
    if (this.reading) return void (this.reading = { ...this.reading, waiting: this.#waiting.length });
    this.errors = [];
    for (let next = this.#waiting.shift(); next; next = this.#waiting.shift()) {
      this.#stop = new AbortController();
      await this.#add(next.chat, next.file, this.#stop.signal);
    }
    this.reading = undefined;
  }

  async #add(chat: Chat, file: File, signal: AbortSignal): Promise<void> {
    const { name } = file;
    const report = (done: number, total: number) => {
      if (!signal.aborted) this.reading = { name, done, total, waiting: this.#waiting.length };
    };
    report(0, 0);
    try {
      const index = await this.#open();
      await index.add(file, { signal, onProgress: ({ done, total }) => report(done, total) });
      this.#sources.set(name, file);
      const isFirst = this.list.length === 0;
      this.#show(index);
      if (isFirst || chat.files === undefined) this.use(chat, true);
    } catch (thrown) {
      if (signal.aborted) return;
      const { message } = SiskinError.from(thrown);
      const t = language.words.files;
      // A name keeps its letters, also at the beginning of a sentence.
      const why = message.startsWith(name) ? message : t.failed(name, words(thrown));
      this.errors = [...this.errors, this.refused ? t.notAdded(name) : why];
    }
  }

  /** Stops reading files; the ones that were read stay. */
  stop(): void {
    this.#waiting = [];
    this.#stop?.abort();
  }

  async remove(name: string): Promise<void> {
    this.errors = [];
    try {
      const index = await this.#open();
      await index.remove(name);
      this.#sources.delete(name);
      this.#show(index);
    } catch (thrown) {
      this.errors = [language.words.files.failed(name, words(thrown))];
    }
  }

  /** Removes the index that another model made, and indexes the files that are at hand. */
  async again(chat: Chat): Promise<void> {
    const { refused } = this;
    if (!refused || !model.siskin) return;
    try {
      await model.siskin.documents.delete(NAME);
    } catch (thrown) {
      return void (this.errors = [words(thrown)]);
    }
    this.refused = undefined;
    this.gone = refused.gone;
    if (refused.atHand.length > 0) await this.add(chat, refused.atHand);
    else await this.look();
  }

  /** Whether a conversation is answered from the files. */
  use(chat: Chat, isOn: boolean): void {
    chat.files = isOn;
    if (chat.turns.length > 0) chats.keep(chat);
  }

  async answer(request: Omit<ChatRequest, "stream">, signal: AbortSignal): Promise<ChatStream & Sources> {
    const index = await this.#open();
    return index.answer({ ...request, stream: true }, { signal });
  }
}

export const files = new Files();
