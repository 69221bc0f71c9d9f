import { SiskinError, aborted } from "./errors.js";
import { get, totalSize } from "./source.js";
import { STRIDE, find, hasRoom, memoryWriter, openWriter, remove, seal, type Writer } from "./store.js";

export interface DownloadOptions {
  signal?: AbortSignal;
  /** Whether to keep the file for the next visit. */
  keep: boolean;
  /** In hexadecimal. */
  sha256?: string | undefined;
  /** The file must begin with this. */
  magic?: string | undefined;
  /** Returns `undefined` for a 404 instead of throwing. */
  mayLack?: boolean;
  onBytes?: (received: number, total: number | undefined) => void;
  /** SHA-256 of a Blob, in hexadecimal. */
  hash: (file: Blob) => Promise<string>;
}

/** Attempts without new bytes after a connection broke. */
const TRIES = 5;

/**
 * The file at an address: the cached one, or a download, resumed from where an earlier one broke off. If two
 * tabs need the same file, it is downloaded once.
 */
export async function download(url: string, options: DownloadOptions): Promise<Blob | undefined> {
  if (!options.keep) return fetchWhole(url, await memoryWriter(), options);
  const kept = await keptAs(url, options);
  const wasLacking = options.mayLack && kept?.size === 0;
  if (wasLacking && (await lacks(url, options.signal))) return undefined;
  if (kept && !wasLacking) return kept;
  const locked = async () => {
    const meanwhile = await keptAs(url, options);
    return meanwhile && !wasLacking ? meanwhile : fetchWhole(url, undefined, options);
  };
  // A sandboxed page has the object but may not use it.
  const locks = await globalThis.navigator?.locks?.query().then(
    () => globalThis.navigator?.locks,
    () => undefined,
  );
  if (!locks) return locked();
  try {
    return await locks.request(`siskin ${url}`, { signal: options.signal ?? new AbortController().signal }, locked);
  } catch (thrown) {
    throw options.signal?.aborted ? aborted() : thrown;
  }
}

/** Whether a file that was missing is still missing; without a network, the last answer is used. */
async function lacks(url: string, signal: AbortSignal | undefined): Promise<boolean> {
  try {
    const response = await get(url, { signal, mayLack: true });
    await response.body?.cancel();
    return response.status === 404;
  } catch (thrown) {
    if (SiskinError.from(thrown).code === "network") return true;
    throw thrown;
  }
}

/** The cached file, unless it does not match the SHA-256 that is requested now. */
async function keptAs(url: string, { sha256, hash }: DownloadOptions): Promise<Blob | undefined> {
  const kept = await find(url);
  if (!kept || !sha256) return kept?.file;
  const found = kept.sha256 ?? (await hash(kept.file));
  if (found === sha256.toLowerCase()) {
    if (!kept.sha256) await seal(url, found);
    return kept.file;
  }
  await remove(url);
  return undefined;
}

async function fetchWhole(url: string, given: Writer | undefined, options: DownloadOptions): Promise<Blob | undefined> {
  let writer = given;
  let complete = false;
  let total: number | undefined;
  const { signal } = options;
  /** The disk is full: continues in memory with what was written. */
  const toMemory = async () => {
    const { received } = writer!;
    const begun = await writer!.close(false);
    // A partially failed write does not count as received.
    const memory = await memoryWriter();
    for (let at = 0; at < received; at += STRIDE) {
      const piece = begun.slice(at, Math.min(at + STRIDE, received));
      await memory.write(new Uint8Array(await piece.arrayBuffer()));
    }
    await remove(url);
    writer = memory;
  };
  try {
    let validator: string | undefined;
    /** The most bytes received so far: starting over is not progress. */
    let furthest = 0;
    for (let tries = 0; ; ) {
      // Bytes from an earlier download are reported before the first request.
      writer ??= await openWriter(url, total);
      const from = writer.received;
      validator ??= writer.validator;
      const response = await get(url, {
        from,
        ...(from > 0 && validator?.match(/^"/) ? { ifRange: validator } : {}),
        signal,
        noStore: options.keep,
        mayLack: options.mayLack ?? false,
      });
      if (response.status === 404) {
        // Stored as an empty file, so that the next visit does not need the network.
        await writer.restart(0, undefined);
        await writer.close(true);
        complete = true;
        return undefined;
      }
      const found = response.headers.get("etag") ?? response.headers.get("last-modified") ?? undefined;
      const size = totalSize(response, from);
      const isRest = response.status === 206 && from > 0 && found === validator && (total === undefined || size === total);
      if (from > 0 && !isRest) {
        // Another version, or a server without range requests: start from the beginning.
        const isWhole = response.status === 200;
        if (!isWhole) await response.body?.cancel();
        await writer.restart(size ?? 0, found);
        [validator, total] = [found, undefined];
        if (!isWhole) continue;
      } else if (from === 0) {
        if (size !== undefined && !(writer === given)) writer = await roomier(url, size, writer);
        await writer.restart(size ?? 0, found);
        validator = found;
      }
      total = size ?? total;
      options.onBytes?.(writer.received, total);
      const reader = response.body!.getReader();
      try {
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          if (writer.received === 0 && options.magic) checkMagic(url, value, options.magic);
          try {
            await writer.write(value);
          } catch (thrown) {
            if ((thrown as Error).name !== "QuotaExceededError") throw thrown;
            await toMemory();
            await writer.write(value);
          }
          options.onBytes?.(writer.received, total);
        }
        if (total === undefined || writer.received === total) break;
        throw new TypeError(`ended after ${writer.received} of ${total} bytes`);
      } catch (thrown) {
        await reader.cancel().catch(() => {});
        if (signal?.aborted) throw aborted();
        if (thrown instanceof SiskinError || !(thrown instanceof TypeError)) throw thrown;
        tries = writer.received > furthest ? 1 : tries + 1;
        furthest = Math.max(furthest, writer.received);
        if (tries >= TRIES) throw new SiskinError("network", `${url} broke off: ${thrown.message}`);
        await new Promise((done) => setTimeout(done, 250 * 2 ** (tries - 1)));
      }
    }
    complete = true;
  } finally {
    if (writer && !complete) await writer.close(false).catch(() => {});
  }
  const file = await writer!.close(true);
  if (options.sha256) {
    try {
      await verify(url, file, options.sha256, options.hash);
      await seal(url, options.sha256.toLowerCase());
    } catch (thrown) {
      await remove(url);
      throw thrown;
    }
  }
  return file;
}

/** Throws unless the file has this SHA-256. */
export async function verify(name: string, file: Blob, sha256: string, hash: DownloadOptions["hash"]): Promise<void> {
  checkHash(name, await hash(file), sha256);
}

export function checkHash(name: string, found: string, wanted: string): void {
  if (found !== wanted.toLowerCase()) {
    throw new SiskinError("integrity", `checksum mismatch: ${name} has the SHA-256 ${found}, not ${wanted}; it is not used`);
  }
}

/** The size is now known: if the disk has no space for it, memory is used from the start. */
async function roomier(url: string, size: number, writer: Writer): Promise<Writer> {
  if (await hasRoom(size)) return writer;
  await writer.close(false);
  await remove(url);
  return memoryWriter();
}

function checkMagic(url: string, first: Uint8Array, magic: string): void {
  const found = new TextDecoder("latin1").decode(first.subarray(0, magic.length));
  if (found !== magic.slice(0, found.length)) {
    throw new SiskinError("invalid_model", `${url} is not a GGUF file: it begins with ${JSON.stringify(found)}`);
  }
}
