import { rewards, SiskinError, type DrawnAnswer, type Example, type LoraAdapter, type Message, type Preference, type Reward, type RunOptions, type TrainExample, type TrainOptions, type TrainPlan, type TrainStep, type TrainSummary, type Training } from "siskin";

import { language } from "../language/language.svelte.js";
import { questionOf } from "./examples.js";
import { KeptFiles } from "./kept.js";
import { model } from "./model.svelte.js";
import { words } from "./words.js";

/** What a run needs to resume after its tab was closed. */
const stored = new KeptFiles("siskin-training");
/** The examples as they were edited last. */
const drafts = new KeptFiles("siskin-examples");
const DRAFT = "examples.json";
const PAIRS = "pairs.json";

/** The examples that come with the page: they teach a name and a style of answering. */
export const EXAMPLES = new URL("pip.jsonl", document.baseURI).href;
/** And those whose answers can be judged. */
export const SUMS = new URL("sums.jsonl", document.baseURI).href;
/** Steps between checkpoints. */
const EVERY = 5;
/** Checkpoint names sort in the order of their steps. */
const checkpointAt = (step: number) => `checkpoint-${String(step).padStart(7, "0")}`;
/** The name of the adapter. */
export const NAME = "trained here";

export interface Sample {
  question: string;
  before: string;
  after: string;
}

/** What is learned: the examples' answers, which of two answers is better, or what is rewarded. */
export type Goal = "sft" | "dpo" | "grpo";

/** How drawn answers are judged. */
export interface Judge {
  by: "answer" | "json" | "matches";
  /** For `matches`. */
  expression: string;
}

/** An answer that was drawn, with its reward. */
export type Judged = DrawnAnswer & { reward: number };

/** Of the options of all goals, those that differ between them. */
const DEFAULTS = { sft: { learningRate: 1e-3, batchSize: 4 }, dpo: { learningRate: 1e-4, batchSize: 4 }, grpo: { learningRate: 5e-4, batchSize: 2 } } as const;

/** What a run is made of. */
interface Made {
  examples: TrainExample[];
  options: TrainOptions;
  goal: Goal;
  judge: Judge;
  drawing: { numGenerations: number; maxCompletionLength: number };
}

interface Kept extends Made {
  model: string;
  steps: TrainStep[];
  heldOutBefore: number | undefined;
  samples: Sample[];
}

/** The page's training run: its examples, options and results. */
class PageTraining {
  /** For answers and rewards. */
  examples = $state<Example[]>([]);
  /** For preferences. */
  pairs = $state<Preference[]>([]);
  bad = $state.raw<{ line: number; reason: string }[]>([]);
  options = $state<Required<Pick<TrainOptions, "rank" | "learningRate" | "epochs" | "batchSize" | "maxSeqLen" | "validation" | "seed" | "useDora" | "optim">>>({
    rank: 8,
    learningRate: 1e-3,
    epochs: 3,
    batchSize: 4,
    maxSeqLen: 256,
    validation: 0.1,
    seed: 0,
    useDora: false,
    optim: "adamw",
  });
  goal = $state<Goal>("sft");
  judge = $state<Judge>({ by: "answer", expression: "^[0-9]+$" });
  drawing = $state({ numGenerations: 8, maxCompletionLength: 24 });
  /** Those of the last step. */
  drawn = $state.raw<Judged[]>([]);
  /** What training on these examples would need, before it starts. */
  plan = $state.raw<TrainPlan | undefined>();
  /** Seconds per step, once measured. */
  secondsPerStep = $state<number | undefined>();
  summary = $state.raw<TrainSummary | undefined>();
  steps = $state.raw<TrainStep[]>([]);
  /** Loss, or mean reward, of the held-out examples before and after. */
  heldOutBefore = $state<number | undefined>();
  heldOutAfter = $state<number | undefined>();
  samples = $state.raw<Sample[]>([]);
  phase = $state<"" | "measuring" | "preparing" | "training" | "paused" | "answering" | "done">("");
  error = $state("");
  /** A training run that was stored when its tab was closed. */
  found = $state.raw<Kept | undefined>();
  adapter = $state.raw<LoraAdapter | undefined>();
  /** Whether the kept examples have been read: until then they must not be replaced. */
  #looked = false;
  /** The input of the current plan. */
  #planned = "";
  #run: Training | undefined;
  #pausing = false;

  /** Those of what is learned. */
  get given(): (Example | Preference)[] {
    return this.goal === "dpo" ? this.pairs : this.examples;
  }

  clear(): void {
    if (this.goal === "dpo") this.pairs = [];
    else this.examples = [];
  }

  get busy(): boolean {
    return this.phase === "measuring" || this.phase === "preparing" || this.phase === "training" || this.phase === "answering";
  }

  /** Estimated seconds until the end. */
  get left(): number | undefined {
    const last = this.steps.slice(-5);
    if (!this.summary || last.length === 0) return undefined;
    const mean = last.reduce((sum, s) => sum + s.seconds + (s.drawingSeconds ?? 0), 0) / last.length;
    return mean * (this.summary.steps - (this.steps.at(-1)?.step ?? 0));
  }

  /** Changes what is learned. */
  aim(goal: Goal): void {
    this.goal = goal;
    Object.assign(this.options, DEFAULTS[goal]);
  }

  /** Appends the examples of a file. */
  async read(name: string, text: string): Promise<void> {
    this.error = "";
    if (!model.siskin) return void (this.error = language.words.train.needsModel);
    try {
      if (this.goal === "dpo") {
        const { records, bad } = await model.siskin.preferences(name, text);
        const pairs = records.flatMap(({ line: _, ...pair }) => ("chosen" in pair ? [pair] : []));
        const rated = records.filter((record) => !("chosen" in record)).map(({ line }) => ({ line, reason: language.words.train.noPair }));
        this.pairs = [...this.pairs, ...pairs];
        this.bad = [...bad, ...rated];
        return;
      }
      const data = await model.siskin.dataset(name, text);
      const clean = data.records.map(({ line: _, ...example }) => example as Example);
      this.examples = [...this.examples, ...clean];
      this.bad = data.bad;
    } catch (thrown) {
      this.error = words(thrown);
    }
  }

  /** Keeps the examples for the next visit. */
  async keepExamples(): Promise<void> {
    if (!this.#looked) return;
    for (const [name, list] of [[DRAFT, this.examples], [PAIRS, this.pairs]] as const) {
      if (list.length > 0) await drafts.keep(name, JSON.stringify(list));
      else await drafts.drop(name);
    }
  }

  /** Keeps a conversation whose last answer is good, as an example of that answer. */
  async collect(prompt: Message[], answer: string): Promise<void> {
    const before = prompt.map((m) => (m.role === "assistant" ? { ...m, weight: 0 } : m));
    const messages: Message[] = [...before, { role: "assistant", content: answer }];
    const known = this.examples.some((e) => "messages" in e && JSON.stringify(e.messages) === JSON.stringify(messages));
    if (!known) this.examples.push({ messages });
    await this.keepExamples();
  }

  /** Keeps an answer that is better than others. */
  async prefer(prompt: Message[], better: string, others: readonly string[]): Promise<void> {
    const answer = (content: string): Message[] => [{ role: "assistant", content }];
    for (const worse of new Set(others)) {
      if (worse === better) continue;
      const pair = { prompt, chosen: answer(better), rejected: answer(worse) };
      if (!this.pairs.some((known) => JSON.stringify(known) === JSON.stringify(pair))) this.pairs.push(pair);
    }
    await this.keepExamples();
  }

  /** Looks for the examples of the last visit, and for an unfinished training run. */
  async look(): Promise<void> {
    const draft = this.examples.length === 0 ? await drafts.kept(DRAFT) : undefined;
    const pairs = this.pairs.length === 0 ? await drafts.kept(PAIRS) : undefined;
    try {
      if (draft) this.examples = JSON.parse(await draft.text()) as Example[];
      if (pairs) this.pairs = JSON.parse(await pairs.text()) as Preference[];
    } catch {
      await drafts.forget();
    }
    this.#looked = true;
    const found = await stored.kept("training.json");
    try {
      // Those of earlier versions learned answers.
      const before = { goal: "sft", judge: this.judge, drawing: this.drawing };
      if (found && this.phase === "") this.found = { ...before, ...(JSON.parse(await found.text()) as Kept) };
    } catch {
      await stored.forget();
    }
  }

  async discard(): Promise<void> {
    this.found = undefined;
    await stored.forget();
  }

  /** Plans training on the current examples; undefined if they are unusable. */
  async replan(): Promise<void> {
    if (!model.siskin || this.busy || this.phase === "paused") return;
    const { examples, options } = this.#asked();
    const { reward: _, ...planned } = options;
    const key = JSON.stringify([model.name, examples, planned]);
    if (key === this.#planned) return;
    this.#planned = key;
    this.secondsPerStep = undefined;
    if (examples.length === 0) return void (this.plan = undefined);
    // The example's preview shows what is wrong with it.
    this.plan = await model.siskin.planTraining(examples, planned).catch(() => undefined);
  }

  #made(): Made {
    const { given: examples, options, goal, judge, drawing } = this;
    return $state.snapshot({ examples, options, goal, judge, drawing }) as Made;
  }

  #asked({ examples, options, goal, judge, drawing } = this.#made()): { examples: TrainExample[]; options: RunOptions } {
    if (goal !== "grpo") return { examples, options: { ...options, objective: goal } };
    return { examples, options: { ...options, ...drawing, objective: "grpo", reward: this.#reward(judge) } };
  }

  /** Judges, and shows the answers of a step with their rewards. */
  #reward({ by, expression }: Judge): Reward {
    const judge = by === "matches" ? rewards.matches(new RegExp(expression)) : rewards[by];
    return async (answers) => {
      const found = await judge(answers);
      if (this.phase === "training") this.drawn = answers.map((answer, i) => ({ ...answer, reward: found[i]! }));
      return found;
    };
  }

  #heldOut(run: Training): Promise<number | undefined> {
    return this.goal === "grpo" ? run.heldOutReward() : run.heldOutLoss();
  }

  /** Runs one step without an update, to estimate the time. */
  async measure(): Promise<void> {
    if (!model.siskin || this.busy) return;
    await this.replan();
    const before = this.phase;
    this.error = "";
    this.phase = "measuring";
    try {
      const { examples, options } = this.#asked();
      this.secondsPerStep = await model.siskin.train(examples, options).secondsPerStep();
    } catch (thrown) {
      this.error = words(thrown);
    }
    // The other views answer as before.
    await model.siskin.adapters.use(model.siskin.adapters.active);
    this.phase = before;
  }

  async start(): Promise<void> {
    if (!model.siskin || this.busy) return;
    this.steps = [];
    this.samples = [];
    this.drawn = [];
    this.adapter = undefined;
    this.heldOutBefore = undefined;
    this.heldOutAfter = undefined;
    // Files of an older training run must not be mistaken for this one's.
    this.found = undefined;
    await stored.forget();
    await model.siskin.adapters.use(null);
    model.adapter = null;
    await this.#go(() => {
      const { examples, options } = this.#asked();
      return model.siskin!.train(examples, options);
    }, true);
  }

  /** Resumes, after a pause or in another tab. */
  async resume(): Promise<void> {
    if (!model.siskin || this.busy) return;
    if (this.phase === "paused" && this.#run) return this.#go(() => this.#run!, false);
    const { found } = this;
    if (!found) return;
    if (found.model !== model.name) return void (this.error = language.words.train.wrongModel(found.model));
    const run = await this.#fromCheckpoint(found);
    if (!run) return;
    Object.assign(this.options, found.options);
    Object.assign(this, { [found.goal === "dpo" ? "pairs" : "examples"]: found.examples, goal: found.goal, judge: found.judge, drawing: found.drawing });
    this.heldOutBefore = found.heldOutBefore;
    this.samples = found.samples;
    this.found = undefined;
    const { done } = await run.summary();
    this.steps = found.steps.filter((s) => s.step <= done);
    await this.#go(() => run, false);
  }

  /** Resumes from the newest intact checkpoint. */
  async #fromCheckpoint(found: Kept): Promise<Training | undefined> {
    this.phase = "preparing";
    try {
      for (const name of (await stored.names()).filter((n) => n.startsWith("checkpoint-")).reverse()) {
        const file = await stored.kept(name);
        if (!file) continue;
        const { examples, options } = this.#asked(found);
        const run = model.siskin!.train(examples, { ...options, resume: new Uint8Array(await file.arrayBuffer()) });
        try {
          await run.summary();
          return run;
        } catch (thrown) {
          if (!(thrown instanceof SiskinError && thrown.code === "checkpoint")) throw thrown;
          // Truncated or damaged: the previous one may be intact.
          this.error = words(thrown);
        }
      }
      this.error ||= language.words.train.noCheckpoint;
    } catch (thrown) {
      this.error = words(thrown);
    }
    this.phase = "";
    return undefined;
  }

  pause(): void {
    this.#pausing = true;
  }

  async #go(begin: () => Training, fresh: boolean): Promise<void> {
    this.error = "";
    this.#pausing = false;
    this.phase = "preparing";
    try {
      const run = begin();
      this.#run = run;
      this.summary = await run.summary();
      if (fresh) {
        this.heldOutBefore = await this.#heldOut(run);
        this.samples = await this.#answers("before");
      }
      this.phase = "training";
      for await (const step of run) {
        this.steps = [...this.steps.filter((s) => s.step < step.step), step];
        if (step.step % EVERY === 0) await this.#keep(run);
        if (this.#pausing) {
          await this.#keep(run);
          this.phase = "paused";
          return;
        }
      }
      this.phase = "answering";
      this.adapter = await run.adapter();
      this.heldOutAfter = await this.#heldOut(run);
      this.samples = await this.#answers("after");
      // The user decides whether the other views use it.
      await model.siskin?.adapters.use(null);
      this.phase = "done";
      await stored.forget();
    } catch (thrown) {
      // A failed run cannot be resumed, but a stored checkpoint can.
      this.#run = undefined;
      this.phase = "";
      if (!(thrown instanceof SiskinError && thrown.code === "aborted")) this.error = words(thrown);
      await this.look();
    }
  }

  async #keep(run: Training): Promise<void> {
    const state: Kept = {
      ...this.#made(),
      model: model.name,
      steps: this.steps,
      heldOutBefore: this.heldOutBefore,
      samples: this.samples,
    };
    const name = checkpointAt(this.steps.at(-1)?.step ?? 0);
    const whole = (await stored.keep(name, await run.checkpoint())) && (await stored.keep("training.json", JSON.stringify(state)));
    if (!whole) return void (this.error = language.words.train.noSpace);
    // The previous one is kept in case this one is damaged.
    const older = (await stored.names()).filter((n) => n.startsWith("checkpoint-") && n < name).slice(0, -1);
    await Promise.all(older.map((n) => stored.drop(n)));
  }

  /** Answers to the questions of some held-out examples. */
  async #answers(when: "before" | "after"): Promise<Sample[]> {
    const places = this.summary?.heldOutExamples.slice(0, 3) ?? [];
    const out: Sample[] = [];
    for (const place of places) {
      const example = this.given[place];
      const asked = example && questionOf(example);
      if (!asked?.length) continue;
      const messages = $state.snapshot(asked);
      const { choices } = await model.siskin!.chat.completions.create({ messages: messages as never, max_tokens: 48 });
      const answer = choices[0]?.message.content ?? "";
      const question = String(messages.at(-1)?.content ?? "");
      const known = this.samples.find((s) => s.question === question);
      out.push({ question, before: known?.before ?? "", after: known?.after ?? "", [when]: answer });
    }
    return out;
  }

  /** Uses the adapter in all views. */
  async use(on: boolean): Promise<void> {
    if (!model.siskin || !this.adapter) return;
    try {
      await model.siskin.adapters.add(NAME, this.adapter);
      await model.siskin.adapters.use(on ? NAME : null);
      model.adapter = model.siskin.adapters.active;
    } catch (thrown) {
      this.error = words(thrown);
    }
  }
}

export const training = new PageTraining();
