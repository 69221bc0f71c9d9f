// An index of documents: what reads, cuts and embeds them here, and an engine without a model that keeps and searches them.

import type { ChatCompletion, ChatStream } from "../chat.js";
import type {
  AddOptions,
  DamagedDocument,
  DocumentIndex,
  DocumentRequest,
  DocumentSource,
  ListedDocument,
  Passage,
  Sources,
} from "../documents.js";
import { SiskinError, aborted } from "../errors.js";
import type { RequestOptions } from "../exchange.js";
import { check } from "../options.js";
import { startHost, type Host } from "../remote.js";
import type { Siskin } from "../siskin.js";
import { dropFolder } from "../store.js";
import { answer } from "./answer.js";
import { DocumentEmbedder } from "./embedder.js";
import { cut } from "./passages.js";
import { folderOf, type Shelf, type Shelved } from "./shelf.js";
import { contentsOf, extract } from "./text.js";

/** Passages that are found where nothing else is asked for. */
const LIMIT = 5;

/** The calls of a shelf that is another thread's. */
type RemoteShelf = {
  [K in Exclude<keyof Shelf, "free">]: Shelf[K] extends (...args: infer A) => infer R ? (...args: A) => Promise<Awaited<R>> : never;
};

const shelfOf = ({ calls }: Host) =>
  new Proxy({} as RemoteShelf, { get: (_, call: keyof RemoteShelf) => (...args: unknown[]) => calls.documents(call, args) });

const invalid = (message: string) => new SiskinError("invalid_request", message);

function checkName(name: unknown): void {
  // Browsers' file systems take names of at most 255 bytes.
  if (typeof name !== "string" || name === "" || folderOf(name).length > 255) {
    throw invalid(`${JSON.stringify(name)} is not a name of an index: a name is a text of at most 200 letters`);
  }
}

function checkLimit(limit: unknown): number {
  if (limit === undefined) return LIMIT;
  if (!(Number.isSafeInteger(limit) && (limit as number) > 0)) throw invalid(`\`limit\` is ${String(limit)}; it must be a positive integer`);
  return limit as number;
}

class Index implements DocumentIndex {
  readonly name: string;
  readonly where: DocumentIndex["where"];
  readonly #model: Siskin;
  readonly #embedder: DocumentEmbedder;
  readonly #host: Host;
  readonly #shelf: RemoteShelf;
  #documents: ListedDocument[];
  #damaged: DamagedDocument[];
  #isClosed = false;

  constructor(model: Siskin, name: string, embedder: DocumentEmbedder, host: Host, shelved: Shelved) {
    this.#model = model;
    this.name = name;
    this.where = shelved.where;
    this.#embedder = embedder;
    this.#host = host;
    this.#shelf = shelfOf(host);
    this.#documents = shelved.documents;
    this.#damaged = shelved.damaged;
  }

  get damaged(): readonly DamagedDocument[] {
    return [...this.#damaged];
  }

  list(): ListedDocument[] {
    return [...this.#documents];
  }

  #open(): RemoteShelf {
    if (this.#isClosed) throw new SiskinError("unloaded", `the index ${this.name} was closed`);
    return this.#shelf;
  }

  #show({ documents, damaged }: Shelved): void {
    this.#documents = documents;
    this.#damaged = damaged;
  }

  #listed(name: string): ListedDocument {
    return this.#documents.find((d) => d.name === name)!;
  }

  async add(source: DocumentSource, options: AddOptions = {}): Promise<ListedDocument> {
    check("documents.add", options);
    try {
      return await this.#add(source, options);
    } catch (thrown) {
      throw SiskinError.from(thrown);
    }
  }

  async #add(source: DocumentSource, options: AddOptions): Promise<ListedDocument> {
    const { onProgress = () => {}, signal } = options;
    const shelf = this.#open();
    const goOn = () => {
      if (signal?.aborted) throw aborted();
    };
    goOn();
    const contents = await contentsOf(source);
    const { name, type, bytes } = contents;
    const sha256 = await shelf.hash(bytes);
    const known = await shelf.same(sha256, type, name);
    if (known === "listed") return this.#listed(name);
    if (known) {
      this.#show(await shelf.put({ ...known, header: { ...known.header, name } }));
      return this.#listed(name);
    }
    const extracted = await extract(contents, this.#model.runtime);
    goOn();
    const passages = cut(extracted, await this.#embedder.tokens(extracted), await this.#embedder.longest());
    const texts = passages.map(({ start, end }) => extracted.text.slice(start, end));
    const report = (done: number) => onProgress({ document: name, done, total: texts.length });
    report(0);
    const { vectors, columns } = await this.#embedder.passages(texts, report, signal);
    goOn();
    const embedder = this.#embedder.identity;
    const header = { name, type, bytes: bytes.length, sha256, embedder, columns, text: extracted.text, passages };
    this.#show(await this.#open().put({ header, vectors }));
    return this.#listed(name);
  }

  async remove(name: string): Promise<boolean> {
    const { removed, ...shelved } = await this.#open().remove(name);
    this.#show(shelved);
    return removed;
  }

  async search(query: string, options: { limit?: number } = {}): Promise<Passage[]> {
    check("documents.search", options);
    if (typeof query !== "string" || query.trim() === "") throw invalid("`query` must be a text that is not empty");
    const limit = checkLimit(options.limit);
    const shelf = this.#open();
    return this.#documents.length === 0 ? [] : shelf.nearest(await this.#embedder.query(query), limit);
  }

  answer(request: DocumentRequest & { stream: true }, options?: RequestOptions): Promise<ChatStream & Sources>;
  answer(request: DocumentRequest & { stream?: false | null }, options?: RequestOptions): Promise<ChatCompletion & Sources>;
  answer(request: DocumentRequest, options?: RequestOptions): Promise<(ChatStream | ChatCompletion) & Sources>;
  async answer(request: DocumentRequest, options: RequestOptions = {}): Promise<(ChatStream | ChatCompletion) & Sources> {
    check("create", options);
    this.#open();
    return answer(this.#model, (query, limit) => this.search(query, { limit }), request, options);
  }

  close(): void {
    this.#isClosed = true;
    this.#host.close();
  }
}

export async function openIndex(model: Siskin, name: string, embedder: Siskin): Promise<DocumentIndex> {
  checkName(name);
  const documents = new DocumentEmbedder(embedder);
  const host = await startHost(model.runtime, "chat");
  try {
    const shelved = await shelfOf(host).open(name, documents.identity);
    return new Index(model, name, documents, host, shelved);
  } catch (thrown) {
    host.close();
    throw SiskinError.from(thrown);
  }
}

export async function deleteIndex(name: string): Promise<void> {
  checkName(name);
  await dropFolder(folderOf(name));
}
