// The text that the Inside view looks at, and what the model computes for it.

import type { Siskin, Token, TopToken, Trace } from "siskin";
import { logProbability, rankOf, ranking, scoreHeads, type HeadScore } from "siskin/interpret";

import { language } from "../language/language.svelte.js";
import { model } from "../lib/model.svelte.js";
import { visible, words } from "../lib/words.js";

/** Up to this many tokens, the lens is computed without being asked for: it takes long. */
const QUICK = 24;

class Look {
  prompt = $state(language.words.inside.sample);
  tokens = $state.raw<Token[]>([]);
  /** The tokens that were appended to the prompt: their places, and how likely they were. */
  added = $state.raw<readonly { index: number; probability: number; rank: number }[]>([]);
  logits = $state.raw<Float32Array | undefined>();
  trace = $state.raw<Trace | undefined>();
  lens = $state.raw<TopToken[][] | undefined>();
  scores = $state.raw<HeadScore[] | undefined>();
  /** The texts of tokens that are shown, by id. */
  names = $state.raw<ReadonlyMap<number, string>>(new Map());
  /** What the model is doing. */
  busy = $state("");
  error = $state("");
  /** Counted from 1. */
  layer = $state(1);
  head = $state(1);
  /** The token that is followed through the layers. */
  at = $state(0);
  /** What is being computed, for which tokens. */
  readonly #running = new Map<string, readonly Token[]>();

  #scoring: Siskin | undefined;

  readonly order = $derived(this.logits && ranking(this.logits));

  /** Tokens of one model are meaningless to another. */
  forget(): void {
    [this.tokens, this.logits, this.trace, this.lens, this.scores, this.names, this.error] = [[], undefined, undefined, undefined, undefined, new Map(), ""];
  }

  /** Another text, which is read when the view is shown. */
  ask(prompt: string): void {
    [this.prompt, this.tokens, this.logits, this.trace, this.lens] = [prompt, [], undefined, undefined, undefined];
  }

  async #run(what: string, work: () => Promise<void>): Promise<void> {
    if (this.busy) return;
    this.busy = what;
    this.error = "";
    try {
      await work();
    } catch (thrown) {
      this.error = words(thrown);
    } finally {
      this.busy = "";
    }
  }

  async #next(wanted: Token[]): Promise<void> {
    const found = await model.siskin!.nextLogits(wanted.map((t) => t.id));
    [this.trace, this.lens] = [undefined, undefined];
    [this.tokens, this.logits, this.at] = [wanted, found, wanted.length - 1];
  }

  start(): Promise<void> {
    return this.#run(language.words.inside.reading, async () => {
      const wanted = await model.siskin!.tokenizer.encode(this.prompt);
      await this.#next(wanted);
      this.added = [];
    });
  }

  add(id: number): Promise<void> {
    return this.#run(language.words.inside.adding, async () => {
      const { logits } = this;
      const index = this.tokens.length;
      const special = (await model.siskin!.tokenizer.decode([id])) === "";
      await this.#next([...this.tokens, { id, piece: await textOf(id), start: 0, end: 0, special }]);
      if (logits) this.added = [...this.added, { index, probability: Math.exp(logProbability(logits, id)), rank: rankOf(logits, id) }];
    });
  }

  back(): Promise<void> {
    return this.#run(language.words.inside.removing, async () => {
      await this.#next(this.tokens.slice(0, -1));
      this.added = this.added.filter(({ index }) => index < this.tokens.length);
    });
  }

  /** Looks up the texts of tokens that are to be shown. */
  async know(ids: readonly number[]): Promise<void> {
    const unknown = ids.filter((id) => !this.names.has(id));
    if (unknown.length === 0 || !model.siskin) return;
    const found = await Promise.all(unknown.map(async (id) => [id, await textOf(id)] as const));
    this.names = new Map([...this.names, ...found]);
  }

  /** A token's text as it is shown. */
  name(id: number): string {
    return visible(this.names.get(id) ?? "…");
  }

  label(index: number): string {
    return visible(this.tokens[index]?.piece ?? "");
  }

  /** Runs a computation of the text, unless it is running; its result is dropped if the text has changed. */
  async #look(what: string, work: (ids: number[]) => Promise<() => void>): Promise<void> {
    const [wanted, siskin] = [this.tokens, model.siskin];
    if (!siskin || this.#running.get(what) === wanted) return;
    this.#running.set(what, wanted);
    try {
      const keep = await work(wanted.map((t) => t.id));
      if (wanted === this.tokens && siskin === model.siskin) keep();
    } catch (thrown) {
      if (siskin === model.siskin) this.error = words(thrown);
    } finally {
      if (this.#running.get(what) === wanted) this.#running.delete(what);
    }
  }

  lookAtAttention(): Promise<void> {
    return this.#look("attention", async (ids) => {
      const found = await model.siskin!.trace(ids, { attention: true });
      return () => {
        this.layer = Math.min(this.layer, found.attention.length);
        this.head = Math.min(this.head, Math.max(found.nHeads, 1));
        this.trace = found;
      };
    });
  }

  lookThroughLens(): Promise<void> {
    return this.#look("lens", async (ids) => {
      const { logitLens } = await model.siskin!.trace(ids, { logitLens: true });
      return () => (this.lens = logitLens);
    });
  }

  get isLensQuick(): boolean {
    return this.tokens.length <= QUICK;
  }

  /** The heads' scores do not depend on the text. */
  async lookAtHeads(): Promise<void> {
    const siskin = model.siskin;
    if (!siskin || this.scores || this.#scoring === siskin) return;
    this.#scoring = siskin;
    try {
      const found = await scoreHeads(siskin);
      if (siskin === model.siskin) this.scores = found;
    } catch (thrown) {
      if (siskin === model.siskin) this.error = words(thrown);
    } finally {
      if (this.#scoring === siskin) this.#scoring = undefined;
    }
  }
}

/** The text of a token; its number where that is none, or part of a character. */
async function textOf(id: number): Promise<string> {
  const text = await model.siskin!.tokenizer.decode([id]);
  return text === "" || text.includes("\uFFFD") ? `#${id}` : text;
}

export const look = new Look();
