// The blocks of Markdown, whose text stays as it is.

import { fromMarkdown } from "mdast-util-from-markdown";
import { toString } from "mdast-util-to-string";

import type { Block } from "./passages.js";

type Node = ReturnType<typeof fromMarkdown>["children"][number];

function* blocksOf(nodes: readonly Node[], offset: number): Generator<Block> {
  for (const node of nodes) {
    // Items of a list, so that a long one is cut between them.
    if (node.type === "list") {
      yield* blocksOf(node.children, offset);
      continue;
    }
    const [start, end] = [node.position!.start.offset! + offset, node.position!.end.offset! + offset];
    yield node.type === "heading" ? { start, end, level: node.depth, title: toString(node) } : { start, end };
  }
}

export function markdownText(text: string): Block[] {
  // YAML or TOML at the beginning, whose end would be read as the underline of a heading.
  const front = /^(---|\+\+\+)[^\S\n]*\n(?:[^]*?\n)?\1[^\S\n]*(?:\n|$)/.exec(text)?.[0].length ?? 0;
  const blocks = [...blocksOf(fromMarkdown(text.slice(front)).children, front)];
  return front > 0 ? [{ start: 0, end: front }, ...blocks] : blocks;
}
