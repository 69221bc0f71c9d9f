// The tree of what a model could write next.

import type { Siskin } from "../siskin.js";
import { logProbabilities, ranking } from "./distribution.js";

/** A continuation of a text by some tokens. */
export interface Branch {
  /** The tokens after the text. */
  ids: readonly number[];
  /** The natural logarithm of the probability of the last one, after those before it. */
  logprob: number;
  /** Of all of them together. */
  total: number;
}

/** The most likely tokens after a branch, each as a branch that is longer by one; `from` is undefined at the root. */
export async function grow(siskin: Siskin, prompt: ArrayLike<number>, from: Branch | undefined, width: number): Promise<Branch[]> {
  const ids = from?.ids ?? [];
  const logits = await siskin.nextLogits([...Array.from(prompt), ...ids]);
  const likeliest = Array.from(ranking(logits).subarray(0, width));
  const logprobs = logProbabilities(logits, likeliest);
  return likeliest.map((id, i) => ({ ids: [...ids, id], logprob: logprobs[i]!, total: (from?.total ?? 0) + logprobs[i]! }));
}
