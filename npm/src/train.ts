// Fine-tuning: examples in, step events out, an adapter in the end.

import { SiskinError, aborted } from "./errors.js";
import { check } from "./options.js";
import type { Bytes, Message } from "./types.js";

/** A conversation, of which the assistant's turns are learned; or plain text, all of which is. */
export type Example =
  | {
      /** An assistant's turn with `weight: 0` is read but not learned. */
      messages: Message[];
      /** Reach the chat template, as do `tool_calls` and `reasoning_content` of a message. */
      tools?: object[];
      chat_template_kwargs?: Record<string, unknown>;
      /** A prompt and its completion, which a model without a chat template reads as one text. */
      is_completion?: boolean;
    }
  | { text: string };

/** What a file of examples holds. */
export interface Dataset {
  format: "messages" | "share_gpt" | "alpaca" | "prompt_completion" | "text";
  records: (Example & { line: number })[];
  /** Records that are no examples, and why. */
  bad: { line: number; reason: string }[];
}

/** How to train. The names are PEFT's and transformers', in camel case. */
export interface TrainOptions {
  /** 8 by default. */
  rank?: number;
  /** The adapter is scaled by `loraAlpha / rank`, or with rslora by its root; twice the rank by default. */
  loraAlpha?: number;
  useRslora?: boolean;
  /** DoRA: the magnitudes of weights are learned too, apart from their directions. */
  useDora?: boolean;
  /** `q_proj` … `down_proj`, or `all-linear`, the default. */
  targetModules?: string[];
  loraDropout?: number;
  /** `adamw_8bit` keeps the optimiser's moments in 8 bits, by blocks; `adamw` by default. */
  optim?: "adamw" | "adamw_8bit";
  /** 1e-3 by default. */
  learningRate?: number;
  schedule?: "constant" | "linear" | "cosine";
  warmupSteps?: number;
  weightDecay?: number;
  maxGradNorm?: number;
  /** Passes over the examples; 3 by default. */
  epochs?: number;
  /** Steps instead of passes. */
  steps?: number;
  /** Examples a step; 4 by default. */
  batchSize?: number;
  /** Longer examples are cut to so many tokens; 512 by default. */
  maxSeqLen?: number;
  packing?: boolean;
  lossOn?: "assistant" | "all";
  /** The part of the examples that is held out; 0.1 by default. */
  validation?: number;
  /** Steps between scores of the held-out examples; by default one an epoch. */
  evalEvery?: number;
  /** Blocks that are computed again together in the backward pass, to save memory; 0 keeps all. */
  gradientCheckpointing?: number;
  seed?: number;
}

/** What a training would do and take. */
export interface TrainPlan {
  examples: number;
  heldOut: number;
  /** Of all examples together: tokens, and those that are learned. */
  tokens: number;
  learned: number;
  /** Examples that were cut to `maxSeqLen`. */
  cut: number;
  unusable: { line: number; reason: string }[];
  steps: number;
  stepsPerEpoch: number;
  parameters: number;
  /** Bytes. */
  memory: { weights: number; activations: number; adapter: number; total: number };
  /** Whether that fits; true, too, where the browser does not tell what there is. */
  fits: boolean;
  /** Bytes that can be used, where the browser tells. */
  available?: number;
}

/** What there is to do. */
export interface TrainSummary extends TrainPlan {
  /** Steps done already, when going on from a checkpoint. */
  done: number;
  /** Which of the examples were held out. */
  heldOutExamples: number[];
}

/** What a step did. */
export interface TrainStep {
  /** From 1. */
  step: number;
  /** Mean over the step's learned tokens, before it. */
  loss: number;
  learningRate: number;
  /** Before clipping. */
  gradNorm: number;
  tokens: number;
  seconds: number;
  /** Mean loss of the held-out examples after the step, where it was scored. */
  heldOut?: number;
}

/** An adapter as PEFT keeps it: `adapter_config.json` and `adapter_model.safetensors`. */
export interface LoraAdapter {
  config: string;
  weights: Bytes;
}

/** An example's tokens, and which of them are learned; or why it cannot be learned from. */
export type ExamplePreview =
  | { tokens: { id: number; piece: string; learned: boolean }[]; cut: number }
  | { reason: string };

/** What a training asks of its engine. */
export interface TrainHost {
  start(examples: Example[], options: object, checkpoint: Uint8Array | undefined): Promise<TrainSummary>;
  step(): Promise<TrainStep | null>;
  measure(): Promise<number>;
  score(): Promise<number | undefined>;
  checkpoint(): Promise<Bytes>;
  adapter(): Promise<LoraAdapter>;
}

/** `learningRate` as the engine has it: `learning_rate`. */
export const snake = (options: object): object =>
  Object.fromEntries(
    Object.entries(options)
      .filter(([, value]) => value !== undefined)
      .map(([key, value]) => [key.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`), value]),
  );

/** And back. */
export const camel = (found: object): object =>
  Object.fromEntries(Object.entries(found).map(([key, value]) => [key.replace(/_([a-z])/g, (_, c: string) => c.toUpperCase()), value]));

/**
 * A training: iterate over it to take its steps. Leaving the loop pauses it; another loop goes on. The model
 * answers with the adapter as it is in between.
 */
export class Training implements AsyncIterable<TrainStep> {
  readonly #host: TrainHost;
  readonly #signal: AbortSignal | undefined;
  readonly #begin: () => Promise<TrainSummary>;
  #summary: Promise<TrainSummary> | undefined;

  constructor(host: TrainHost, examples: Promise<Example[]>, options: TrainOptions & { resume?: Uint8Array; signal?: AbortSignal }) {
    const { resume, signal, ...rest } = options;
    this.#host = host;
    this.#signal = signal;
    this.#begin = async () => {
      check("train", rest);
      return host.start(await examples, snake(rest), resume);
    };
    // Whoever awaits it later hears of it.
    examples.catch(() => {});
  }

  /** Makes ready: what there is to do, and what it takes. The first step does this too. */
  summary(): Promise<TrainSummary> {
    this.#summary ??= this.#begin();
    return this.#summary;
  }

  /** Seconds that a step takes, measured on one that is not taken. */
  async secondsPerStep(): Promise<number> {
    await this.summary();
    return this.#host.measure();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<TrainStep> {
    await this.summary();
    for (;;) {
      if (this.#signal?.aborted) throw aborted();
      const step = await this.#host.step();
      if (!step) return;
      yield step;
    }
  }

  /** Mean loss of the held-out examples now; undefined where there are none. */
  async heldOutLoss(): Promise<number | undefined> {
    await this.summary();
    return this.#host.score();
  }

  /** All that is needed to go on later, by `resume`, as if nothing had happened. */
  async checkpoint(): Promise<Bytes> {
    await this.summary();
    return this.#host.checkpoint();
  }

  /** The adapter as it is now. */
  async adapter(): Promise<LoraAdapter> {
    await this.summary();
    return this.#host.adapter();
  }
}

/** Adapters held beside a model, of which one at a time is in use. */
export class Adapters {
  readonly #held = new Map<string, LoraAdapter>();
  #active: string | null = null;
  readonly #apply: (adapter: LoraAdapter | null, scale: number) => Promise<string | undefined>;

  constructor(apply: (adapter: LoraAdapter | null, scale: number) => Promise<string | undefined>) {
    this.#apply = apply;
  }

  /** Holds an adapter under a name: its two files' contents, or the files of a folder that PEFT saved. */
  async add(name: string, source: LoraAdapter | readonly File[]): Promise<void> {
    this.#held.set(name, "config" in source ? source : await fromFiles(source));
  }

  list(): string[] {
    return [...this.#held.keys()];
  }

  get(name: string): LoraAdapter | undefined {
    return this.#held.get(name);
  }

  /** The one in use. */
  get active(): string | null {
    return this.#active;
  }

  /**
   * Uses one from now on, or none (null); `scale` multiplies its low-rank product. Ends a training under way.
   * `otherBase` is the model that the adapter was made for, if that seems to be another one by its name.
   */
  async use(name: string | null, options: { scale?: number } = {}): Promise<{ otherBase?: string }> {
    check("adapters.use", options);
    const { scale = 1 } = options;
    const found = name === null ? null : this.#held.get(name);
    if (found === undefined) {
      const known = this.list().join(", ") || "none";
      throw new SiskinError("invalid_request", `there is no adapter \`${name}\`; there are: ${known}`);
    }
    const otherBase = await this.#apply(found, scale);
    this.#active = name;
    return otherBase === undefined ? {} : { otherBase };
  }

  /** Forgets an adapter; one in use is put away first. */
  async delete(name: string): Promise<boolean> {
    if (this.#active === name) await this.use(null);
    return this.#held.delete(name);
  }
}

async function fromFiles(files: readonly File[]): Promise<LoraAdapter> {
  const find = (name: string) => {
    const file = files.find((f) => f.name === name);
    if (!file) throw new SiskinError("invalid_adapter", `an adapter is a folder with ${name}, as PEFT saves it`);
    return file;
  };
  return {
    config: await find("adapter_config.json").text(),
    weights: new Uint8Array(await find("adapter_model.safetensors").arrayBuffer()),
  };
}
