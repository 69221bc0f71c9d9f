// How surprising each token of a text is to the model.

import type { Siskin } from "../siskin.js";
import type { Token } from "../types.js";
import { logProbability, rankOf } from "./distribution.js";

export interface Surprise {
  /** The token's place in the text. */
  index: number;
  /** In bits: −log₂ of the probability that the model gave it. */
  bits: number;
  /** How many tokens were more likely. */
  rank: number;
  /** The id of the most likely one. */
  expected: number;
}

/** The surprise of each token after the first, of which nothing was expected; the model runs one token at a time. */
export async function* surprises(siskin: Siskin, tokens: readonly Token[]): AsyncGenerator<Surprise> {
  const ids = tokens.map((t) => t.id);
  for (let index = 1; index < ids.length; index++) {
    const logits = await siskin.nextLogits(ids.slice(0, index));
    const id = ids[index]!;
    let expected = 0;
    for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[expected]!) expected = i;
    yield { index, bits: -logProbability(logits, id) / Math.LN2, rank: rankOf(logits, id), expected };
  }
}
