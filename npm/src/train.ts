// Fine-tuning: examples in, step events out, and finally an adapter.

import { SiskinError, aborted } from "./errors.js";
import { check } from "./options.js";
import type { Bytes, Message } from "./types.js";

/** The chat template's inputs besides the messages. */
interface TemplateInputs {
  tools?: object[];
  chat_template_kwargs?: Record<string, unknown>;
}

/** Two answers to a prompt, of which one is preferred: texts or turns. Without a prompt, both begin with it. */
export interface Preference extends TemplateInputs {
  prompt?: string | Message[];
  chosen: string | Message[];
  rejected: string | Message[];
}

/** An answer to a prompt that is desirable (`label: true`) or not: texts or turns. */
export interface RatedAnswer extends TemplateInputs {
  prompt: string | Message[];
  completion: string | Message[];
  label: boolean;
}

/** A conversation, of which the assistant's turns are learned; or plain text, all of which is. */
export type Example =
  | {
      /** An assistant's turn with `weight: 0` is read but not learned. */
      messages: Message[];
      /** Passed to the chat template, as are `tool_calls` and `reasoning_content` of a message. */
      tools?: object[];
      chat_template_kwargs?: Record<string, unknown>;
      /** A prompt and its completion, which a model without a chat template reads as one text. */
      is_completion?: boolean;
    }
  | { text: string };

/** What objectives learn from: `sft` from answers, the others from preferences. */
export type TrainExample = Example | Preference | RatedAnswer;

/** The contents of a file of examples. */
export interface Dataset {
  format: "messages" | "share_gpt" | "alpaca" | "prompt_completion" | "text" | "preference" | "rated";
  records: (Example & { line: number })[];
  /** Records that are not valid examples, and why. */
  bad: { line: number; reason: string }[];
}

/** The preferences of a file. */
export interface PreferenceDataset extends Omit<Dataset, "records"> {
  records: ((Preference | RatedAnswer) & { line: number })[];
}

/** The contents of a file, of whichever kind. */
export interface AnyDataset extends Omit<Dataset, "records"> {
  records: (TrainExample & { line: number })[];
}

type Line = { line: number };

const isPreference = (record: TrainExample & Line): record is (Preference | RatedAnswer) & Line =>
  "chosen" in record || "label" in record;

/** Records of the other kind are not valid. */
const ofKind = <T extends TrainExample & Line>(found: AnyDataset, is: (r: TrainExample & Line) => r is T, reason: string) => {
  const others = found.records.filter((record) => !is(record)).map(({ line }) => ({ line, reason }));
  return { ...found, records: found.records.filter(is), bad: [...found.bad, ...others].sort((a, b) => a.line - b.line) };
};

/** The answers of a file. */
export const answersOf = (found: AnyDataset): Dataset =>
  ofKind(found, (r): r is Example & Line => !isPreference(r), "it is a preference, for `preferences` and other objectives than sft");

/** The preferences of a file. */
export const preferencesOf = (found: AnyDataset): PreferenceDataset =>
  ofKind(found, isPreference, "it is no preference: it has neither `chosen` and `rejected` nor a `label`");

/** Training options. The names are PEFT's, transformers' and TRL's, in camel case. */
export interface TrainOptions {
  /**
   * What is learned: answers (`sft`, the default); which of two answers is preferred (`dpo`, `orpo`, `simpo`, `cpo`); or whether
   * answers are desirable (`kto`). `dpo` and `kto` compare with the model without the adapter.
   */
  objective?: "sft" | "dpo" | "orpo" | "simpo" | "cpo" | "kto";
  /** The scale of rewards; 0.1 by default, for `simpo` 2. */
  beta?: number;
  /** How `dpo` and `cpo` penalise a margin; `sigmoid` by default. `robust` is for `dpo`. */
  lossType?: "sigmoid" | "hinge" | "ipo" | "robust";
  /** The probability that a pair is taken to be the other way round; 0 by default. */
  labelSmoothing?: number;
  /** The margin of SimPO's rewards; 1 by default. */
  simpoGamma?: number;
  /** The weight of the chosen answers' cross-entropy; 1 by default for `cpo`, 0 for `simpo`. */
  cpoAlpha?: number;
  /** The weights of KTO's desirable and undesirable answers; 1 by default. */
  desirableWeight?: number;
  undesirableWeight?: number;
  /** 8 by default. */
  rank?: number;
  /** The adapter is scaled by `loraAlpha / rank`, or with rsLoRA by `loraAlpha / √rank`; `loraAlpha` is twice the rank by default. */
  loraAlpha?: number;
  useRslora?: boolean;
  /** DoRA: magnitudes of weights are learned too, separately from their directions. */
  useDora?: boolean;
  /** `q_proj` … `down_proj`, or `all-linear`, the default. */
  targetModules?: string[];
  loraDropout?: number;
  /** `adamw_8bit` stores the optimiser's moments in 8 bits, block-wise; `adamw` by default. */
  optim?: "adamw" | "adamw_8bit";
  /** 1e-3 by default, and 5e-5 for objectives over preferences. */
  learningRate?: number;
  /** After warm-up; `cosine` by default. */
  schedule?: "constant" | "linear" | "cosine" | "cosine_with_restarts" | "warmup_stable_decay";
  /** Steps over which the rate rises; 5 by default. */
  warmupSteps?: number;
  /** The same as a fraction of all steps. */
  warmupRatio?: number;
  /** How often `cosine_with_restarts` begins at the peak; 1 by default. */
  numCycles?: number;
  /** How many of the last steps `warmup_stable_decay` decays in; by default a fifth of those after warm-up. */
  numDecaySteps?: number;
  /** What a schedule decays to, as a fraction of the peak; 0 by default. */
  minLrRate?: number;
  /** Decays of AdamW's moments per step, 0.9 and 0.999 by default, and what is added to the root of the second, 1e-8. */
  adamBeta1?: number;
  adamBeta2?: number;
  adamEpsilon?: number;
  weightDecay?: number;
  maxGradNorm?: number;
  /** Passes over the examples; 3 by default. */
  epochs?: number;
  /** Number of steps, instead of passes. */
  steps?: number;
  /** Examples per step; 4 by default. */
  batchSize?: number;
  /** Longer examples are truncated to this many tokens; 512 by default. */
  maxSeqLen?: number;
  packing?: boolean;
  lossOn?: "assistant" | "all";
  /** The fraction of the examples that is held out; 0.1 by default. */
  validation?: number;
  /** Examples that are held out instead. */
  validationData?: TrainExample[];
  /** Steps between scores of the held-out examples; by default once per epoch. */
  evalEvery?: number;
  /** The training ends when so many scores in a row were no better than the best one. */
  earlyStoppingPatience?: number;
  /** The adapter at the end is the one whose score was the best. */
  loadBestModelAtEnd?: boolean;
  /** Blocks that are recomputed together in the backward pass, to save memory; 0 keeps all values. */
  gradientCheckpointing?: number;
  seed?: number;
}

/** What a training run would do and need. */
export interface TrainPlan {
  objective: NonNullable<TrainOptions["objective"]>;
  examples: number;
  heldOut: number;
  /** Over all examples: tokens, and learned tokens. */
  tokens: number;
  learned: number;
  /** Examples that were truncated to `maxSeqLen`. */
  cut: number;
  unusable: { line: number; reason: string }[];
  /** The same, of `validationData`. */
  unusableValidation?: { line: number; reason: string }[];
  steps: number;
  stepsPerEpoch: number;
  parameters: number;
  /** Bytes. */
  memory: { weights: number; activations: number; adapter: number; total: number };
  /** Whether that fits; also true if the browser does not report the available memory. */
  fits: boolean;
  /** Bytes available, if the browser reports it. */
  available?: number;
}

/** What a training run consists of. */
export interface TrainSummary extends TrainPlan {
  /** Steps already completed, when resuming from a checkpoint. */
  done: number;
  /** Indices of the held-out examples; those of `validationData` follow the others. */
  heldOutExamples: number[];
}

/** The outcome of a step. */
export interface TrainStep {
  /** From 1. */
  step: number;
  /** Before the update: the mean over the step's learned tokens, or of the objective over its examples. */
  loss: number;
  learningRate: number;
  /** Before clipping. */
  gradNorm: number;
  tokens: number;
  seconds: number;
  /** Loss of the held-out examples after the step, if they were scored. */
  heldOut?: number;
  /** The fraction of held-out pairs whose chosen answer has the greater reward. */
  "heldOutRewards/accuracies"?: number;
  /** Means over the step's preferences, under TRL's names: rewards and log-probabilities of chosen or desirable answers … */
  "rewards/chosen"?: number;
  "logps/chosen"?: number;
  /** … and of rejected or undesirable ones. */
  "rewards/rejected"?: number;
  "logps/rejected"?: number;
  "rewards/margins"?: number;
  /** The fraction of pairs whose chosen answer has the greater reward. */
  "rewards/accuracies"?: number;
  /** Cross-entropy of the chosen answers, where it is part of the objective. */
  nllLoss?: number;
  /** ORPO's. */
  logOddsRatio?: number;
  logOddsChosen?: number;
  /** KTO's estimate of the divergence from the model without the adapter. */
  kl?: number;
}

/** An adapter in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`. */
export interface LoraAdapter {
  config: string;
  weights: Bytes;
}

/** An example's tokens, and which of them are learned; or why it is unusable. */
export type ExamplePreview =
  | { tokens: { id: number; piece: string; learned: boolean }[]; cut: number }
  | { reason: string };

/** What a training run needs from its engine. */
export interface TrainHost {
  start(examples: TrainExample[], options: object, checkpoint: Uint8Array | undefined): Promise<TrainSummary>;
  step(): Promise<TrainStep | null>;
  measure(): Promise<number>;
  score(): Promise<number | undefined>;
  checkpoint(): Promise<Bytes>;
  adapter(): Promise<LoraAdapter>;
}

/** Converts keys to the engine's names: `learningRate` to `learning_rate`. */
export const snake = (options: object): object =>
  Object.fromEntries(
    Object.entries(options)
      .filter(([, value]) => value !== undefined)
      .map(([key, value]) => [key.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`), value]),
  );

/** The reverse of [`snake`]. */
export const camel = (found: object): object =>
  Object.fromEntries(Object.entries(found).map(([key, value]) => [key.replace(/_([a-z])/g, (_, c: string) => c.toUpperCase()), value]));

/**
 * A training run: iterate over it to take its steps. Leaving the loop pauses it; another loop resumes it. In
 * between, the model answers with the current adapter.
 */
export class Training implements AsyncIterable<TrainStep> {
  readonly #host: TrainHost;
  readonly #signal: AbortSignal | undefined;
  readonly #begin: () => Promise<TrainSummary>;
  #summary: Promise<TrainSummary> | undefined;

  constructor(host: TrainHost, examples: Promise<TrainExample[]>, options: TrainOptions & { resume?: Uint8Array; signal?: AbortSignal }) {
    const { resume, signal, ...rest } = options;
    this.#host = host;
    this.#signal = signal;
    this.#begin = async () => {
      check("train", rest);
      return host.start(await examples, snake(rest), resume);
    };
    // The rejection is seen by whoever awaits it later.
    examples.catch(() => {});
  }

  /** Prepares the run; resolves to what it will do and need. The first step does this too. */
  summary(): Promise<TrainSummary> {
    this.#summary ??= this.#begin();
    return this.#summary;
  }

  /** Seconds per step, measured without an update. */
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

  /** Current loss of the held-out examples; undefined if there are none. */
  async heldOutLoss(): Promise<number | undefined> {
    await this.summary();
    return this.#host.score();
  }

  /** Everything needed to continue later, with `resume`, as if there had been no interruption. */
  async checkpoint(): Promise<Bytes> {
    await this.summary();
    return this.#host.checkpoint();
  }

  /** The current adapter. */
  async adapter(): Promise<LoraAdapter> {
    await this.summary();
    return this.#host.adapter();
  }
}

/** Adapters held for a model, of which one at a time is in use. */
export class Adapters {
  readonly #held = new Map<string, LoraAdapter>();
  #active: string | null = null;
  readonly #apply: (adapter: LoraAdapter | null, scale: number) => Promise<string | undefined>;

  constructor(apply: (adapter: LoraAdapter | null, scale: number) => Promise<string | undefined>) {
    this.#apply = apply;
  }

  /** Adds an adapter under a name: the contents of its two files, or the files of a folder saved by PEFT. */
  async add(name: string, source: LoraAdapter | readonly File[]): Promise<void> {
    this.#held.set(name, "config" in source ? source : await fromFiles(source));
  }

  list(): string[] {
    return [...this.#held.keys()];
  }

  get(name: string): LoraAdapter | undefined {
    return this.#held.get(name);
  }

  /** The adapter in use. */
  get active(): string | null {
    return this.#active;
  }

  /**
   * Uses an adapter from now on, or none (null); `scale` multiplies its low-rank product. Ends a training run in progress.
   * `otherBase` is the model that the adapter was made for, if its name suggests a different one.
   */
  async use(name: string | null, options: { scale?: number } = {}): Promise<{ otherBase?: string }> {
    check("adapters.use", options);
    const { scale = 1 } = options;
    const found = name === null ? null : this.#held.get(name);
    if (found === undefined) {
      const known = this.list().join(", ") || "none";
      throw new SiskinError("invalid_request", `there is no adapter \`${name}\`; known adapters: ${known}`);
    }
    const otherBase = await this.#apply(found, scale);
    this.#active = name;
    return otherBase === undefined ? {} : { otherBase };
  }

  /** Removes an adapter; if it is in use, the model stops using it first. */
  async delete(name: string): Promise<boolean> {
    if (this.#active === name) await this.use(null);
    return this.#held.delete(name);
  }
}

async function fromFiles(files: readonly File[]): Promise<LoraAdapter> {
  const find = (name: string) => {
    const file = files.find((f) => f.name === name);
    if (!file) throw new SiskinError("invalid_adapter", `an adapter needs ${name}, as saved by PEFT`);
    return file;
  };
  return {
    config: await find("adapter_config.json").text(),
    weights: new Uint8Array(await find("adapter_model.safetensors").arrayBuffer()),
  };
}
