// Errors of the Prompt API, and its signals.

import { SiskinError, type SiskinErrorCode } from "./errors.js";

export const domError = (name: string, message: string) => new DOMException(message, name);

/** A context that is too small. Some browsers have a class of its own for it. */
export function quotaExceeded(requested: number, quota: number): DOMException {
  const message = `the conversation needs ${requested} tokens, and the context window has ${quota}`;
  const { QuotaExceededError } = globalThis as {
    QuotaExceededError?: new (message: string, options: { requested: number; quota: number }) => DOMException;
  };
  if (QuotaExceededError) return new QuotaExceededError(message, { requested, quota });
  return Object.assign(domError("QuotaExceededError", message), { requested, quota });
}

/** The names for errors of `create`; OperationError for the others. */
const CREATE: Partial<Record<SiskinErrorCode, string>> = {
  network: "NetworkError",
  http: "NetworkError",
  integrity: "NetworkError",
  invalid_model: "NotSupportedError",
  unsupported_model: "NotSupportedError",
  no_webgpu: "NotSupportedError",
};

/** The names for errors of prompts; UnknownError for the others. */
const PROMPT: Partial<Record<SiskinErrorCode, string>> = {
  prompt_too_long: "QuotaExceededError",
  invalid_request: "NotSupportedError",
  chat_template: "NotSupportedError",
  aborted: "AbortError",
  unloaded: "InvalidStateError",
};

const named = (names: Partial<Record<SiskinErrorCode, string>>, rest: string) => (thrown: unknown) =>
  thrown instanceof SiskinError ? domError(names[thrown.code] ?? rest, thrown.message) : thrown;

export const createError = named(CREATE, "OperationError");
export const promptError = named(PROMPT, "UnknownError");

/** Settles as the work does, unless a signal is aborted before that. */
export function unlessAborted<T>(signal: AbortSignal | undefined, work: Promise<T>): Promise<T> {
  if (!signal) return work;
  return new Promise<T>((resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    void work.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}
