// Errors between a page and its worker.

import { transferHandlers } from "comlink";

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
