// An engine in a worker, or on this thread, behind the same calls.

import { proxy, transferHandlers, wrap, type Remote } from "comlink";

import { Engine } from "./engine.js";
import { SiskinError, type SiskinErrorCode } from "./errors.js";
import type { RuntimeOptions } from "./types.js";

interface ThrownValue {
  value: unknown;
}
interface SentError {
  code: SiskinErrorCode;
  message: string;
  status?: number | undefined;
}

/** Comlink carries an error's message; this carries its code too. Both sides call it. */
export function carryErrors(): void {
  const { canHandle } = transferHandlers.get("throw")!;
  transferHandlers.set("throw", {
    canHandle,
    serialize: ({ value }: ThrownValue) => {
      const { code, message, status } = SiskinError.from(value);
      return [{ code, message, status } satisfies SentError, []];
    },
    deserialize: ({ code, message, status }: SentError): never => {
      throw new SiskinError(code, message, status);
    },
  });
}

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
      reportError(thrown);
    }
  }) as F;
}

const wasmOf = (options: RuntimeOptions) =>
  options.wasmBytes ?? new URL(options.wasmUrl ?? new URL("./siskin_wasm_bg.wasm", import.meta.url), location.href).href;

export async function startHost(options: RuntimeOptions): Promise<Host> {
  if (options.worker === false) {
    const engine = new Engine();
    await engine.start(wasmOf(options));
    return { calls: engine as unknown as Calls, callback: listener, close: () => engine.unload() };
  }
  carryErrors();
  const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "siskin" });
  let fail!: (e: SiskinError) => void;
  // A worker that dies answers nothing more: whoever waits is told.
  const death = new Promise<never>((_, reject) => (fail = reject));
  death.catch(() => {});
  worker.onerror = (event) => {
    event.preventDefault();
    fail(new SiskinError("internal", `siskin's worker failed: ${event.message || "its script does not load"}`));
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
