// What sampling settings leave of a distribution, as the model's sampler applies them: temperature, top k, top p of what that
// leaves, min p.

export interface Settings {
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
}

export interface Cuts {
  /** Probabilities at this temperature, the most likely first. */
  probabilities: Float64Array;
  /** How many of the most likely tokens each setting leaves by itself; all, if it is off. */
  topK: number;
  topP: number;
  minP: number;
  /** How many all leave together, and the probability of those. */
  kept: number;
  mass: number;
}

// Plain loops: a page calls these for tens of thousands of tokens between two frames.

/** More than any vocabulary has tokens; with 32 bits of a logit, an exact number. */
const IDS = 2 ** 20;

/** The ids of tokens, the most likely first; of equally likely ones, the lowest id. */
export function ranking(logits: Float32Array): Uint32Array {
  const bits = new Uint32Array(logits.length);
  new Float32Array(bits.buffer).set(logits);
  const keys = new Float64Array(logits.length);
  for (let id = 0; id < keys.length; id++) {
    // Bits of floats are in the floats' order, but for the sign and the order of negative ones.
    const descending = bits[id]! >>> 31 ? bits[id]! : bits[id]! ^ 0x7fffffff;
    keys[id] = (descending >>> 0) * IDS + id;
  }
  // Without a function that compares, typed arrays are sorted several times as fast.
  keys.sort();
  const order = new Uint32Array(keys.length);
  for (let rank = 0; rank < order.length; rank++) order[rank] = keys[rank]! % IDS;
  return order;
}

function sumOf(values: Float64Array, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += values[i]!;
  return sum;
}

export function cuts(logits: Float32Array, order: Uint32Array, { temperature, topK, topP, minP }: Settings): Cuts {
  const n = order.length;
  const most = logits[order[0]!]!;
  const probabilities = new Float64Array(n);
  if (temperature === 0) probabilities[0] = 1;
  else for (let rank = 0; rank < n; rank++) probabilities[rank] = Math.exp((logits[order[rank]!]! - most) / temperature);
  const sum = sumOf(probabilities, n);
  for (let i = 0; i < n; i++) probabilities[i]! /= sum;
  const byK = topK > 0 ? Math.min(topK, n) : n;
  let byP = n;
  if (topP < 1) {
    const wanted = topP * sumOf(probabilities, byK);
    let mass = 0;
    byP = 0;
    while (byP < byK && mass < wanted) mass += probabilities[byP++]!;
  }
  const lowest = minP * probabilities[0]!;
  const first = minP > 0 ? probabilities.findIndex((p) => p < lowest) : -1;
  const byM = first < 0 ? n : first;
  const kept = temperature === 0 ? 1 : Math.min(byK, byP, byM);
  return { probabilities, topK: byK, topP: byP, minP: byM, kept, mass: sumOf(probabilities, kept) };
}

/** The natural logarithms of tokens' probabilities. */
export function logProbabilities(logits: Float32Array, ids: readonly number[]): number[] {
  let most = -Infinity;
  for (let i = 0; i < logits.length; i++) if (logits[i]! > most) most = logits[i]!;
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += Math.exp(logits[i]! - most);
  const log = most + Math.log(sum);
  return ids.map((id) => logits[id]! - log);
}

export const logProbability = (logits: Float32Array, id: number): number => logProbabilities(logits, [id])[0]!;

/** How many tokens are more likely. */
export function rankOf(logits: Float32Array, id: number): number {
  const own = logits[id]!;
  let count = 0;
  for (let i = 0; i < logits.length; i++) if (logits[i]! > own) count++;
  return count;
}
