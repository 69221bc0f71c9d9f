import { SiskinError, aborted } from "./errors.js";

/** Bytes that can be read by range, as required by the wasm. */
export interface ByteSource {
  readonly name: string;
  readonly size: number;
  read(offset: number, bytes: number): Promise<Uint8Array>;
}

/** A user's file, or a cached one. */
export class BlobSource implements ByteSource {
  readonly size: number;

  constructor(
    readonly name: string,
    private readonly blob: Blob,
  ) {
    this.size = blob.size;
  }

  async read(offset: number, bytes: number): Promise<Uint8Array> {
    return new Uint8Array(await this.blob.slice(offset, offset + bytes).arrayBuffer());
  }
}

/** A file at an address, of which only some ranges are fetched. */
export class RangeSource implements ByteSource {
  private constructor(
    readonly name: string,
    readonly size: number,
    private readonly first: Uint8Array,
    private readonly signal?: AbortSignal,
  ) {}

  static async open(url: string, signal?: AbortSignal): Promise<RangeSource> {
    const response = await get(url, { range: [0, FIRST], signal });
    const size = totalSize(response);
    if (size === undefined) {
      await response.body?.cancel();
      throw new SiskinError("http", `${url} does not report its size; load the model instead`);
    }
    const first = await readPart(response, Math.min(FIRST, size));
    return new RangeSource(url, size, first, signal);
  }

  async read(offset: number, bytes: number): Promise<Uint8Array> {
    if (offset + bytes <= this.first.length) return this.first.slice(offset, offset + bytes);
    const response = await get(this.name, { range: [offset, bytes], signal: this.signal });
    if (response.status === 206) return readPart(response, bytes);
    // A server without range requests sends everything from the beginning.
    return (await readPart(response, offset + bytes)).slice(offset);
  }
}

/** Large enough for most headers. */
const FIRST = 4 << 20;

export interface GetOptions {
  range?: [offset: number, bytes: number];
  from?: number;
  ifRange?: string;
  signal?: AbortSignal | undefined;
  /** Bytes that are cached here need no second copy in the browser's own cache. */
  noStore?: boolean;
  /** Returns a 404 instead of throwing. */
  mayLack?: boolean;
}

/** An HTTP GET whose failures are SiskinErrors. */
export async function get(url: string, options: GetOptions = {}): Promise<Response> {
  const headers = new Headers();
  if (options.range) headers.set("range", `bytes=${options.range[0]}-${options.range[0] + options.range[1] - 1}`);
  if (options.from) headers.set("range", `bytes=${options.from}-`);
  if (options.ifRange) headers.set("if-range", options.ifRange);
  let response: Response;
  try {
    response = await fetch(url, {
      headers,
      signal: options.signal ?? null,
      ...(options.noStore && { cache: "no-store" }),
    });
  } catch (thrown) {
    if (options.signal?.aborted) throw aborted();
    const why = "no network, a wrong address, or a server whose CORS headers do not allow this page to read it";
    throw new SiskinError("network", `cannot reach ${url}: ${why} (${(thrown as Error).message})`);
  }
  if (response.status === 404 && options.mayLack) return response;
  if (!response.ok && response.status !== 416) {
    await response.body?.cancel();
    const status = `${response.status} ${response.statusText}`.trim();
    throw new SiskinError("http", `${url} answered ${status}; check the address`, response.status);
  }
  if (response.headers.get("content-type")?.startsWith("text/html")) {
    await response.body?.cancel();
    throw new SiskinError("invalid_model", `${url} is a web page, not a model; use the address of the file itself`);
  }
  return response;
}

/** Size of the whole file, if the server reports it; the requested range begins at `from`. */
export function totalSize(response: Response, from = 0): number | undefined {
  const range = response.headers.get("content-range")?.match(/\/(\d+)$/)?.[1];
  if (range) return Number(range);
  // The length of a compressed body is not that of the file.
  if (response.headers.has("content-encoding")) return undefined;
  const length = response.headers.get("content-length");
  if (length === null) return undefined;
  if (response.status === 200) return Number(length);
  // Across origins the range may be hidden; for the rest of a file, the total follows from its length.
  return response.status === 206 && from > 0 ? from + Number(length) : undefined;
}

/** The first bytes of a body; the rest is discarded. */
async function readPart(response: Response, bytes: number): Promise<Uint8Array> {
  const out = new Uint8Array(bytes);
  let at = 0;
  const reader = response.body!.getReader();
  while (at < bytes) {
    const { done, value } = await reader.read().catch((thrown) => {
      throw thrown?.name === "AbortError" ? aborted() : new SiskinError("network", `${response.url} broke off: ${thrown}`);
    });
    if (done) throw new SiskinError("network", `${response.url} ended after ${at} of ${bytes} bytes`);
    out.set(value.subarray(0, bytes - at), at);
    at += Math.min(value.length, bytes - at);
  }
  await reader.cancel();
  return out;
}
