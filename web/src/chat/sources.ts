// The passages that an answer rests on, as a conversation keeps them.

import type { Passage } from "siskin";

import { language } from "../language/language.svelte.js";

/** `[1]` in an answer is the first. */
export type Source = Pick<Passage, "document" | "text" | "heading" | "page">;

export const sourceOf = ({ document, text, heading, page }: Source): Source => ({
  document,
  text,
  ...(heading !== undefined && { heading }),
  ...(page !== undefined && { page }),
});

/** Sources from what was stored or imported; undefined if there are none. */
export function readSources(value: unknown): Source[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const found: Source[] = [];
  for (const given of value as Partial<Record<keyof Source, unknown>>[]) {
    const { document, text, heading, page } = given ?? {};
    // The number of each is its place: without one of them, the others would have another's.
    if (typeof document !== "string" || typeof text !== "string") return undefined;
    found.push(sourceOf({ document, text, heading: typeof heading === "string" ? heading : undefined, page: typeof page === "number" ? page : undefined }));
  }
  return found;
}

/** Where in its document a source is: `page 3, Trips > Norway`. */
export const placeOf = ({ heading, page }: Source): string =>
  [page !== undefined && language.words.files.page(page), heading].filter(Boolean).join(", ");
