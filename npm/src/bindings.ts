// The bindings of the wasm files, as an engine receives them.

import type * as Chat from "./wasm/siskin_wasm.js";
import type * as Grammar from "./wasm/siskin_grammar.js";
import type * as Training from "./wasm/siskin_training.js";

export type Bindings = typeof Training;

/** The bindings of a file. Those without training lack only what is never called on an engine for chat. */
export const asBindings = (found: typeof Chat | typeof Training): Bindings => found as unknown as Bindings;

/** The bindings of the file that compiles grammars. */
export type GrammarBindings = typeof Grammar;

/** What an engine is for. Training is a wasm file of its own, which contains all that the other one does. */
export type Purpose = "chat" | "training";
