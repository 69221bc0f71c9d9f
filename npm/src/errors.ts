/** What went wrong, for programs. The message says it in words, with what to do. */
export type SiskinErrorCode =
  /** A request that cannot be answered as it stands. */
  | "invalid_request"
  | "prompt_too_long"
  /** The model has no chat template, or a broken one. */
  | "chat_template"
  /** The file is damaged, or no model at all. */
  | "invalid_model"
  /** A sound file of an architecture that is not known. */
  | "unsupported_model"
  /** The address cannot be reached: no network, a wrong name, or refused by CORS. */
  | "network"
  /** The server answered with an error; `status` has it. */
  | "http"
  /** The file is not the one that its SHA-256 says. */
  | "integrity"
  /** No LoRA adapter, or one for another model. */
  | "invalid_adapter"
  /** A step of training had no number to learn from. */
  | "training"
  /** Damaged, or of another training. */
  | "checkpoint"
  | "out_of_memory"
  | "no_webgpu"
  /** The device was lost and could not be opened again. */
  | "device_lost"
  | "device"
  | "aborted"
  /** The model was unloaded. */
  | "unloaded"
  /** A fault of siskin's own, or its worker did not start. */
  | "internal";

/** Every error that siskin throws. */
export class SiskinError extends Error {
  override readonly name = "SiskinError";

  constructor(
    readonly code: SiskinErrorCode,
    message: string,
    /** The HTTP status, for `http`. */
    readonly status?: number,
  ) {
    super(message);
  }

  /** Any thrown value as a SiskinError. */
  static from(thrown: unknown): SiskinError {
    if (thrown instanceof SiskinError) return thrown;
    if (thrown instanceof Error) {
      if (thrown.name === "AbortError") return aborted();
      const code = "code" in thrown && typeof thrown.code === "string" ? (thrown.code as SiskinErrorCode) : "internal";
      return new SiskinError(code, thrown.message);
    }
    return new SiskinError("internal", String(thrown));
  }
}

export const aborted = () => new SiskinError("aborted", "stopped by the page");
