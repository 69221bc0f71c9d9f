// An engine in a worker, or on this thread, behind the same interface.

import { proxy, wrap, type Remote } from "comlink";

import { asBindings, type Purpose } from "./bindings.js";
import { Engine } from "./engine.js";
import { SiskinError } from "./errors.js";
import { platform, type Thread } from "./platform.js";
import type { RuntimeOptions } from "./types.js";
import * as chat from "./wasm/siskin_wasm.js";
import { WASM_OPTIONS, type Wasm } from "./wasm-files.js";
import { carryErrors } from "./carry-errors.js";

/** An engine's calls, as a page makes them. */
export type Calls = {
  [K in keyof Engine]: Engine[K] extends (...args: infer A) => infer R ? (...args: A) => Promise<Awaited<R>> : never;
};

/** An engine's calls, and how to end it. */
export interface Host {
  calls: Calls;
  /** Wraps a function so that it can be passed to a call. */
  callback<F extends (...args: never[]) => void>(f: F): F;
  close(): void;
}

/** Errors thrown by a page's own function are reported as the page's, as with any event listener. */
function listener<F extends (...args: never[]) => void>(f: F): F {
  return ((...args: Parameters<F>) => {
    try {
      f(...args);
    } catch (thrown) {
      // Node does not have `reportError`.
      if (typeof reportError === "function") reportError(thrown);
      else queueMicrotask(() => { throw thrown; });
    }
  }) as F;
}

/** The base of relative addresses; a worker created from a Blob, or Node, has none. */
export const base = (): string | undefined => (typeof location === "undefined" ? undefined : location.href);

/** The wasm file by default: next to the other one, if that one is elsewhere. */
function ownAddress(options: RuntimeOptions, file: keyof typeof WASM_OPTIONS): URL {
  if (file === "chat") return new URL("./siskin_wasm_bg.wasm", import.meta.url);
  if (options.wasmUrl !== undefined) return new URL(`siskin_${file}_bg.wasm`, new URL(options.wasmUrl, base()));
  return file === "training" ? new URL("./siskin_training_bg.wasm", import.meta.url) : new URL("./siskin_grammar_bg.wasm", import.meta.url);
}

function wasmOf(options: RuntimeOptions, file: keyof typeof WASM_OPTIONS): Wasm {
  const [url, bytes] = WASM_OPTIONS[file];
  if (options[bytes]) return options[bytes];
  try {
    return new URL(options[url] ?? ownAddress(options, file), base()).href;
  } catch {
    const what = options[url] === undefined ? "is unknown: siskin was not bundled as an ES module" : `is not ${options[url]}`;
    throw new SiskinError("invalid_request", `the address of siskin's wasm file ${what}; set \`${url}\` to an absolute address, or \`${bytes}\``);
  }
}

/** The remedy if the worker's script is not found. */
function serveIt(): string {
  // Vite's dev server pre-bundles packages, without their workers.
  if (import.meta.url?.includes("/.vite/deps/")) return 'add `optimizeDeps: { exclude: ["siskin"] }` to Vite\'s configuration';
  return "serve the other files of siskin's dist next to the script, set `workerUrl`, or set `worker: false`";
}

/** Creates a worker, or throws an error that says why there is none. */
function createWorker(purpose: Purpose, { workerUrl, trainingWorkerUrl }: RuntimeOptions): Worker {
  if (typeof Worker === "undefined") {
    throw new SiskinError("internal", "this environment (a SharedWorker, a service worker, …) has no workers; set `worker: false`");
  }
  const given = purpose === "chat" ? workerUrl : trainingWorkerUrl;
  try {
    if (given !== undefined) return new Worker(given as string, { type: "module", name: "siskin" });
    // Bundlers look for exactly this expression; webpack names files by `name`, and joins what has the same one.
    return purpose === "chat"
      ? new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "siskin" })
      : new Worker(new URL("./training-worker.js", import.meta.url), { type: "module", name: "siskin-training" });
  } catch (thrown) {
    const why = thrown instanceof Error ? thrown.message : String(thrown);
    throw new SiskinError("internal", `siskin's worker does not start (${why}); ${serveIt()}`);
  }
}

function startWorker(purpose: Purpose, onFailure: (why: string) => void, options: RuntimeOptions): Thread {
  const worker = createWorker(purpose, options);
  worker.onerror = (event) => {
    event.preventDefault();
    onFailure(event.message || `its script does not load: ${serveIt()}`);
  };
  return { endpoint: worker, terminate: () => worker.terminate() };
}

const hasFile = (arg: unknown): boolean => (Array.isArray(arg) ? arg : [arg]).some((value) => value instanceof Blob);

export async function startHost(options: RuntimeOptions, purpose: Purpose): Promise<Host> {
  if (options.worker === false) {
    platform()?.prepare();
    const bindings = asBindings(purpose === "chat" ? chat : await import("./wasm/siskin_training.js"));
    const engine = new Engine(bindings, () => import("./wasm/siskin_grammar.js"));
    await engine.start(wasmOf(options, purpose), purpose, wasmOf(options, "grammar"));
    return { calls: engine as unknown as Calls, callback: listener, close: () => engine.unload() };
  }
  carryErrors();
  let fail!: (e: SiskinError) => void;
  // A worker that dies never answers: pending calls are rejected.
  const death = new Promise<never>((_, reject) => (fail = reject));
  death.catch(() => {});
  const start = platform()?.startWorker ?? startWorker;
  const worker = start(purpose, (why) => fail(new SiskinError("internal", `siskin's worker failed: ${why}`)), options);
  const remote: Remote<Engine> = wrap<Engine>(worker.endpoint);
  const calls = new Proxy({} as Calls, {
    get: (_, name: keyof Engine) =>
      async (...args: unknown[]) => {
        if (platform() && args.some(hasFile)) {
          throw new SiskinError("invalid_request", "Node does not pass a Blob or a File to siskin's thread; give a path, or set `worker: false`");
        }
        return Promise.race([(remote[name] as unknown as (...a: unknown[]) => Promise<unknown>)(...args), death]);
      },
  });
  const close = () => {
    fail(new SiskinError("unloaded", "the model was unloaded"));
    worker.terminate();
  };
  try {
    await calls.start(wasmOf(options, purpose), purpose, wasmOf(options, "grammar"));
  } catch (thrown) {
    close();
    throw thrown;
  }
  return { calls, callback: (f) => proxy(listener(f)), close };
}
