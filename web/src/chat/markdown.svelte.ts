// Markdown as HTML, block by block: only a block that changes is made again. HTML in an answer is shown as text.

import DOMPurify from "dompurify";
import { Marked, type Tokens } from "marked";

import { language } from "../language/language.svelte.js";

type Highlighter = typeof import("highlight.js/lib/common").default;
type Mathematics = typeof import("katex").default;

/** Fetched when they are first needed; until then, and where they cannot be fetched, the source is shown. */
let highlighter = $state.raw<Highlighter>();
let mathematics = $state.raw<Mathematics>();
const wanted = { highlighter: false, mathematics: false };

function wantHighlighter(): void {
  if (wanted.highlighter) return;
  wanted.highlighter = true;
  import("highlight.js/lib/common").then(({ default: found }) => (highlighter = found), () => (wanted.highlighter = false));
}

function wantMathematics(): void {
  if (wanted.mathematics) return;
  wanted.mathematics = true;
  Promise.all([import("katex"), import("katex/dist/katex.min.css")]).then(([{ default: found }]) => (mathematics = found), () => (wanted.mathematics = false));
}

const escaped = (text: string) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");

interface Formula extends Tokens.Generic {
  type: "formula";
  raw: string;
  tex: string;
  block: boolean;
}

/** TeX between delimiters: a dollar sign is one only where it cannot be money. */
const BLOCK = /^(?:\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\])[^\S\n]*(?:\n|$)/;
const INLINE = /^(?:\\\(([\s\S]+?)\\\)|\$\$([^$]+?)\$\$|\$(?![\s\d])((?:\\.|[^$\\\n])*?[^\s\\])\$(?!\d)|\$(\d(?:\\.|[^$\\\n])*?[\\^_=](?:\\.|[^$\\\n])*?)\$(?!\d))/;

function formula(text: string, pattern: RegExp, block: boolean): Formula | undefined {
  const found = pattern.exec(text);
  const tex = found?.slice(1).find((part) => part !== undefined);
  return found && tex !== undefined ? { type: "formula", raw: found[0], tex, block } : undefined;
}

function renderFormula({ tex, raw, block }: Formula): string {
  wantMathematics();
  if (!mathematics) return `<code>${escaped(raw)}</code>`;
  return mathematics.renderToString(tex, { displayMode: block, throwOnError: false, trust: false });
}

/** How many sources `[1]` and the following can refer to, in the text that is read. */
let citable = 0;

interface Citation extends Tokens.Generic {
  type: "citation";
  n: number;
}

function citation(text: string): Citation | undefined {
  const [raw, digits] = /^\[(\d+)\](?!\()/.exec(text) ?? [];
  const n = Number(digits);
  return raw && n >= 1 && n <= citable ? { type: "citation", raw, n } : undefined;
}

const renderCitation = ({ n }: Citation) =>
  `<button type="button" class="cite" data-source="${n}" aria-label="${escaped(language.words.files.source(n))}">[${n}]</button>`;

/** Where a formula may begin. */
const startsAt = (pattern: RegExp) => (text: string) => {
  const at = text.search(pattern);
  return at < 0 ? undefined : at;
};

const marked = new Marked({
  gfm: true,
  breaks: true,
  extensions: [
    { name: "formulaBlock", level: "block", start: startsAt(/\n(?:\$\$|\\\[)/), tokenizer: (text) => formula(text, BLOCK, true), renderer: (token) => renderFormula(token as Formula) },
    { name: "formula", level: "inline", start: startsAt(/\$|\\\(/), tokenizer: (text) => formula(text, INLINE, false), renderer: (token) => renderFormula(token as Formula) },
    { name: "citation", level: "inline", start: startsAt(/\[\d/), tokenizer: citation, renderer: (token) => renderCitation(token as Citation) },
  ],
  renderer: {
    html: ({ text }) => escaped(text),
    image: ({ text, href }) => `<a href="${escaped(href)}">${escaped(text || href)}</a>`,
    link({ href, tokens }) {
      return `<a href="${escaped(href)}" target="_blank" rel="noreferrer">${this.parser.parseInline(tokens)}</a>`;
    },
    code({ text, lang }) {
      wantHighlighter();
      const name = lang?.trim().split(/\s/)[0] ?? "";
      const known = highlighter?.getLanguage(name);
      const inside = known ? highlighter!.highlight(text, { language: name }).value : escaped(text);
      return `<div class="code"><div class="code-head"><span>${escaped(name)}</span><button type="button" class="quiet" data-copy>${escaped(language.words.chat.copy)}</button></div><pre tabindex="0"><code>${inside}</code></pre></div>`;
    },
    table(token) {
      const row = (cells: Tokens.TableCell[], tag: string) =>
        `<tr>${cells.map(({ tokens, align }) => `<${tag}${align ? ` style="text-align: ${align}"` : ""}>${this.parser.parseInline(tokens)}</${tag}>`).join("")}</tr>`;
      return `<div class="wide" tabindex="0" role="region" aria-label="${escaped(language.words.chat.table)}"><table><thead>${row(token.header, "th")}</thead><tbody>${token.rows.map((cells) => row(cells, "td")).join("")}</tbody></table></div>`;
    },
  },
});

/** KaTeX's MathML, for screen readers, holds its source. */
const ALLOWED = { ADD_TAGS: ["semantics", "annotation"], ADD_ATTR: ["target", "encoding"], FORBID_TAGS: ["style", "form", "input", "img"] };

const made = new Map<string, string>();
const MOST = 2000;

/** The blocks of a text as HTML that is safe to insert; `[1]` to `[sources]` become buttons with `data-source`. */
export function blocks(text: string, sources = 0): string[] {
  citable = sources;
  const tokens = marked.lexer(text);
  return tokens
    .filter(({ type }) => type !== "space" && type !== "def")
    .map((token) => {
      const key = `${mathematics ? 1 : 0}${highlighter ? 1 : 0}${language.code}${sources} ${token.raw}`;
      let html = made.get(key);
      if (html === undefined) {
        const list = Object.assign([token], { links: tokens.links });
        html = DOMPurify.sanitize(marked.parser(list), ALLOWED);
        if (made.size >= MOST) made.clear();
        made.set(key, html);
      }
      return html;
    });
}
