// Files, folders and threads of Node.

import nodeEndpoint from "comlink/dist/esm/node-adapter";
import { createHash } from "node:crypto";
import { createReadStream, readdirSync, statSync } from "node:fs";
import { open, stat } from "node:fs/promises";
import { sep } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";

import { checkHash } from "./download.js";
import { SiskinError } from "./errors.js";
import type { Platform } from "./platform.js";
import { partsOf } from "./reference.js";
import type { ByteSource } from "./source.js";

/** The most bytes that one system call reads. */
const PIECE = 256 << 20;

class FileSource implements ByteSource {
  readonly name: string;

  constructor(
    private readonly path: string,
    readonly size: number,
  ) {
    this.name = path.split(sep).join("/");
  }

  async read(offset: number, bytes: number): Promise<Uint8Array> {
    const file = await open(this.path).catch((thrown) => failed(this.path, thrown));
    try {
      const out = new Uint8Array(bytes);
      let at = 0;
      while (at < bytes) {
        const { bytesRead } = await file.read(out, at, Math.min(bytes - at, PIECE), offset + at);
        if (bytesRead === 0) break;
        at += bytesRead;
      }
      return out.subarray(0, at);
    } finally {
      await file.close();
    }
  }
}

function failed(path: string, thrown: unknown): never {
  const { code, message } = thrown as NodeJS.ErrnoException;
  const why = code === "ENOENT" ? "there is no such file; check the path" : message;
  throw new SiskinError("invalid_request", `cannot open ${path}: ${why}`);
}

async function sha256(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const piece of createReadStream(path)) hash.update(piece as Buffer);
  return hash.digest("hex");
}

/** The model in a folder: the folder itself if it is one of Hugging Face's, else its only GGUF file. */
function modelIn(folder: URL): string {
  const names = readdirSync(folder);
  if (names.includes("config.json")) return folder.href;
  const files = names.filter((name) => name.endsWith(".gguf")).sort();
  const path = fileURLToPath(folder);
  const [first] = files;
  if (first === undefined) {
    throw new SiskinError("invalid_model", `${path} has no model: neither a config.json nor a GGUF file`);
  }
  if (files.some((name) => !partsOf(first).includes(name))) {
    throw new SiskinError("invalid_request", `${path} has several GGUF files; give the path of one: ${files.join(", ")}`);
  }
  return new URL(encodeURIComponent(first), folder).href;
}

export const node: Platform = {
  address(text) {
    const isFileUrl = /^file:/i.test(text);
    if (!isFileUrl && /^[a-z][a-z\d+.-]*:\/\//i.test(text)) return undefined;
    try {
      const url = isFileUrl ? new URL(text) : pathToFileURL(text);
      if (!statSync(url, { throwIfNoEntry: false })?.isDirectory()) return url.href;
      if (!url.pathname.endsWith("/")) url.pathname += "/";
      return modelIn(url);
    } catch (thrown) {
      throw thrown instanceof SiskinError ? thrown : failed(text, thrown);
    }
  },

  async open(url, mayLack, wanted) {
    const path = fileURLToPath(url);
    const found = await stat(path).catch((thrown) => {
      if (mayLack && (thrown as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      return failed(path, thrown);
    });
    if (found && wanted !== undefined) checkHash(path, await sha256(path), wanted);
    return found && new FileSource(path, found.size);
  },

  prepare() {
    // wgpu looks for WebGPU where there is a `Window`, and panics where there is none.
    if (globalThis.navigator?.gpu) (globalThis as { Window?: unknown }).Window ??= class Window {};
  },

  async preparePdf() {
    await import("./pdf-worker.js");
  },

  startWorker(purpose, onFailure) {
    // The process's own flags are for its script: with `--input-type`, no thread would start.
    const options = { workerData: purpose, name: "siskin", execArgv: [] };
    const worker = new Worker(new URL("./node-worker.js", import.meta.url), options);
    worker.on("error", (thrown) => onFailure(thrown.message));
    worker.on("exit", () => onFailure("it ended"));
    return { endpoint: nodeEndpoint(worker), terminate: () => void worker.terminate() };
  },
};
