// Lessons: a panel of short steps beside the views, each of which shows what it talks about.

import { language, type Code } from "../language/language.svelte.js";
import { route } from "../lib/route.svelte.js";

export interface Question {
  ask: string;
  choices: readonly string[];
  /** The index of the right one. */
  right: number;
  because: string;
}

export interface Step {
  text: string;
  /** The view to show, as in an address: `tokens?text=Hello`. */
  show?: string;
  question?: Question;
}

export const LESSONS = ["tokens", "next", "layers", "points", "train"] as const;
export type LessonId = (typeof LESSONS)[number];
export type Lessons = Record<LessonId, { title: string; steps: readonly Step[] }>;

const WORDS: Record<Code, () => Promise<Lessons>> = {
  en: async () => (await import("../language/en/lessons.js")).lessons,
  de: async () => (await import("../language/de/lessons.js")).lessons,
};

class LessonState {
  id = $state<LessonId | undefined>();
  step = $state(0);
  all = $state.raw<Lessons | undefined>();
  failed = $state(false);

  readonly lesson = $derived(this.id && this.all?.[this.id]);
  readonly current = $derived(this.lesson?.steps[this.step]);

  async open(id: LessonId): Promise<void> {
    this.failed = false;
    [this.id, this.step] = [id, 0];
    await this.fetch();
    this.show();
  }

  /** The lessons' texts, in the page's language. */
  async fetch(): Promise<void> {
    const { code } = language;
    const found = await WORDS[code]().catch(() => undefined);
    if (code !== language.code) return;
    [this.all, this.failed] = [found, !found];
  }

  go(step: number): void {
    this.step = step;
    this.show();
  }

  /** Shows what the step is about. */
  show(): void {
    const { show } = this.current ?? {};
    if (!show) return;
    // The same address again would change nothing.
    if (location.hash === `#${show}`) location.hash = show.split("?")[0]!;
    location.hash = show;
  }

  close(): void {
    this.id = undefined;
  }
}

export const lessons = new LessonState();

/** The lesson that the address names, if any: `#tokens?lesson=tokens`. */
export function lessonOfAddress(): LessonId | undefined {
  return LESSONS.find((id) => id === route.given(route.view)?.get("lesson"));
}
