// The vectors of passages and queries, by a loaded model.

import { SiskinError, aborted } from "../errors.js";
import type { Siskin } from "../siskin.js";
import type { EmbedOptions } from "../types.js";
import type { EmbedderIdentity } from "./document-file.js";
import type { Extracted } from "./passages.js";

/** The most tokens of a passage, whatever the model takes. */
const LONGEST = 256;
/** Tokens that a model processes at once. */
const BATCH = 512;
/** Code units that are turned into tokens at once. */
const PIECE = 1 << 15;

/** How documents become vectors. */
interface Method {
  options: EmbedOptions;
  /** The most tokens of a passage. */
  most: number;
}

/** Where in a text some UTF-8 offsets are, which ascend. */
function places(text: string, offsets: Iterable<number>): number[] {
  const found: number[] = [];
  let [byte, at] = [0, 0];
  for (const offset of offsets) {
    while (byte < offset && at < text.length) {
      const point = text.codePointAt(at)!;
      byte += point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
      at += point < 0x10000 ? 1 : 2;
    }
    found.push(at);
  }
  return found;
}

/** Rejects when the signal aborts. */
function stopped(signal: AbortSignal | null | undefined): Promise<never> {
  const promise = new Promise<never>((_, reject) => {
    if (signal?.aborted) reject(aborted());
    signal?.addEventListener("abort", () => reject(aborted()), { once: true });
  });
  promise.catch(() => {});
  return promise;
}

export class DocumentEmbedder {
  readonly identity: EmbedderIdentity;
  readonly #model: Siskin;
  readonly #pooling: EmbedOptions;
  #method: Promise<Method> | undefined;
  #queries: Promise<EmbedOptions> | undefined;

  constructor(model: Siskin) {
    const { name, architecture, parameters, makes, pooling } = model.model;
    if (makes === "scores") {
      throw new SiskinError("invalid_request", `${name} makes scores of texts, not vectors; give a model for embeddings as \`embedder\``);
    }
    this.#model = model;
    this.#pooling = pooling === null ? { pooling: "mean" } : {};
    // Not where it was loaded from: the last part of an address.
    const called = name.split("/").filter(Boolean).at(-1) ?? name;
    this.identity = { name: called, architecture, parameters, pooling: pooling ?? "mean" };
  }

  #embed(texts: string[], options: EmbedOptions) {
    return this.#model.embedder.embed(texts, { ...options, ...this.#pooling, truncate: true });
  }

  /** The first of these prompts that the model has; none is right for most. */
  async #prompted(...prompts: string[]): Promise<{ options: EmbedOptions; tokens: number }> {
    for (const prompt of prompts) {
      try {
        return { options: { prompt }, tokens: (await this.#embed(["a"], { prompt })).tokens };
      } catch (thrown) {
        if (SiskinError.from(thrown).code !== "invalid_request") throw thrown;
      }
    }
    return { options: {}, tokens: (await this.#embed(["a"], {})).tokens };
  }

  async #measure(): Promise<Method> {
    const { options, tokens } = await this.#prompted("document", "passage");
    // Of the text alone: prompts and control tokens are added to each.
    const own = (await this.#starts("a")).length;
    const { context } = await this.#model.info();
    let longest = Math.min(LONGEST, context);
    // The files of a model for embeddings may say that it takes less than its context.
    if (this.#model.model.pooling !== null) longest = (await this.#embed(["a ".repeat(2 * longest)], options)).tokens;
    return { options, most: Math.max(1, Math.min(LONGEST, longest) - (tokens - own)) };
  }

  #how(): Promise<Method> {
    this.#method ??= this.#measure();
    this.#method.catch(() => (this.#method = undefined));
    return this.#method;
  }

  async #starts(text: string): Promise<number[]> {
    const tokens = await this.#model.tokenizer.encode(text);
    return places(text, tokens.filter(({ start, end }) => end > start).map(({ start }) => start));
  }

  /** The most tokens of a passage. */
  async longest(): Promise<number> {
    return (await this.#how()).most;
  }

  /** Where each token of a document begins. */
  async tokens({ text, blocks }: Extracted): Promise<number[]> {
    const starts: number[] = [];
    let from = 0;
    for (const [i, { end }] of blocks.entries()) {
      const isLast = i === blocks.length - 1;
      if (end - from < PIECE && !isLast) continue;
      for (const start of await this.#starts(text.slice(from, end))) starts.push(from + start);
      from = end;
    }
    return starts;
  }

  /** A vector for each passage, one after another. */
  async passages(texts: string[], onDone: (done: number) => void, signal?: AbortSignal | null): Promise<{ vectors: Float32Array; columns: number }> {
    const { options, most } = await this.#how();
    const batch = Math.max(1, Math.floor(BATCH / most));
    const stop = stopped(signal);
    const parts: Float32Array[] = [];
    let columns = 0;
    for (let at = 0; at < texts.length; at += batch) {
      // What is being computed ends by itself.
      const found = await Promise.race([this.#embed(texts.slice(at, at + batch), options), stop]);
      columns = found.columns;
      parts.push(found.values);
      onDone(Math.min(at + batch, texts.length));
    }
    const vectors = new Float32Array(columns * texts.length);
    parts.reduce((place, part) => (vectors.set(part, place), place + part.length), 0);
    return { vectors, columns };
  }

  async query(text: string): Promise<Float32Array> {
    this.#queries ??= this.#prompted("query").then(({ options }) => options);
    this.#queries.catch(() => (this.#queries = undefined));
    return (await this.#embed([text], await this.#queries)).values;
  }
}
