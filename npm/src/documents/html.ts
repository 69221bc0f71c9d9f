// The text of HTML: blocks on lines of their own, without what is not part of the text.

import { Parser } from "htmlparser2";

import type { Block, Extracted } from "./passages.js";

const DROPPED = new Set(["title", "script", "style", "nav", "noscript", "template", "svg", "iframe", "object", "canvas", "button", "select"]);
const BLOCKS = new Set(
  ("address article aside blockquote body dd details div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 header hr " +
    "legend li main ol p pre section summary table tbody tfoot thead tr ul caption html").split(" "),
);
const HEADING = /^h([1-6])$/;

export function htmlText(html: string): Extracted {
  const blocks: Block[] = [];
  let text = "";
  /** The text of the block that is open. */
  let inside = "";
  /** The sign of an item of a list, before its text. */
  let sign = "";
  let level: number | undefined;
  let dropped = 0;
  let preformatted = 0;
  const end = () => {
    const found = inside.replace(/^\s*\n|\s+$/g, "").replace(/^ /, "");
    inside = "";
    if (found.trim() === "") return;
    if (text !== "") text += "\n\n";
    const start = text.length;
    text += sign + found;
    sign = "";
    blocks.push({ start, end: text.length, ...(level && { level, title: found.replace(/\s+/g, " ") }) });
  };
  const add = (more: string) => {
    const isSpaced = /(^|\s)$/.test(inside);
    inside += isSpaced ? more.trimStart() : more;
  };
  const parser = new Parser({
    onopentag(name, { hidden, "aria-hidden": ariaHidden }) {
      if (dropped > 0 || DROPPED.has(name) || hidden !== undefined || ariaHidden === "true") dropped += 1;
      if (dropped > 0) return;
      if (BLOCKS.has(name)) end();
      if (name === "li") sign = "- ";
      if (name === "pre") preformatted += 1;
      if (name === "td" || name === "th") add(" ");
      if (name === "br") inside += "\n";
      const heading = HEADING.exec(name);
      if (heading) level = Number(heading[1]);
    },
    ontext(more) {
      if (dropped === 0) preformatted > 0 ? (inside += more) : add(more.replace(/\s+/g, " "));
    },
    onclosetag(name) {
      if (dropped > 0) {
        dropped -= 1;
        return;
      }
      if (BLOCKS.has(name)) end();
      if (name === "li") sign = "";
      if (name === "pre") preformatted -= 1;
      if (HEADING.test(name)) level = undefined;
    },
  });
  parser.end(html);
  end();
  return { text, blocks };
}
