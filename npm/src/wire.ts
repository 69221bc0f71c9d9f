// What passes between a page and its worker.

import { expose, transferHandlers } from "comlink";

import { asBindings } from "./bindings.js";
import { Engine } from "./engine.js";
import { SiskinError, type SiskinErrorCode } from "./errors.js";

interface ThrownValue {
  value: unknown;
}
interface SentError {
  code: SiskinErrorCode;
  message: string;
  status?: number | undefined;
}

/** Comlink passes an error's message; this also passes its code. Called on both sides. */
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

/** Runs an engine in this worker. */
export function serve(wasm: Parameters<typeof asBindings>[0]): void {
  carryErrors();
  expose(new Engine(asBindings(wasm)));
  // Unhandled rejections become worker errors, which the page receives.
  addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    reportError(event.reason);
  });
}
