// The wasm files: what answers, what also trains, and what compiles grammars. A page downloads the last two when it first
// needs them.

import { SiskinError } from "./errors.js";
import { platformOf } from "./platform.js";

/** Where a wasm file is, or its contents. */
export type Wasm = string | ArrayBuffer | Uint8Array;

/** The names of the options that say where a wasm file is. */
export const WASM_OPTIONS = {
  chat: ["wasmUrl", "wasmBytes"],
  training: ["trainingWasmUrl", "trainingWasmBytes"],
  grammar: ["grammarWasmUrl", "grammarWasmBytes"],
} as const;

export async function startWasm<T>(start: (wasm: { module_or_path: Wasm }) => Promise<T>, wasm: Wasm, file: keyof typeof WASM_OPTIONS): Promise<T> {
  // Node's `fetch` does not read files.
  const onDisc = typeof wasm === "string" ? await platformOf(wasm)?.open(wasm, false) : undefined;
  try {
    return await start({ module_or_path: onDisc ? await onDisc.read(0, onDisc.size) : wasm });
  } catch (thrown) {
    const at = typeof wasm === "string" ? wasm : "the given bytes";
    const options = WASM_OPTIONS[file].map((name) => `\`${name}\``).join(" or ");
    throw new SiskinError("internal", `the wasm at ${at} does not start: ${(thrown as Error).message}; serve it there, or set ${options}`);
  }
}
