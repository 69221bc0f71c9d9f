// What compiles grammars: a wasm of its own, which starts when a request first needs it.

import type { GrammarBindings } from "./bindings.js";
import { SiskinError } from "./errors.js";
import type { CompiledGrammar, Grammars } from "./wasm/siskin_grammar.js";
import type { Exchange, Tokenizer } from "./wasm/siskin_training.js";
import { startWasm, type Wasm } from "./wasm-files.js";

export class GrammarCompiler {
  /** For the vocabulary of a tokenizer. */
  readonly #grammars = new WeakMap<Tokenizer, Promise<Grammars>>();

  constructor(
    private readonly bindings: () => Promise<GrammarBindings>,
    private readonly wasm: Wasm,
  ) {}

  /** What an exchange's answers must look like, if they must. */
  async compile(exchange: Exchange, tokenizer: Tokenizer): Promise<CompiledGrammar | undefined> {
    const { grammar, grammarField } = exchange;
    if (grammar === undefined) return undefined;
    const started = this.#grammars.get(tokenizer) ?? this.#start(tokenizer);
    this.#grammars.set(tokenizer, started);
    const grammars = await started.catch((thrown: unknown) => {
      this.#grammars.delete(tokenizer);
      throw thrown;
    });
    try {
      return grammars.compile(grammar);
    } catch (thrown) {
      throw new SiskinError("invalid_request", `\`${grammarField}\`: ${(thrown as Error).message}`);
    }
  }

  async #start(tokenizer: Tokenizer): Promise<Grammars> {
    const { default: start, Grammars } = await this.bindings();
    await startWasm(start, this.wasm, "grammar");
    const [bytes, offsets, ends] = tokenizer.vocabulary() as [Uint8Array, Uint32Array, Uint32Array];
    return new Grammars(bytes, offsets, ends, (text: Uint8Array) => tokenizer.tokensOf(text));
  }
}
