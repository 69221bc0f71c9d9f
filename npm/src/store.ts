// Where files are stored: the origin's private file system, else the Cache API, else memory.

/** What is known about a cached file. */
export interface CachedFile {
  url: string;
  size: number;
  /** False while it is being downloaded, or if the download was interrupted. */
  complete: boolean;
  /** Milliseconds since 1970. */
  savedAt: number;
  where: "opfs" | "cache";
  /** The server's identifier of this version. */
  validator?: string;
  /** The SHA-256 computed from its bytes, in hexadecimal. */
  sha256?: string;
}

/** A file being written. */
export interface Writer {
  readonly received: number;
  readonly validator: string | undefined;
  write(bytes: Uint8Array): Promise<void>;
  /** Starts over, for another version of the file. */
  restart(size: number, validator: string | undefined): Promise<void>;
  /** Returns what has been written so far; without `complete` it can be resumed. */
  close(complete: boolean): Promise<Blob>;
}

export interface Store {
  readonly where: CachedFile["where"];
  find(url: string): Promise<Kept | undefined>;
  /** Records the SHA-256 of a cached file. */
  seal(url: string, sha256: string): Promise<void>;
  writer(url: string): Promise<Writer>;
  list(): Promise<CachedFile[]>;
  delete(url: string): Promise<boolean>;
}

/** A complete cached file. */
export interface Kept {
  file: Blob;
  sha256: string | undefined;
}

async function key(url: string): Promise<string> {
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(url));
  return [...new Uint8Array(hash)].map((b) => b.toString(16).padStart(2, "0")).join("");
}

type Note = Omit<CachedFile, "where">;

function parseNote(text: string): Note | undefined {
  try {
    const note = JSON.parse(text) as Note;
    return typeof note.url === "string" ? note : undefined;
  } catch {
    // A tab was closed while writing it.
    return undefined;
  }
}

/** The maximum number of bytes that are buffered, copied or stored as one part. */
export const STRIDE = 8 << 20;

/** Available only in dedicated workers, and missing from the types of pages. */
interface SyncHandle {
  getSize(): number;
  write(bytes: Uint8Array, options: { at: number }): number;
  truncate(size: number): void;
  flush(): void;
  close(): void;
}
const openSync = (handle: FileSystemFileHandle) =>
  (handle as unknown as { createSyncAccessHandle(): Promise<SyncHandle> }).createSyncAccessHandle();

/** Two files each: `<key>` and `<key>.json`. Writing needs a dedicated worker. */
class Opfs implements Store {
  readonly where = "opfs";

  private constructor(private readonly folder: FileSystemDirectoryHandle) {}

  static async open(folder: string): Promise<Opfs | undefined> {
    try {
      const root = await globalThis.navigator?.storage.getDirectory();
      return new Opfs(await root.getDirectoryHandle(folder, { create: true }));
    } catch {
      return undefined;
    }
  }

  private async note(name: string): Promise<Note | undefined> {
    try {
      const file = await (await this.folder.getFileHandle(`${name}.json`)).getFile();
      return parseNote(await file.text());
    } catch {
      return undefined;
    }
  }

  async find(url: string): Promise<Kept | undefined> {
    const name = await key(url);
    const note = await this.note(name);
    if (!note?.complete) return undefined;
    try {
      const file = await (await this.folder.getFileHandle(name)).getFile();
      return file.size === note.size ? { file, sha256: note.sha256 } : undefined;
    } catch {
      return undefined;
    }
  }

  async seal(url: string, sha256: string): Promise<void> {
    const name = await key(url);
    const note = await this.note(name);
    if (!note) return;
    const notes = await openSync(await this.folder.getFileHandle(`${name}.json`));
    try {
      notes.truncate(0);
      notes.write(new TextEncoder().encode(JSON.stringify({ ...note, sha256 })), { at: 0 });
      notes.flush();
    } finally {
      notes.close();
    }
  }

  async writer(url: string): Promise<Writer> {
    const name = await key(url);
    let note: Note = { url, size: 0, complete: false, savedAt: Date.now() };
    const handle = await this.folder.getFileHandle(name, { create: true });
    const data = await openSync(handle);
    let notes: SyncHandle;
    let at = 0;
    try {
      const old = await this.note(name);
      // The file's length determines how much was written.
      if (old && !old.complete && old.validator) [note, at] = [old, data.getSize()];
      notes = await openSync(await this.folder.getFileHandle(`${name}.json`, { create: true }));
    } catch (thrown) {
      data.close();
      throw thrown;
    }
    const save = () => {
      data.flush();
      const text = new TextEncoder().encode(JSON.stringify(note));
      notes.truncate(0);
      notes.write(text, { at: 0 });
      notes.flush();
    };
    return {
      get received() {
        return at;
      },
      get validator() {
        return note.validator;
      },
      async write(bytes) {
        let from = 0;
        while (from < bytes.length) {
          const wrote = data.write(bytes.subarray(from), { at: at + from });
          // Chromium reports a full disk as a huge number: -8 as unsigned.
          if (wrote === 0 || wrote > bytes.length - from) throw new DOMException("no space is left", "QuotaExceededError");
          from += wrote;
        }
        at += bytes.length;
      },
      async restart(size, validator) {
        data.truncate(0);
        at = 0;
        note = { url, size, complete: false, savedAt: Date.now(), ...(validator && { validator }) };
        save();
      },
      async close(complete) {
        try {
          note = { ...note, complete, size: complete ? at : note.size };
          save();
        } finally {
          data.close();
          notes.close();
        }
        return handle.getFile();
      },
    };
  }

  async list(): Promise<CachedFile[]> {
    const found: CachedFile[] = [];
    for await (const name of this.folder.keys()) {
      if (!name.endsWith(".json")) continue;
      const note = await this.note(name.slice(0, -".json".length));
      if (note) found.push({ ...note, where: this.where });
    }
    return found;
  }

  async delete(url: string): Promise<boolean> {
    const name = await key(url);
    const removed = await Promise.allSettled([name, `${name}.json`].map((n) => this.folder.removeEntry(n)));
    return removed.some((r) => r.status === "fulfilled");
  }
}

/** A note and parts of at most 8 MiB, under internal addresses. */
class CacheStore implements Store {
  readonly where = "cache";

  private constructor(private readonly cache: Cache) {}

  static async open(folder: string): Promise<CacheStore | undefined> {
    try {
      return new CacheStore(await caches.open(folder));
    } catch {
      return undefined;
    }
  }

  private static at = (name: string, part: number | "note") => new URL(`/.siskin/${name}/${part}`, location.origin).href;

  private async note(name: string): Promise<Note | undefined> {
    const found = await this.cache.match(CacheStore.at(name, "note"));
    return found && parseNote(await found.text());
  }

  private async parts(name: string): Promise<Blob[]> {
    const parts: Blob[] = [];
    for (;;) {
      const part = await this.cache.match(CacheStore.at(name, parts.length));
      if (!part) return parts;
      parts.push(await part.blob());
    }
  }

  async find(url: string): Promise<Kept | undefined> {
    const name = await key(url);
    const note = await this.note(name);
    if (!note?.complete) return undefined;
    const file = new Blob(await this.parts(name));
    return file.size === note.size ? { file, sha256: note.sha256 } : undefined;
  }

  async seal(url: string, sha256: string): Promise<void> {
    const name = await key(url);
    const note = await this.note(name);
    if (note) await this.cache.put(CacheStore.at(name, "note"), new Response(JSON.stringify({ ...note, sha256 })));
  }

  async writer(url: string): Promise<Writer> {
    const name = await key(url);
    const old = await this.note(name);
    let note: Note = { url, size: 0, complete: false, savedAt: Date.now() };
    let parts: Blob[] = [];
    if (old && !old.complete && old.validator) [note, parts] = [old, await this.parts(name)];
    let held: Uint8Array[] = [];
    let heldBytes = 0;
    let kept = parts.reduce((sum, p) => sum + p.size, 0);
    const flush = async () => {
      if (heldBytes === 0) return;
      const part = new Blob(held as BlobPart[]);
      await this.cache.put(CacheStore.at(name, parts.length), new Response(part));
      parts.push(part);
      kept += heldBytes;
      [held, heldBytes] = [[], 0];
    };
    const save = () => this.cache.put(CacheStore.at(name, "note"), new Response(JSON.stringify(note)));
    return {
      get received() {
        return kept + heldBytes;
      },
      get validator() {
        return note.validator;
      },
      async write(bytes) {
        held.push(bytes.slice());
        heldBytes += bytes.length;
        if (heldBytes >= STRIDE) await flush();
      },
      restart: async (size, validator) => {
        await this.delete(url);
        [parts, held, heldBytes, kept] = [[], [], 0, 0];
        note = { url, size, complete: false, savedAt: Date.now(), ...(validator && { validator }) };
        await save();
      },
      async close(complete) {
        await flush();
        note = { ...note, complete, size: complete ? kept : note.size };
        await save();
        return new Blob(parts);
      },
    };
  }

  async list(): Promise<CachedFile[]> {
    const found: CachedFile[] = [];
    for (const request of await this.cache.keys()) {
      if (!request.url.endsWith("/note")) continue;
      const note = parseNote((await (await this.cache.match(request))?.text()) ?? "");
      if (note) found.push({ ...note, where: this.where });
    }
    return found;
  }

  async delete(url: string): Promise<boolean> {
    const folder = new URL(`/.siskin/${await key(url)}/`, location.origin).href;
    const own = (await this.cache.keys()).filter((r) => r.url.startsWith(folder));
    return (await Promise.all(own.map((r) => this.cache.delete(r)))).some(Boolean);
  }
}

/** Keeps a file for this page only, as a Blob, which the browser stores outside the page's heap. */
export async function memoryWriter(): Promise<Writer> {
  let parts: Blob[] = [];
  let held: Uint8Array[] = [];
  let [kept, heldBytes] = [0, 0];
  const flush = () => {
    parts.push(new Blob(held as BlobPart[]));
    kept += heldBytes;
    [held, heldBytes] = [[], 0];
  };
  return {
    get received() {
      return kept + heldBytes;
    },
    validator: undefined,
    async write(bytes) {
      held.push(bytes.slice());
      heldBytes += bytes.length;
      if (heldBytes >= STRIDE) flush();
    },
    async restart() {
      [parts, held, kept, heldBytes] = [[], [], 0, 0];
    },
    async close() {
      flush();
      return new Blob(parts);
    },
  };
}

/** The stores that there are, the best first. A folder of its own has what downloads and lists of them do not know. */
export const stores = async (folder = "siskin"): Promise<Store[]> => {
  // Names are hashes, which insecure pages cannot compute; sandboxed pages have no origin to store files for.
  if (!globalThis.crypto?.subtle || globalThis.location?.origin === "null") return [];
  const opened = await Promise.all([Opfs.open(folder), CacheStore.open(folder)]);
  return opened.filter((s) => s !== undefined);
};

/** Deletes a folder with all that is in it. */
export async function dropFolder(folder: string): Promise<void> {
  if ((await stores(folder)).length === 0) return;
  const root = await globalThis.navigator?.storage?.getDirectory?.().catch(() => undefined);
  await root?.removeEntry(folder, { recursive: true }).catch((thrown: DOMException) => {
    if (thrown.name !== "NotFoundError") throw thrown;
  });
  await globalThis.caches?.delete(folder);
}

/** A cached file, if it is complete. */
export async function find(url: string): Promise<Kept | undefined> {
  for (const store of await stores()) {
    const found = await store.find(url);
    if (found) return found;
  }
  return undefined;
}

/** Records the SHA-256 of a cached file; without a store there is nothing to record. */
export async function seal(url: string, sha256: string): Promise<void> {
  for (const store of await stores()) await store.seal(url, sha256).catch(() => {});
}

/** Whether the origin may store this many more bytes, as far as the browser reports. */
export async function hasRoom(bytes: number): Promise<boolean> {
  const { quota, usage } = (await globalThis.navigator?.storage?.estimate?.().catch(() => undefined)) ?? {};
  return quota === undefined || bytes < quota - (usage ?? 0);
}

/** Opens storage for a file: on disk if there is space, else in memory. */
export async function openWriter(url: string, size: number | undefined): Promise<Writer> {
  if (size === undefined || (await hasRoom(size))) {
    for (const store of await stores()) {
      try {
        return await store.writer(url);
      } catch {
        // Outside a dedicated worker the file system cannot be written this way, but the next store can.
      }
    }
  }
  return memoryWriter();
}

/** Lists the cached files. */
export async function list(): Promise<CachedFile[]> {
  const all = await Promise.all((await stores()).map((s) => s.list()));
  // An empty file represents one that a folder does not have.
  const files = all.flat().filter((f) => f.size > 0 || !f.complete);
  return files.map(({ url, size, complete, savedAt, where }) => ({ url, size, complete, savedAt, where }));
}

/** Deletes a cached file; resolves to whether there was one. */
export async function remove(url: string): Promise<boolean> {
  const done = await Promise.all((await stores()).map((s) => s.delete(url)));
  return done.some(Boolean);
}
