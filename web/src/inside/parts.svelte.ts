// What each part of the model does for one token, measured by running the model without other parts.

import { lensByPart, logProbabilities, logProbability, logitsWithout, partsOf, ranking, type Part } from "siskin/interpret";

import { model } from "../lib/model.svelte.js";
import { words } from "../lib/words.js";
import { look } from "./look.svelte.js";

/** How many of the likeliest tokens can be chosen. */
const CHOICES = 8;

/** The probabilities of the tokens that can be chosen, if the model ended after a part. */
interface Step {
  part: Part | undefined;
  logprobs: ReadonlyMap<number, number>;
}

/** The prediction without the parts that are switched off. */
export interface Without {
  off: readonly Part[];
  probability: number;
  /** The most likely token then. */
  first: number;
  firstProbability: number;
}

export const isSame = (a: Part | undefined, b: Part): boolean => a?.layer === b.layer && a.kind === b.kind;

class Parts {
  /** The likeliest tokens after the one that is followed, with their probabilities. */
  choices = $state.raw<{ id: number; probability: number }[]>([]);
  chosen = $state(0);
  steps = $state.raw<Step[]>([]);
  measuring = $state(false);
  off = $state.raw<readonly Part[]>([]);
  without = $state.raw<Without | undefined>();
  error = $state("");
  /** Distinguishes what was asked for last. */
  #asked = 0;
  #ids: number[] = [];

  /** Follows another token. */
  async follow(ids: number[]): Promise<void> {
    const asked = ++this.#asked;
    this.#ids = ids;
    [this.steps, this.off, this.without, this.measuring, this.error] = [[], [], undefined, false, ""];
    const isLast = ids.length === look.tokens.length;
    try {
      const logits = (isLast && look.logits) || (await model.siskin!.nextLogits(ids));
      const order = (isLast && look.order) || ranking(logits);
      if (asked !== this.#asked) return;
      const likeliest = Array.from(order.subarray(0, CHOICES));
      const logprobs = logProbabilities(logits, likeliest);
      this.choices = likeliest.map((id, i) => ({ id, probability: Math.exp(logprobs[i]!) }));
      this.chosen = this.choices[0]!.id;
      void look.know(this.choices.map(({ id }) => id));
    } catch (thrown) {
      if (asked === this.#asked) this.error = words(thrown);
    }
  }

  /** Why parts cannot be switched off, if so. */
  get obstacle(): string {
    try {
      partsOf(model.siskin!.model);
      return "";
    } catch (thrown) {
      return words(thrown);
    }
  }

  async measure(): Promise<void> {
    const asked = this.#asked;
    this.measuring = true;
    this.error = "";
    const steps: Step[] = [];
    try {
      for await (const { part, logits } of lensByPart(model.siskin!, this.#ids)) {
        if (asked !== this.#asked || !this.measuring) return;
        const ids = this.choices.map(({ id }) => id);
        const logprobs = logProbabilities(logits, ids);
        steps.push({ part, logprobs: new Map(ids.map((id, i) => [id, logprobs[i]!])) });
        this.steps = [...steps];
      }
    } catch (thrown) {
      if (asked === this.#asked) this.error = words(thrown);
    } finally {
      if (asked === this.#asked) this.measuring = false;
    }
  }

  stop(): void {
    [this.measuring, this.steps] = [false, []];
  }

  /** The chosen token's probabilities before and after a part. */
  effect(part: Part): { before: number; after: number } | undefined {
    const i = this.steps.findIndex((s) => isSame(s.part, part));
    if (i < 1) return undefined;
    const [before, after] = [this.steps[i - 1]!.logprobs.get(this.chosen), this.steps[i]!.logprobs.get(this.chosen)];
    return before === undefined || after === undefined ? undefined : { before, after };
  }

  isOff(part: Part): boolean {
    return this.off.some((p) => isSame(p, part));
  }

  async toggle(part: Part): Promise<void> {
    this.off = this.isOff(part) ? this.off.filter((p) => !isSame(p, part)) : [...this.off, part];
    await this.#runWithout();
  }

  async allOn(): Promise<void> {
    this.off = [];
    await this.#runWithout();
  }

  async #runWithout(): Promise<void> {
    const [asked, off] = [this.#asked, this.off];
    this.error = "";
    if (off.length === 0) return void (this.without = undefined);
    try {
      const logits = await logitsWithout(model.siskin!, this.#ids, off);
      if (asked !== this.#asked || off !== this.off) return;
      const first = ranking(logits)[0]!;
      await look.know([first]);
      this.#logits = logits;
      const [probability, firstProbability] = logProbabilities(logits, [this.chosen, first]).map(Math.exp) as [number, number];
      this.without = { off, first, probability, firstProbability };
    } catch (thrown) {
      if (asked === this.#asked) [this.error, this.off, this.without] = [words(thrown), [], undefined];
    }
  }

  /** Of the last run without parts. */
  #logits: Float32Array | undefined;

  /** Another of the tokens that can be chosen. */
  choose(id: number): void {
    this.chosen = id;
    if (this.without && this.#logits) this.without = { ...this.without, probability: Math.exp(logProbability(this.#logits, id)) };
  }
}

export const parts = new Parts();
