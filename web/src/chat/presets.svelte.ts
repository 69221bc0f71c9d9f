// System prompts by name.

import { language } from "../language/language.svelte.js";
import { read, write } from "../lib/kept-values.js";

export interface Preset {
  name: string;
  text: string;
}

const KEY = "presets";

class Presets {
  own = $state<Preset[]>(read<Preset[]>(KEY) ?? []);

  /** Those that come with the page, then the user's own. */
  get all(): Preset[] {
    return [...Object.values(language.words.settings.presets).map(({ title, text }) => ({ name: title, text })), ...this.own];
  }

  add(name: string, text: string): void {
    this.own = [...this.own.filter((preset) => preset.name !== name), { name, text }];
    write(KEY, this.own);
  }

  remove(name: string): void {
    this.own = this.own.filter((preset) => preset.name !== name);
    write(KEY, this.own);
  }
}

export const presets = new Presets();
