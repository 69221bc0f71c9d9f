// Search in documents, and answers from them. What does it is imported when an index is first opened.

import type { ChatCompletion, ChatRequest, ChatStream } from "./chat.js";
import type { RequestOptions } from "./exchange.js";
import { check } from "./options.js";
import type { Siskin } from "./siskin.js";

export type DocumentType = "text/plain" | "text/markdown" | "text/html" | "application/pdf";

/** A file, or a text with a name. A file's type is told by its name, else by its `type`; a text is plain unless it says otherwise. */
export type DocumentSource = (Blob & { readonly name: string }) | { name: string; text: string; type?: DocumentType };

/** A document of an index. */
export interface ListedDocument {
  name: string;
  type: DocumentType;
  /** The size of its source. */
  bytes: number;
  passages: number;
}

/** A document whose file in the origin's storage cannot be used. Add the document again, or remove it. */
export interface DamagedDocument {
  name: string;
  reason: string;
}

/** A part of a document. */
export interface Passage {
  /** The document's name. */
  document: string;
  text: string;
  /** The headings above it, the outermost first: `Trips > Norway`. */
  heading?: string;
  /** Of a PDF, from 1. */
  page?: number;
  /** Where it is in the document's text, in UTF-16 code units. */
  start: number;
  end: number;
  /** The cosine of its vector and the query's. */
  score: number;
}

export interface AddProgress {
  /** The document's name. */
  document: string;
  /** Passages that have their vectors. */
  done: number;
  total: number;
}

export interface AddOptions {
  onProgress?: (progress: AddProgress) => void;
  signal?: AbortSignal | null;
}

/** A request for a chat completion, which is answered from the passages nearest to the last message of the user. */
export type DocumentRequest = ChatRequest & {
  /** The most passages that the model gets; 5 by default. */
  limit?: number;
};

/** The passages that the model got, in the order in which it cites them: `[1]` is the first. Empty if none was near. */
export interface Sources {
  sources: Passage[];
}

/** Documents with a vector for each passage. What is added or removed in other tabs is seen when it is opened again. */
export interface DocumentIndex {
  readonly name: string;
  /** Where documents are kept; `memory` is only for this visit. */
  readonly where: "opfs" | "cache" | "memory";
  /** Documents that were kept, but cannot be used. */
  readonly damaged: readonly DamagedDocument[];
  list(): ListedDocument[];
  /** Adds a document, in place of the one with the same name. One whose contents are known already is not embedded again. */
  add(source: DocumentSource, options?: AddOptions): Promise<ListedDocument>;
  /** Removes a document; resolves to whether there was one. */
  remove(name: string): Promise<boolean>;
  /** The passages nearest to a text, the nearest first. */
  search(query: string, options?: { limit?: number }): Promise<Passage[]>;
  answer(request: DocumentRequest & { stream: true }, options?: RequestOptions): Promise<ChatStream & Sources>;
  answer(request: DocumentRequest & { stream?: false | null }, options?: RequestOptions): Promise<ChatCompletion & Sources>;
  answer(request: DocumentRequest, options?: RequestOptions): Promise<(ChatStream | ChatCompletion) & Sources>;
  /** Frees its memory; the documents stay where they are kept. */
  close(): void;
}

export interface OpenDocumentsOptions {
  /** Another loaded model, which makes the vectors; by default, the model's own states serve. */
  embedder?: Siskin;
}

/** Indexes of documents, by name. */
export class Documents {
  /** @internal */
  constructor(private readonly model: Siskin) {}

  /** Opens an index, or makes one. */
  async open(name: string, options: OpenDocumentsOptions = {}): Promise<DocumentIndex> {
    check("documents.open", options);
    const { openIndex } = await import("./documents/document-index.js");
    return openIndex(this.model, name, options.embedder ?? this.model);
  }

  /** Deletes an index with all of its documents. */
  async delete(name: string): Promise<void> {
    const { deleteIndex } = await import("./documents/document-index.js");
    await deleteIndex(name);
  }
}
