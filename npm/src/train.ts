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

/** A question that the model is to answer by itself; a reward gets the other fields. */
export interface Prompt extends TemplateInputs {
  prompt: string | Message[];
  [column: string]: unknown;
}

/** An answer that the model drew. */
export interface DrawnAnswer {
  /** The position of the prompt among the examples, from 1. */
  line: number;
  prompt: Message[];
  completion: string;
  /** That of the example, if it has one. */
  answer?: string;
  /** Whether it reached `maxCompletionLength` before its end. */
  truncated: boolean;
  /** Other fields of the example. */
  [column: string]: unknown;
}

/** How good each answer is: the more, the better. Only differences between answers to the same prompt count. */
export type Reward = (answers: DrawnAnswer[]) => readonly number[] | Promise<readonly number[]>;

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

/**
 * What objectives learn from: `sft` from answers, `grpo` and `rloo` from prompts, whose answers, if any, are for the reward, the
 * others from preferences.
 */
export type TrainExample = Example | Preference | RatedAnswer | Prompt;

/** The contents of a file of examples. */
export interface Dataset {
  format: "messages" | "share_gpt" | "alpaca" | "prompt_completion" | "text" | "preference" | "rated" | "prompt";
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
  "chosen" in record || "completion" in record;

/** Records of the other kind are not valid. */
const ofKind = <T extends TrainExample & Line>(found: AnyDataset, is: (r: TrainExample & Line) => r is T, reason: string) => {
  const others = found.records.filter((record) => !is(record)).map(({ line }) => ({ line, reason }));
  return { ...found, records: found.records.filter(is), bad: [...found.bad, ...others].sort((a, b) => a.line - b.line) };
};

/** The answers of a file. */
export const answersOf = (found: AnyDataset): Dataset =>
  ofKind(
    found,
    (r): r is Example & Line => "messages" in r || "text" in r,
    "it has no answer, or is a preference, for `preferences` and other objectives than sft",
  );

/** The preferences of a file. */
export const preferencesOf = (found: AnyDataset): PreferenceDataset =>
  ofKind(found, isPreference, "it is no preference: it has neither `chosen` and `rejected` nor a `label`");

/** Training options. The names are PEFT's, transformers' and TRL's, in camel case. */
export interface TrainOptions {
  /**
   * What is learned: answers (`sft`, the default); which of two answers is preferred (`dpo`, `orpo`, `simpo`, `cpo`); or whether
   * answers are desirable (`kto`). `dpo` and `kto` compare with the model without the adapter. `grpo` and `rloo` learn from
   * answers that the model draws, by their `reward`.
   */
  objective?: "sft" | "dpo" | "orpo" | "simpo" | "cpo" | "kto" | "grpo" | "rloo";
  /**
   * The scale of rewards; 0.1 by default, for `simpo` 2. For `grpo` (0 by default) and `rloo` (0.05), how closely the adapter
   * stays to the model without it.
   */
  beta?: number;
  /**
   * How `dpo` and `cpo` penalise a margin; `sigmoid` by default. `robust` is for `dpo`. What `grpo` divides its tokens' losses by:
   * `dapo`, the default, `grpo` or `dr_grpo`.
   */
  lossType?: "sigmoid" | "hinge" | "ipo" | "robust" | "dapo" | "grpo" | "dr_grpo";
  /** The probability that a pair is taken to be the other way round; 0 by default. */
  labelSmoothing?: number;
  /** The margin of SimPO's rewards; 1 by default. */
  simpoGamma?: number;
  /** The weight of the chosen answers' cross-entropy; 1 by default for `cpo`, 0 for `simpo`. */
  cpoAlpha?: number;
  /** The weights of KTO's desirable and undesirable answers; 1 by default. */
  desirableWeight?: number;
  undesirableWeight?: number;
  /** Answers that are drawn for each prompt, and the most tokens of one; 8 and 128 by default. */
  numGenerations?: number;
  maxCompletionLength?: number;
  /** Updates with the answers of a step; 1 by default. */
  numIterations?: number;
  /** By how much the probability of what was drawn counts as less or more; 0.2 by default, above as below. */
  epsilon?: number;
  epsilonHigh?: number;
  /** What `grpo` divides advantages by: the standard deviation of the rewards of a prompt's answers (`group`, the default), … */
  scaleRewards?: "group" | "batch" | "none";
  /** What `grpo` compares probabilities of; `token` by default. */
  importanceSamplingLevel?: "token" | "sequence";
  /** Answers that did not end are not learned from. */
  maskTruncatedCompletions?: boolean;
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
  /** 1e-3 by default, 5e-5 for objectives over preferences, and 1e-4 for those over rewards. */
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
  /**
   * Plain texts that are longer become several examples instead, each of which begins with so many tokens of the one before,
   * which are not learned again.
   */
  chunkOverlap?: number;
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
  /** The divergence from the model without the adapter: of `grpo` and `rloo` per token; KTO's estimate. */
  kl?: number;
  /** Mean and standard deviation of the rewards of the step's answers. */
  reward?: number;
  rewardStd?: number;
  /** The fraction of prompts whose answers all have the same reward, from which nothing is learned. */
  fracRewardZeroStd?: number;
  /** Mean tokens of an answer, and the fraction of answers that reached `maxCompletionLength`. */
  "completions/meanLength"?: number;
  "completions/clippedRatio"?: number;
  /** The fraction of tokens, or answers, whose ratio is clipped, in the last update. */
  "clipRatio/regionMean"?: number;
  /** Seconds in which the answers were drawn, which `seconds` does not count. */
  drawingSeconds?: number;
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
  /** The answers of the next step; null after the last. Or those to the held-out prompts. */
  draw(heldOut: boolean): Promise<DrawnAnswer[] | null>;
  learn(rewards: readonly number[]): Promise<TrainStep>;
  measure(): Promise<number>;
  score(): Promise<number | undefined>;
  checkpoint(): Promise<Bytes>;
  adapter(): Promise<LoraAdapter>;
}

/** How a training run is begun. */
export type RunOptions = TrainOptions & {
  /** A checkpoint of the same examples and options. */
  resume?: Uint8Array;
  signal?: AbortSignal;
  /** Judges the answers of `grpo` and `rloo`. */
  reward?: Reward;
};

async function rewards(reward: Reward, answers: DrawnAnswer[]): Promise<readonly number[]> {
  const found: unknown = await reward(answers);
  if (!Array.isArray(found)) throw new SiskinError("invalid_request", "the reward must return a number for each answer, as a list");
  const wrong = found.findIndex((r) => typeof r !== "number");
  if (wrong >= 0) {
    throw new SiskinError("invalid_request", `the reward of answer ${wrong + 1} is ${String(found[wrong])}, which is no number`);
  }
  return found;
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
  readonly #reward: Reward | undefined;
  #summary: Promise<TrainSummary> | undefined;

  constructor(host: TrainHost, examples: Promise<TrainExample[]>, options: RunOptions) {
    const { resume, signal, reward, ...rest } = options;
    this.#reward = reward;
    this.#host = host;
    this.#signal = signal;
    this.#begin = async () => {
      check("train", rest);
      const isOfRewards = rest.objective === "grpo" || rest.objective === "rloo";
      if (reward !== undefined && typeof reward !== "function") {
        throw new SiskinError("invalid_request", "`reward` must be a function; `rewards` has ready ones");
      }
      if (isOfRewards !== (reward !== undefined)) {
        throw new SiskinError("invalid_request", "the objectives `grpo` and `rloo` need a `reward`, and no other has one");
      }
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
      const step = await (this.#reward ? this.#rewarded(this.#reward) : this.#host.step());
      if (!step) return;
      yield step;
    }
  }

  async #rewarded(reward: Reward): Promise<TrainStep | null> {
    const answers = await this.#host.draw(false);
    if (this.#signal?.aborted) throw aborted();
    return answers && this.#host.learn(await rewards(reward, answers));
  }

  /** The mean reward of the likeliest answers to the held-out prompts; undefined if there are none, or no reward. */
  async heldOutReward(): Promise<number | undefined> {
    await this.summary();
    const answers = this.#reward && (await this.#host.draw(true));
    if (!this.#reward || !answers?.length) return undefined;
    const found = await rewards(this.#reward, answers);
    return found.reduce((sum, r) => sum + r, 0) / found.length;
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
