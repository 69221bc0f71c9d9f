// What a training run needs to resume after its tab was closed, in the origin's private file system. A file there is
// replaced atomically when its writer is closed, so an existing file is complete.

const FOLDER = "siskin-training";

async function folder(): Promise<FileSystemDirectoryHandle> {
  const root = await navigator.storage.getDirectory();
  return root.getDirectoryHandle(FOLDER, { create: true });
}

/** Resolves to false if the browser stores nothing, or has no space. */
export async function keep(name: string, body: string | Uint8Array<ArrayBuffer>): Promise<boolean> {
  try {
    const file = await (await folder()).getFileHandle(name, { create: true });
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

export async function kept(name: string): Promise<File | undefined> {
  try {
    const file = await (await (await folder()).getFileHandle(name)).getFile();
    return file.size > 0 ? file : undefined;
  } catch {
    return undefined;
  }
}

/** The stored names, in order. */
export async function names(): Promise<string[]> {
  const found = [];
  try {
    for await (const name of (await folder()).keys()) found.push(name);
  } catch {
    // Nothing is stored.
  }
  return found.sort();
}

export async function drop(name: string): Promise<void> {
  try {
    await (await folder()).removeEntry(name);
  } catch {
    // It was not stored.
  }
}

export async function forget(): Promise<void> {
  try {
    await (await navigator.storage.getDirectory()).removeEntry(FOLDER, { recursive: true });
  } catch {
    // Nothing was stored.
  }
}
