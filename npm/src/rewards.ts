// Ready rewards for `grpo` and `rloo`: those of the command line's `--reward`.

import type { DrawnAnswer, Reward } from "./train.js";

const each = (of: (answer: DrawnAnswer) => boolean): Reward => (answers) => answers.map((answer) => (of(answer) ? 1 : 0));

const afterMark = (text: string): string | undefined => {
  const at = text.lastIndexOf("####");
  return at < 0 ? undefined : text.slice(at + 4).trim();
};

/** A number as people write it: `1,234.50` and `$7` are numbers. */
function number(text: string | undefined): number | undefined {
  const plain = text?.replace(/[,$%]/g, "").trim().replace(/\.+$/, "");
  return plain && /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(plain) ? Number(plain) : undefined;
}

const lastNumber = (text: string): number | undefined =>
  text.split(/[^0-9.,-]+/).reverse().map(number).find((n) => n !== undefined);

function isSame(completion: string, answer: string): boolean {
  const wanted = number(answer);
  if (wanted !== undefined) return (number(afterMark(completion)) ?? lastNumber(completion)) === wanted;
  const plain = (text: string) => text.trim().replace(/\.+$/, "").toLowerCase().split(/\s+/).filter(Boolean).join(" ");
  return plain(afterMark(completion) ?? completion) === plain(answer);
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
    if (typeof wanted !== "string" && typeof wanted !== "number") throw new TypeError(`example ${line} has no answer to compare with`);
    const whole = String(wanted);
    return isSame(completion, afterMark(whole) ?? whole.trim());
  }),
  /** Whether it is JSON, alone or in a fence. */
  json: each(({ completion }) => isJson(completion)),
  /** Whether an expression matches somewhere in it. */
  matches: (expression: RegExp): Reward => each(({ completion }) => new RegExp(expression, expression.flags.replace(/[gy]/g, "")).test(completion)),
};
