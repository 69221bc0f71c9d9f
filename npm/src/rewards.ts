// Ready rewards for `grpo` and `rloo`: those of the command line's `--reward`.

import { SiskinError } from "./errors.js";
import type { DrawnAnswer, Reward } from "./train.js";

const each = (of: (answer: DrawnAnswer) => boolean): Reward => (answers) => answers.map((answer) => (of(answer) ? 1 : 0));

const afterMark = (text: string): string | undefined => {
  const at = text.lastIndexOf("####");
  return at < 0 ? undefined : text.slice(at + 4).trim();
};

/** Digits, with commas before each three; what stands before them is looked at apart. */
const NUMBER = /(?:\d{1,3}(?:,\d{3})+\b|\d+)(?:\.\d+)?(?:e[-+]?\d+\b)?/gi;
const WORD = /[\p{L}\p{N}.]$/u;

/** The last number in a text, as people write it, and what stands before and behind it. */
function lastNumber(text: string): { value: number; before: string; behind: string } | undefined {
  const found = [...text.matchAll(NUMBER)].at(-1);
  if (!found) return undefined;
  let before = text.slice(0, found.index);
  let digits = found[0].replaceAll(",", "");
  if (before.endsWith(".") && !WORD.test(before.slice(0, -1))) [before, digits] = [before.slice(0, -1), `0.${digits}`];
  if (before.endsWith("$")) before = before.slice(0, -1);
  let value = Number(digits);
  if (/[-\u2212]$/.test(before) && !WORD.test(before.slice(0, -1))) [before, value] = [before.slice(0, -1), -value];
  return Number.isFinite(value) ? { value, before, behind: text.slice(found.index + found[0].length) } : undefined;
}

/** A text that is a number and nothing else, such as `1,234.50` and `-$7`. */
function number(text: string): number | undefined {
  const found = lastNumber(text);
  return found && /^[ $+]*$/.test(found.before) && /^[ .%]*$/.test(found.behind) ? found.value : undefined;
}

function isSame(completion: string, answer: string): boolean {
  const plain = (text: string) => text.trim().replace(/\.+$/, "").toLowerCase().split(/\s+/).filter(Boolean).join(" ");
  const marked = afterMark(completion);
  if (plain(marked ?? completion) === plain(answer)) return true;
  const wanted = number(answer);
  if (wanted === undefined) return false;
  return ((marked === undefined ? undefined : number(marked)) ?? lastNumber(completion)?.value) === wanted;
}

function isJson(completion: string): boolean {
  const text = completion.trim();
  const fenced = /^```(?:json)?([^]*)```$/.exec(text)?.[1];
  try {
    JSON.parse(fenced ?? text);
    return true;
  } catch {
    return false;
  }
}

/** Ready rewards: 1 or 0 for each answer. */
export const rewards = {
  /**
   * Whether it is the example's answer (or its field `solution`): a number is compared with the last one, or with what follows
   * `####`; other texts without regard to case, white space and a full stop at the end.
   */
  answer: each(({ line, completion, answer, solution }) => {
    const wanted = answer ?? solution;
    if (typeof wanted !== "string" && typeof wanted !== "number") {
      throw new SiskinError("invalid_request", `example ${line} has no answer to compare with`);
    }
    const whole = String(wanted);
    return isSame(completion, afterMark(whole) ?? whole.trim());
  }),
  /** Whether it is JSON, alone or in a fence. */
  json: each(({ completion }) => isJson(completion)),
  /** Whether an expression matches somewhere in it. */
  matches: (expression: RegExp): Reward => each(({ completion }) => new RegExp(expression, expression.flags.replace(/[gy]/g, "")).test(completion)),
};
