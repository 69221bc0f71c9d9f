// Vocabulary pieces as the characters, or the bytes, that they stand for.

import type { Token } from "siskin";

import { visible } from "./words.js";

/** Byte-level BPE writes each byte as a character: itself where it is printable, else one from U+0100 on. */
const BYTES: ReadonlyMap<string, number> = (() => {
  const found = new Map<string, number>();
  let next = 256;
  for (let byte = 0; byte < 256; byte++) {
    const isPrintable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    found.set(String.fromCodePoint(isPrintable ? byte : next++), byte);
  }
  return found;
})();

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

/** Bytes of a byte-level piece, or of a single-byte one such as `<0xF0>`; undefined if it is neither. */
function bytesOf(piece: string): Uint8Array | undefined {
  const single = /^<0x([0-9A-F]{2})>$/.exec(piece);
  if (single) return Uint8Array.of(parseInt(single[1]!, 16));
  const bytes = Array.from(piece, (c) => BYTES.get(c));
  return bytes.every((b) => b !== undefined) ? Uint8Array.from(bytes as number[]) : undefined;
}

/** Text as it is, and bytes that are not whole characters in hexadecimal. */
function show(bytes: Uint8Array): string {
  try {
    return visible(decoder.decode(bytes));
  } catch {
    // A space before part of a character is common.
    const spaces = bytes.findIndex((b) => b !== 0x20);
    const hex = Array.from(bytes.subarray(spaces), (b) => b.toString(16).toUpperCase().padStart(2, "0"));
    return "␣".repeat(spaces) + hex.join(" ");
  }
}

/** The pieces of a step in which a word is assembled. */
export function showPieces(word: string, pieces: readonly string[]): string[] {
  const bytes = pieces.map(bytesOf);
  const joined = bytes.flatMap((b) => Array.from(b ?? []));
  const wanted = encoder.encode(word);
  const isBytes = joined.length === wanted.length && joined.every((b, i) => b === wanted[i]);
  return pieces.map((piece, i) => (isBytes && bytes[i] ? show(bytes[i]) : visible(piece)));
}

/** Tokens that share characters, as one group; most groups have one token. */
export interface Group {
  /** The characters that they stand for together. */
  text: string;
  parts: { token: Token; index: number; text: string }[];
}

export function groups(text: string, tokens: readonly Token[]): Group[] {
  const bytes = encoder.encode(text);
  const found: Group[] = [];
  let end = -1;
  for (const [index, token] of tokens.entries()) {
    const isPart = token.start < end && token.end > token.start;
    const slice = bytes.slice(token.start, token.end);
    const own = bytesOf(token.piece);
    // A token of whole characters has its own bytes of the text.
    const label = token.end <= token.start || token.special ? visible(token.piece) : own && own.length < slice.length ? show(own) : visible(new TextDecoder().decode(slice));
    const part = { token, index, text: label };
    const last = found.at(-1);
    if (isPart && last) last.parts.push(part);
    else found.push({ text: "", parts: [part] });
    end = Math.max(end, token.end);
  }
  for (const group of found) {
    const start = Math.min(...group.parts.map(({ token }) => token.start));
    const end = Math.max(...group.parts.map(({ token }) => token.end));
    group.text = visible(new TextDecoder().decode(bytes.slice(start, end)));
  }
  return found;
}
