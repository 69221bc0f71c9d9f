// How answers are sampled, for all conversations.

import { read, write } from "../lib/kept-values.js";

export const SETTINGS = [
  { key: "temperature", min: 0, max: 2, step: 0.05 },
  { key: "top_p", min: 0.05, max: 1, step: 0.05 },
  { key: "top_k", min: 0, max: 200, step: 1 },
  { key: "min_p", min: 0, max: 0.9, step: 0.01 },
  { key: "repeat_penalty", min: 1, max: 2, step: 0.05 },
  { key: "max_tokens", min: 16, max: 2048, step: 16 },
  { key: "seed", min: -1, max: 999, step: 1 },
] as const;

type Sampling = Record<(typeof SETTINGS)[number]["key"], number>;

const DEFAULTS: Sampling = { temperature: 0, top_p: 1, top_k: 0, min_p: 0, repeat_penalty: 1, max_tokens: 512, seed: -1 };
const KEY = "sampling";

class Kept {
  values = $state<Sampling>({ ...DEFAULTS, ...read<Sampling>(KEY) });

  get isDefault(): boolean {
    return SETTINGS.every(({ key }) => this.values[key] === DEFAULTS[key]);
  }

  keep(): void {
    write(KEY, this.values);
  }

  reset(): void {
    this.values = { ...DEFAULTS };
    this.keep();
  }
}

export const sampling = new Kept();
