/** The kind of error, for programs. The message describes it in words, with a remedy. */
export type SiskinErrorCode =
  /** The request is invalid. */
  | "invalid_request"
  | "prompt_too_long"
  /** The model has no chat template, or a broken one. */
  | "chat_template"
  /** The file is damaged, or not a model. */
  | "invalid_model"
  /** An intact file with an unsupported architecture. */
  | "unsupported_model"
  /** The address cannot be reached: no network, a wrong name, or refused by CORS. */
  | "network"
  /** The server answered with an error; see `status`. */
  | "http"
  /** The file does not match its SHA-256. */
  | "integrity"
  /** Not a LoRA adapter, or one for another model. */
  | "invalid_adapter"
  /** A saved sequence is damaged, or was saved with another model. */
  | "saved"
  /** The loss of a training step was not finite. */
  | "training"
  /** Damaged, or from another training run. */
  | "checkpoint"
  | "out_of_memory"
  /** The origin's storage is full, or cannot be written. */
  | "storage"
  | "no_webgpu"
  /** The device was lost and could not be opened again. */
  | "device_lost"
  | "device"
  | "aborted"
  /** The model was unloaded. */
  | "unloaded"
  /** An error in siskin itself, or its worker did not start. */
  | "internal";

/** The class of all errors that siskin throws. */
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

  /** Converts any thrown value to a SiskinError. */
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

export const aborted = () => new SiskinError("aborted", "aborted by the page");
