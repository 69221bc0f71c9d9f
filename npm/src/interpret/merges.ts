// How tokenizers assemble words: the merges of BPE as a tree.

import type { Tokenizer } from "../siskin.js";
import type { MergedWord } from "../types.js";

/** No vocabulary has these words as a whole. */
const RARE = "antidisestablishmentarianism xqzjvkwy";

/** How a tokenizer makes words of pieces, as it does with rare ones: files of tokenizers are read by the wasm alone. */
export async function assemblyOf(tokenizer: Pick<Tokenizer, "merges">): Promise<"bpe" | "wordPiece" | "unigram" | undefined> {
  const words = await tokenizer.merges(RARE);
  if (words.some(({ steps }) => steps.length > 1)) return "bpe";
  const pieces = words.flatMap(({ steps }) => steps[0] ?? []);
  if (pieces.some((piece) => piece.startsWith("##"))) return "wordPiece";
  return pieces.some((piece) => piece.startsWith("▁")) ? "unigram" : undefined;
}

/** A piece of a word: one of its tokens, or what a token was made of. */
export interface MergeNode {
  piece: string;
  /** The step in which the piece was made, and its place among that step's pieces. */
  step: number;
  place: number;
  /** What was merged; empty for a character or byte, with which BPE begins. */
  parts: MergeNode[];
}

/** A word's tokens, each as the tree of its merges. A word with a single step has its tokens without parts. */
export function mergeTree({ steps }: MergedWord): MergeNode[] {
  const [first = [], ...later] = steps;
  let nodes: MergeNode[] = first.map((piece, place) => ({ piece, step: 0, place, parts: [] }));
  for (const [i, pieces] of later.entries()) {
    let next = 0;
    nodes = pieces.map((piece, place) => {
      const parts = [nodes[next++]!];
      const length = () => parts.reduce((sum, part) => sum + part.piece.length, 0);
      while (length() < piece.length && next < nodes.length) parts.push(nodes[next++]!);
      return parts.length === 1 ? parts[0]! : { piece, step: i + 1, place, parts };
    });
  }
  return nodes;
}
