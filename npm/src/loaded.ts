import type { Siskin } from "./siskin.js";
import type { ModelSource } from "./types.js";

/** A loaded model, as far as chats need it. */
export type LoadedModel = Pick<Siskin, "chat" | "tokenizer" | "generate" | "info" | "model" | "unload">;

export const isLoaded = (source: ModelSource | LoadedModel): source is LoadedModel => typeof source === "object" && "chat" in source;
