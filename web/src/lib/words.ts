import { SiskinError } from "siskin";

import { language } from "../language/language.svelte.js";

/** A number with so many digits after the point, as the language writes it. */
export const fixed = (n: number, digits: number): string =>
  n.toLocaleString(language.code, { minimumFractionDigits: digits, maximumFractionDigits: digits, useGrouping: false });

/** Numbers in human-readable form. */
export const mib = (bytes: number): string =>
  bytes >= 2 ** 30 ? `${fixed(bytes / 2 ** 30, 2)} GiB` : bytes >= 2 ** 20 ? `${fixed(bytes / 2 ** 20, 0)} MiB` : `${Math.ceil(bytes / 1024)} KiB`;

export const count = (n: number): string =>
  n >= 1e9 ? `${fixed(n / 1e9, 1)} B` : n >= 1e6 ? `${fixed(n / 1e6, 1)} M` : n >= 1e3 ? `${fixed(n / 1e3, 1)} k` : String(n);

export const time = (seconds: number): string =>
  seconds < 90 ? `${Math.ceil(seconds)} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${fixed(seconds / 3600, 1)} h`;

/** A probability in per cent; digits beyond the first after the point say nothing here. */
export const percent = (p: number): string => (p > 0 && p < 0.0005 ? `< ${fixed(0.1, 1)} %` : `${fixed(100 * p, 1)} %`);

/** A vocabulary piece with visible spaces and line ends. */
export const visible = (piece: string): string =>
  piece.replaceAll("Ġ", "␣").replaceAll("▁", "␣").replaceAll(" ", "␣").replaceAll("Ċ", "⏎").replaceAll("\n", "⏎");

export function words(thrown: unknown): string {
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  const remedy = thrown instanceof SiskinError ? language.words.remedies[thrown.code] : undefined;
  const sentence = message.charAt(0).toUpperCase() + message.slice(1);
  return remedy ? `${sentence.replace(/[.\s]*$/, ".")} ${remedy}` : sentence;
}

/** Puts a text on the clipboard: pages of insecure origins can only copy a selection. */
export async function copy(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = document.createElement("textarea");
  field.value = text;
  // A modal dialog makes everything outside it inert.
  (document.querySelector("dialog[open]") ?? document.body).append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

/** Offers something to the user as a file. */
export function save(name: string, content: string | Blob, type = "application/json"): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
