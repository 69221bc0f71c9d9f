// What outlives a tab, in folders of the origin's private file system. A file there is replaced atomically when its writer is
// closed, so an existing file is complete.

export class KeptFiles {
  constructor(readonly folder: string) {}

  async #handle(): Promise<FileSystemDirectoryHandle> {
    const root = await navigator.storage.getDirectory();
    return root.getDirectoryHandle(this.folder, { create: true });
  }

  /** Resolves to false if the browser stores nothing, or has no space. */
  async keep(name: string, body: string | Uint8Array<ArrayBuffer>): Promise<boolean> {
    try {
      const file = await (await this.#handle()).getFileHandle(name, { create: true });
      const writer = await file.createWritable();
      try {
        await writer.write(body);
      } catch (thrown) {
        await writer.abort();
        throw thrown;
      }
      await writer.close();
      return true;
    } catch {
      return false;
    }
  }

  async kept(name: string): Promise<File | undefined> {
    try {
      const file = await (await (await this.#handle()).getFileHandle(name)).getFile();
      return file.size > 0 ? file : undefined;
    } catch {
      return undefined;
    }
  }

  /** The stored names, in order. */
  async names(): Promise<string[]> {
    const found = [];
    try {
      for await (const name of (await this.#handle()).keys()) found.push(name);
    } catch {
      // Nothing is stored.
    }
    return found.sort();
  }

  async drop(name: string): Promise<void> {
    try {
      await (await this.#handle()).removeEntry(name);
    } catch {
      // It was not stored.
    }
  }

  async forget(): Promise<void> {
    try {
      await (await navigator.storage.getDirectory()).removeEntry(this.folder, { recursive: true });
    } catch {
      // Nothing was stored.
    }
  }
}
