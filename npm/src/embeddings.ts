// Embeddings in OpenAI's shape (https://platform.openai.com/docs/api-reference/embeddings), and scores of texts.

import { SiskinError } from "./errors.js";
import type { EmbedOptions, Embedded } from "./types.js";

export interface EmbeddingRequest {
  input: string | string[];
  /** Echoed in the answer; there is only one model. */
  model?: string;
  /** Only this many of the first dimensions, of a model that was trained for it. */
  dimensions?: number | null;
  /** `base64` encodes little-endian float32 values. */
  encoding_format?: "float" | "base64" | null;
  /** Extension: the name of one of the model's prompts, which is put before each text. */
  prompt?: string | null;
  /** Extension: how a text's vector is made of its tokens', for a model whose files do not say it. */
  pooling?: "mean" | "cls" | "last" | null;
  /** Extension: cuts texts that are longer than the model takes. */
  truncate?: boolean | null;
}

export interface EmbeddingOf<T> {
  object: "embedding";
  index: number;
  embedding: T;
}

export interface EmbeddingResponse<T = number[]> {
  object: "list";
  data: EmbeddingOf<T>[];
  model: string;
  usage: { prompt_tokens: number; total_tokens: number };
}

export interface RerankRequest {
  query: string;
  documents: string[];
  /** Only this many of the best documents. */
  top_n?: number | null;
  /** Cuts documents that are longer, with the query, than the model takes. */
  truncate?: boolean | null;
}

export interface RerankResponse {
  /** The best first. */
  results: { index: number; relevance_score: number; document: { text: string } }[];
}

/** What embeddings need from a model. */
export interface Embedder {
  readonly name: string;
  embed(texts: string[], options: EmbedOptions): Promise<Embedded>;
  rerank(query: string, texts: string[], truncate: boolean): Promise<Float32Array>;
}

const invalid = (message: string) => new SiskinError("invalid_request", message);

/** Refuses unknown fields by name. */
function checkFields(request: unknown, known: readonly string[], without: readonly string[] = []): void {
  if (typeof request !== "object" || request === null) throw invalid(`a request must be an object with \`${known[0]}\``);
  const wrong = Object.keys(request).find((key) => !known.includes(key) && !without.includes(key));
  if (wrong !== undefined) throw invalid(`a request has no field \`${wrong}\``);
}

function textsOf(name: string, value: unknown): string[] {
  const texts = [value].flat();
  if (texts.length === 0 || !texts.every((t) => typeof t === "string")) {
    throw invalid(`\`${name}\` must be a string or a list of strings`);
  }
  return texts as string[];
}

function flag(name: string, value: unknown): boolean {
  if (value != null && typeof value !== "boolean") throw invalid(`\`${name}\` is ${JSON.stringify(value)}; it must be true or false`);
  return value ?? false;
}

function count(name: string, value: number | null | undefined): number | undefined {
  if (value != null && !(Number.isSafeInteger(value) && value > 0)) {
    throw invalid(`\`${name}\` is ${String(value)}; it must be a positive integer`);
  }
  return value ?? undefined;
}

/** Little-endian float32 values, whatever the machine's order. */
function base64(values: Float32Array): string {
  const view = new DataView(new ArrayBuffer(4 * values.length));
  values.forEach((v, i) => view.setFloat32(4 * i, v, true));
  return btoa(Array.from(new Uint8Array(view.buffer), (b) => String.fromCharCode(b)).join(""));
}

/** Embeddings of one model. */
export class Embeddings {
  constructor(private readonly model: Embedder) {}

  create(request: EmbeddingRequest & { encoding_format: "base64" }): Promise<EmbeddingResponse<string>>;
  create(request: EmbeddingRequest & { encoding_format?: "float" | null }): Promise<EmbeddingResponse>;
  create(request: EmbeddingRequest): Promise<EmbeddingResponse<number[] | string>>;
  async create(request: EmbeddingRequest): Promise<EmbeddingResponse<number[] | string>> {
    checkFields(request, ["input", "model", "dimensions", "encoding_format", "prompt", "pooling", "truncate"], ["user"]);
    const { encoding_format: format, prompt, pooling } = request;
    if (format != null && format !== "float" && format !== "base64") {
      throw invalid(`\`encoding_format\` is ${JSON.stringify(format)}; use "float" or "base64"`);
    }
    if (prompt != null && typeof prompt !== "string") throw invalid("`prompt` must be the name of a prompt");
    const dimensions = count("dimensions", request.dimensions);
    const { values, columns, tokens } = await this.model.embed(textsOf("input", request.input), {
      truncate: flag("truncate", request.truncate),
      ...(dimensions !== undefined && { dimensions }),
      ...(prompt != null && { prompt }),
      ...(pooling != null && { pooling }),
    });
    const rows = Array.from({ length: values.length / columns }, (_, i) => values.subarray(i * columns, (i + 1) * columns));
    return {
      object: "list",
      data: rows.map((row, index) => ({
        object: "embedding",
        index,
        embedding: format === "base64" ? base64(row) : Array.from(row),
      })),
      model: request.model ?? this.model.name,
      usage: { prompt_tokens: tokens, total_tokens: tokens },
    };
  }
}

/** Documents, sorted by how well they answer a query. */
export async function rerank(model: Embedder, request: RerankRequest): Promise<RerankResponse> {
  checkFields(request, ["query", "documents", "top_n", "truncate"]);
  const { query } = request;
  if (typeof query !== "string") throw invalid("`query` must be a string");
  if (!Array.isArray(request.documents)) throw invalid("`documents` must be a list of strings");
  const documents = textsOf("documents", request.documents);
  const top = count("top_n", request.top_n);
  const scores = await model.rerank(query, documents, flag("truncate", request.truncate));
  const results = documents.map((text, index) => ({ index, relevance_score: scores[index]!, document: { text } }));
  results.sort((a, b) => b.relevance_score - a.relevance_score);
  return { results: results.slice(0, top) };
}
