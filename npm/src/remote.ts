// An engine in a worker, or on this thread, behind the same calls.

import { proxy, wrap, type Remote } from "comlink";

import { Engine } from "./engine.js";
import { SiskinError } from "./errors.js";
import type { RuntimeOptions } from "./types.js";
import { carryErrors } from "./wire.js";

type Calls = {
  [K in keyof Engine]: Engine[K] extends (...args: infer A) => infer R ? (...args: A) => Promise<Awaited<R>> : never;
};

/** An engine's calls, and the end of it. */
export interface Host {
  calls: Calls;
  /** Wraps a function so that it can be an argument of a call. */
  callback<F extends (...args: never[]) => void>(f: F): F;
  close(): void;
}

/** What a page's own function throws is the page's error, as from any listener of the browser's. */
function listener<F extends (...args: never[]) => void>(f: F): F {
  return ((...args: Parameters<F>) => {
    try {
      f(...args);
    } catch (thrown) {
      // Node has no `reportError`.
      if (typeof reportError === "function") reportError(thrown);
      else queueMicrotask(() => { throw thrown; });
    }
  }) as F;
}

/** What relative addresses are relative to; a worker made from a Blob, or Node, has nothing of the kind. */
export const base = (): string | undefined => (typeof location === "undefined" ? undefined : location.href);

function wasmOf(options: RuntimeOptions): string | ArrayBuffer | Uint8Array {
  if (options.wasmBytes) return options.wasmBytes;
  try {
    return new URL(options.wasmUrl ?? new URL("./siskin_wasm_bg.wasm", import.meta.url), base()).href;
  } catch {
    const what = options.wasmUrl === undefined ? "is not known: siskin was bundled as something else than an ES module" : `is not ${options.wasmUrl}`;
    throw new SiskinError("invalid_request", `the address of siskin's wasm file ${what}; give \`wasmUrl\` as a whole address, or \`wasmBytes\``);
  }
}

/** What can be done where the worker's script is not found. */
function serveIt(): string {
  // Vite's dev server bundles packages in advance, without their workers.
  if (import.meta.url?.includes("/.vite/deps/")) return 'add `optimizeDeps: { exclude: ["siskin"] }` to Vite\'s configuration';
  return "serve worker.js and shared.js beside the script, or give `worker: false`";
}

/** A worker, or why there is none. */
function startWorker(): Worker {
  if (typeof Worker === "undefined") {
    throw new SiskinError("internal", "this environment (Node, a SharedWorker, a service worker, …) has no workers; give `worker: false`, and in Node `wasmBytes` too");
  }
  try {
    return new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "siskin" });
  } catch (thrown) {
    const why = thrown instanceof Error ? thrown.message : String(thrown);
    throw new SiskinError("internal", `siskin's worker does not start (${why}); ${serveIt()}`);
  }
}

export async function startHost(options: RuntimeOptions): Promise<Host> {
  if (options.worker === false) {
    const engine = new Engine();
    await engine.start(wasmOf(options));
    return { calls: engine as unknown as Calls, callback: listener, close: () => engine.unload() };
  }
  carryErrors();
  const worker = startWorker();
  let fail!: (e: SiskinError) => void;
  // A worker that dies answers nothing more: whoever waits is told.
  const death = new Promise<never>((_, reject) => (fail = reject));
  death.catch(() => {});
  worker.onerror = (event) => {
    event.preventDefault();
    const why = event.message || `its script does not load: ${serveIt()}`;
    fail(new SiskinError("internal", `siskin's worker failed: ${why}`));
  };
  const remote: Remote<Engine> = wrap<Engine>(worker);
  const calls = new Proxy({} as Calls, {
    get: (_, name: keyof Engine) =>
      (...args: unknown[]) =>
        Promise.race([(remote[name] as unknown as (...a: unknown[]) => Promise<unknown>)(...args), death]),
  });
  const close = () => {
    fail(new SiskinError("unloaded", "the model was unloaded"));
    worker.terminate();
  };
  try {
    await calls.start(wasmOf(options));
  } catch (thrown) {
    close();
    throw thrown;
  }
  return { calls, callback: (f) => proxy(listener(f)), close };
}
