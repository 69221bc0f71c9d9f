// The documents of an index, where its engine runs: in the origin's storage, and their vectors in memory.

import type { Bindings } from "../bindings.js";
import type { DamagedDocument, DocumentIndex, ListedDocument, Passage } from "../documents.js";
import { SiskinError } from "../errors.js";
import { hasRoom, stores, type CachedFile, type Store } from "../store.js";
import type { VectorIndex } from "../wasm/siskin_training.js";
import { decodeDocument, encodeDocument, type DocumentFile, type DocumentHeader, type EmbedderIdentity } from "./document-file.js";

/** What an index has. */
export interface Shelved {
  where: DocumentIndex["where"];
  documents: ListedDocument[];
  damaged: DamagedDocument[];
}

/** A document whose vectors are in memory, in the order of the documents. */
interface Entry {
  header: DocumentHeader;
  file: Blob;
}

/** A file of a store, which has the document's name in its address. */
interface Found {
  store: Store;
  file: CachedFile;
}

/** The folder of an index. */
export const folderOf = (index: string): string => `siskin-documents-${encodeURIComponent(index)}`;

const nameIn = (url: string): string => url.slice(url.indexOf("/") + 1);

const described = ({ name, architecture, parameters, pooling }: EmbedderIdentity) =>
  `${name} (${architecture}, ${(parameters / 1e6).toPrecision(3)} million parameters, ${pooling} pooling)`;

const listed = ({ name, type, bytes, passages }: DocumentHeader): ListedDocument => ({ name, type, bytes, passages: passages.length });

export class Shelf {
  readonly #wasm: Bindings;
  #index = "";
  #stores: Store[] = [];
  #vectors: VectorIndex | undefined;
  #entries: Entry[] = [];
  #damaged: DamagedDocument[] = [];
  #where: DocumentIndex["where"] = "memory";
  /** Serialises what changes it. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(wasm: Bindings) {
    this.#wasm = wasm;
  }

  /** SHA-256, in hexadecimal. */
  readonly hash = (bytes: Uint8Array): string => {
    const hash = new this.#wasm.Hash();
    hash.update(bytes);
    return hash.finish();
  };

  /** One change at a time, in all tabs. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const locks = this.#stores.length > 0 ? globalThis.navigator?.locks : undefined;
    const turn = this.#turn.then(() => (locks ? locks.request(folderOf(this.#index), work) : work()) as Promise<T>);
    this.#turn = turn.catch(() => {});
    return turn;
  }

  /** Opens an index; throws if another embedder made its vectors. */
  async open(index: string, embedder: EmbedderIdentity): Promise<Shelved> {
    this.#index = index;
    this.#stores = await stores(folderOf(index));
    return this.#inTurn(async () => {
      this.#where = (await this.#writable()) ?? "memory";
      // In the order in which they were added.
      for (const [name, files] of [...(await this.#found())].reverse()) await this.#take(name, files, embedder);
      return this.#shelved();
    });
  }

  #shelved(): Shelved {
    return { where: this.#where, documents: this.#entries.map(({ header }) => listed(header)), damaged: [...this.#damaged] };
  }

  /** Where documents can be written. */
  async #writable(): Promise<"opfs" | "cache" | undefined> {
    for (const store of this.#stores) {
      try {
        const writer = await store.writer("probe/");
        await writer.close(false);
        await store.delete("probe/");
        return store.where;
      } catch {
        // Outside a dedicated worker the file system cannot be written this way, but the next store can.
      }
    }
    return undefined;
  }

  /** The files of each document, the newest first. */
  async #found(): Promise<Map<string, Found[]>> {
    const all: Found[] = [];
    for (const store of this.#stores) for (const file of await store.list()) all.push({ store, file });
    all.sort((a, b) => b.file.savedAt - a.file.savedAt);
    const groups = new Map<string, Found[]>();
    for (const found of all) {
      const name = nameIn(found.file.url);
      groups.set(name, [...(groups.get(name) ?? []), found]);
    }
    return groups;
  }

  async #take(name: string, files: Found[], embedder: EmbedderIdentity): Promise<void> {
    let reason = "its file was not written to the end";
    for (const { store, file } of files) {
      if (!file.complete) continue;
      try {
        const kept = await store.find(file.url);
        if (!kept) throw new Error("its file is cut short");
        const document = decodeDocument(new Uint8Array(await kept.file.arrayBuffer()), this.hash);
        const made = described(document.header.embedder);
        if (JSON.stringify(document.header.embedder) !== JSON.stringify(embedder)) {
          const remedy = `open it with that embedder, or delete it with \`documents.delete("${this.#index}")\``;
          throw new SiskinError("invalid_request", `the vectors of the index ${this.#index} were made by ${made}, not by ${described(embedder)}; ${remedy}`);
        }
        this.#push(document, kept.file);
        return;
      } catch (thrown) {
        if (thrown instanceof SiskinError) throw thrown;
        reason = (thrown as Error).message;
      }
    }
    this.#damaged.push({ name, reason });
  }

  #push({ header, vectors }: DocumentFile, file: Blob): void {
    this.#vectors ??= new this.#wasm.VectorIndex(header.columns);
    this.#vectors.push(vectors);
    this.#entries.push({ header, file });
  }

  /** Keeps a document, in place of the one with the same name. */
  put(document: DocumentFile): Promise<Shelved> {
    return this.#inTurn(async () => {
      const { name } = document.header;
      const bytes = encodeDocument(document, this.hash);
      const older = (await this.#found()).get(name) ?? [];
      const file = (await this.#write(name, bytes)) ?? new Blob([bytes]);
      this.#drop(name);
      this.#push(document, file);
      for (const { store, file } of older) await store.delete(file.url);
      return this.#shelved();
    });
  }

  /** Writes a file under a new name, so that the one before is whole until this one is. */
  async #write(name: string, bytes: Uint8Array): Promise<Blob | undefined> {
    const store = this.#stores.find(({ where }) => where === this.#where);
    if (!store) return undefined;
    const url = `${crypto.randomUUID()}/${name}`;
    try {
      if (!(await hasRoom(bytes.length))) throw new DOMException("no space is left", "QuotaExceededError");
      const writer = await store.writer(url);
      let isWhole = false;
      try {
        await writer.restart(bytes.length, undefined);
        await writer.write(bytes);
        isWhole = true;
      } finally {
        await writer.close(isWhole);
      }
      const kept = await store.find(url);
      if (!kept) throw new Error("its file is not what was written");
      return kept.file;
    } catch (thrown) {
      await store.delete(url);
      const { name: kind, message } = thrown as Error;
      const why = kind === "QuotaExceededError" ? "the origin's storage is full; remove documents or cached models" : message;
      throw new SiskinError("storage", `${name} was not added: ${why}`);
    }
  }

  /** Removes a document; resolves to whether there was one. */
  remove(name: string): Promise<Shelved & { removed: boolean }> {
    return this.#inTurn(async () => {
      const files = (await this.#found()).get(name) ?? [];
      for (const { store, file } of files) await store.delete(file.url);
      const removed = this.#drop(name) || files.length > 0;
      return { ...this.#shelved(), removed };
    });
  }

  /** Forgets a document, and its vectors. */
  #drop(name: string): boolean {
    this.#damaged = this.#damaged.filter((d) => d.name !== name);
    let row = 0;
    for (const [i, { header }] of this.#entries.entries()) {
      const end = row + header.passages.length;
      if (header.name === name) {
        this.#vectors!.remove(row, end);
        this.#entries.splice(i, 1);
        return true;
      }
      row = end;
    }
    return false;
  }

  /** A document with these contents; `listed` if it has this name, too. */
  async same(sha256: string, type: string, name: string): Promise<DocumentFile | "listed" | undefined> {
    const entries = this.#entries.filter(({ header }) => header.sha256 === sha256 && header.type === type);
    if (entries.some(({ header }) => header.name === name)) return "listed";
    const [entry] = entries;
    try {
      return entry && decodeDocument(new Uint8Array(await entry.file.arrayBuffer()), this.hash);
    } catch {
      // Another tab has removed it.
      return undefined;
    }
  }

  /** The passages nearest to a vector, the nearest first. */
  nearest(query: Float32Array, count: number): Passage[] {
    const found = this.#vectors?.nearest(query, count) ?? [];
    const passages: Passage[] = [];
    for (let i = 0; i < found.length; i += 2) passages.push(this.#passage(found[i]!, found[i + 1]!));
    return passages;
  }

  #passage(row: number, score: number): Passage {
    let first = 0;
    for (const { header } of this.#entries) {
      const cut = header.passages[row - first];
      if (cut) return { document: header.name, text: header.text.slice(cut.start, cut.end), ...cut, score };
      first += header.passages.length;
    }
    throw new SiskinError("internal", `the index has no passage ${row}`);
  }

  free(): void {
    this.#vectors?.free();
    this.#vectors = undefined;
    this.#entries = [];
  }
}
