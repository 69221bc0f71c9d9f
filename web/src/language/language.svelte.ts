// The language of the page: the browser's, or the one that was chosen.

import { read, write } from "../lib/kept-values.js";
import { en, type Words } from "./en.js";

/** In their own words. */
export const LANGUAGES = { en: "English", de: "Deutsch" } as const;
export type Code = keyof typeof LANGUAGES;

const WORDS: Record<Code, () => Promise<Words>> = {
  en: async () => en,
  de: async () => (await import("./de.js")).de,
};

const KEY = "language";
const isKnown = (code: string | undefined): code is Code => code !== undefined && code in LANGUAGES;

function wanted(): Code {
  const codes = [read<string>(KEY), ...navigator.languages.map((code) => code.split("-")[0])];
  return codes.find(isKnown) ?? "en";
}

class Language {
  code = $state<Code>("en");
  words = $state.raw<Words>(en);

  async use(code: Code): Promise<void> {
    // Where its words cannot be fetched, the language stays as it is.
    const words = await WORDS[code]().catch(() => undefined);
    if (words) [this.code, this.words] = [code, words];
  }

  choose(code: Code): void {
    write(KEY, code);
    void this.use(code);
  }
}

export const language = new Language();
// Nothing is shown before.
await language.use(wanted());
