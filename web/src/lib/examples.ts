// Examples as rows of a table, and as files.

import type { Example, Message, Preference, TrainExample } from "siskin";

export const turn = (example: Example, role: "user" | "assistant") =>
  "messages" in example ? example.messages.findLast((m) => m.role === role) : undefined;

export const textOf = (example: Example, role: "user" | "assistant") => turn(example, role)?.content ?? "";

/** Whether it is one question and one answer. */
export const isPair = (example: Example) =>
  "messages" in example && example.messages.map((m) => m.role).filter((role) => role !== "system").join() === "user,assistant";

/** The turns before the first answer; undefined for plain text. */
export function questionOf(example: Example | Preference): Message[] | undefined {
  if ("chosen" in example) return typeof example.prompt === "string" ? [{ role: "user", content: example.prompt }] : example.prompt;
  if (!("messages" in example)) return undefined;
  const end = example.messages.findIndex((m) => m.role === "assistant");
  return example.messages.slice(0, end);
}

export const jsonl = (examples: readonly TrainExample[]) => examples.map((e) => JSON.stringify(e)).join("\n") + "\n";

export function csv(examples: readonly Example[]): string {
  const cell = (s: string) => `"${s.replaceAll('"', '""')}"`;
  const rows = examples.filter(isPair).map((e) => `${cell(textOf(e, "user"))},${cell(textOf(e, "assistant"))}`);
  return ["prompt,completion", ...rows].join("\n") + "\n";
}

const FROM: Record<string, string> = { system: "system", user: "human", assistant: "gpt" };

export const shareGpt = (examples: readonly Example[]) =>
  JSON.stringify(
    examples.flatMap((e) => ("messages" in e ? [{ conversations: e.messages.map((m) => ({ from: FROM[m.role] ?? m.role, value: m.content })) }] : [])),
    null,
    1,
  );
