// What attention heads do, as scores of their maps.

import type { Siskin } from "../siskin.js";
import type { Trace } from "../types.js";

/** Shares of a head's attention, from 0 to 1. */
export interface HeadScore {
  /** From 0. */
  layer: number;
  head: number;
  /** What goes to the token before. */
  previous: number;
  /** What goes to the first token. */
  first: number;
  /**
   * Where a token occurred before, what goes to the token that followed it then (Olsson et al., "In-context Learning and
   * Induction Heads", 2022); undefined in a text in which none did.
   */
  induction: number | undefined;
}

/** The role that a head's scores name: what it gives at least half of its attention to. */
export function roleOf({ previous, first, induction = 0 }: HeadScore): "previous" | "first" | "induction" | undefined {
  const most = Math.max(previous, first, induction);
  if (most < 0.5) return undefined;
  return most === induction ? "induction" : most === previous ? "previous" : "first";
}

/** For each token, the places right after its earlier occurrences. */
function followers(ids: readonly number[]): number[][] {
  const before = new Map<number, number[]>();
  return ids.map((id, place) => {
    const found = (before.get(id) ?? []).map((earlier) => earlier + 1);
    before.set(id, [...(before.get(id) ?? []), place]);
    return found;
  });
}

/** The scores of all heads of a trace with attention, averaged over the text's tokens from the third on. */
export function headScores({ tokens, attention, nHeads }: Pick<Trace, "tokens" | "attention" | "nHeads">): HeadScore[] {
  const n = tokens.length;
  const after = followers(tokens.map((t) => t.id));
  const scores: HeadScore[] = [];
  for (const [layer, maps] of attention.entries()) {
    if (maps.length === 0) continue;
    for (let head = 0; head < nHeads; head++) {
      const at = (query: number, key: number) => maps[(head * n + query) * n + key]!;
      let [previous, first, induction, repeated] = [0, 0, 0, 0];
      // The first two tokens have nothing else to attend to.
      for (let query = 2; query < n; query++) {
        previous += at(query, query - 1);
        first += at(query, 0);
        if (after[query]!.length === 0) continue;
        repeated += 1;
        for (const key of after[query]!) induction += at(query, key);
      }
      const queries = Math.max(n - 2, 1);
      scores.push({ layer, head, previous: previous / queries, first: first / queries, induction: repeated ? induction / repeated : undefined });
    }
  }
  return scores;
}

/** How many tokens are drawn, and then repeated. */
const DRAWN = 20;

/** The scores of a model's heads on random tokens, twice in a row, in which nothing but the repetition can be predicted. */
export async function scoreHeads(siskin: Siskin): Promise<HeadScore[]> {
  const { vocabSize } = siskin.model;
  let state = 1;
  const drawn = Array.from({ length: DRAWN }, () => {
    // A linear congruential generator (Numerical Recipes): the same tokens each time.
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    // Vocabularies have their special tokens at either end.
    return Math.floor((0.1 + 0.5 * (state / 2 ** 32)) * vocabSize);
  });
  return headScores(await siskin.trace([...drawn, ...drawn], { attention: true }));
}
