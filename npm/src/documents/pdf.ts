// The text of PDFs, by pdf.js.

import { SiskinError } from "../errors.js";
import { platform } from "../platform.js";
import { base } from "../remote.js";
import type { RuntimeOptions } from "../types.js";
import type { Block, Extracted } from "./passages.js";

type Pdfjs = typeof import("../pdfjs.js");

/** What pdf.js says of a piece of text. */
interface Item {
  str: string;
  transform: number[];
  height: number;
  hasEOL: boolean;
}

interface Line {
  text: string;
  y: number;
  height: number;
}

const invalid = (message: string) => new SiskinError("invalid_request", message);

function startWorker({ pdfWorkerUrl }: RuntimeOptions): Worker {
  if (pdfWorkerUrl !== undefined) return new Worker(pdfWorkerUrl as string, { type: "module", name: "siskin-pdf" });
  // Bundlers look for exactly this expression.
  return new Worker(new URL("./pdf-worker.js", import.meta.url), { type: "module", name: "siskin-pdf" });
}

/** Runs work with a worker of pdf.js, or without one where there are none. */
async function withWorker<T>(pdfjs: Pdfjs, options: RuntimeOptions, work: (worker?: InstanceType<Pdfjs["PDFWorker"]>) => Promise<T>): Promise<T> {
  const own = platform();
  if (own) {
    await own.preparePdf();
    return work();
  }
  if (options.worker === false && options.pdfWorkerUrl !== undefined) {
    await import(/* webpackIgnore: true */ /* @vite-ignore */ new URL(String(options.pdfWorkerUrl), base()).href);
    return work();
  }
  let thread: Worker;
  try {
    thread = startWorker(options);
  } catch (thrown) {
    const remedy = "set `pdfWorkerUrl` to the address of `pdf-worker.js` of the package and, where there are no workers, `worker: false`";
    throw new SiskinError("internal", `the worker that reads PDFs does not start (${(thrown as Error).message}); ${remedy}`);
  }
  const worker = new pdfjs.PDFWorker({ port: thread as never, verbosity: 0 });
  try {
    // A script that does not load never answers.
    const death = new Promise<never>((_, reject) => {
      thread.onerror = (event) => {
        event.preventDefault();
        const why = event.message || "its script does not load: serve `pdf-worker.js` of the package next to the script, or set `pdfWorkerUrl`";
        reject(new SiskinError("internal", `the worker that reads PDFs failed: ${why}`));
      };
    });
    return await Promise.race([work(worker), death]);
  } finally {
    worker.destroy();
    thread.terminate();
  }
}

function linesOf(items: Item[]): Line[] {
  const lines: Line[] = [];
  let line: Line | undefined;
  for (const { str, transform, height, hasEOL } of items) {
    if (str.trim() !== "" && line === undefined) {
      line = { text: "", y: transform[5]!, height: 0 };
      lines.push(line);
    }
    if (line) {
      line.text += str;
      line.height = Math.max(line.height, height);
    }
    if (hasEOL) line = undefined;
  }
  return lines;
}

const CJK = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]/u;

/** A line after what is before it in the paragraph: words that were broken at its end are whole again. */
function joined(before: string, line: string): string {
  if (/\p{L}-$/u.test(before) && /^\p{Ll}/u.test(line)) return before.slice(0, -1) + line;
  return CJK.test(before.at(-1) ?? "") && CJK.test(line[0] ?? "") ? before + line : `${before} ${line}`;
}

/** Paragraphs, which are told by the distance between lines. */
function paragraphsOf(items: Item[]): string[] {
  const paragraphs: string[] = [];
  let last: Line | undefined;
  for (const line of linesOf(items)) {
    const text = line.text.trim();
    const isNear = last && Math.abs(last.y - line.y) <= 1.6 * Math.max(last.height, line.height);
    if (isNear) paragraphs.push(joined(paragraphs.pop()!, text));
    else paragraphs.push(text);
    last = line;
  }
  return paragraphs;
}

export async function pdfText(name: string, bytes: Uint8Array, options: RuntimeOptions): Promise<Extracted> {
  const pdfjs = await import(/* webpackChunkName: "siskin-pdfjs" */ "../pdfjs.js");
  /** A table of characters that the file does not have, and siskin neither. */
  let missing: string | undefined;
  class Files {
    async fetch({ kind, filename }: { kind: string; filename: string }): Promise<never> {
      if (kind === "cMapUrl") missing ??= filename.replace(/\.bcmap$/, "");
      throw new Error(`${filename} is not part of siskin`);
    }
  }
  const pages = await withWorker(pdfjs, options, async (worker) => {
    const task = pdfjs.getDocument({
      data: bytes.slice(),
      ...(worker && { worker }),
      verbosity: 0,
      BinaryDataFactory: Files,
      useWorkerFetch: false,
      disableFontFace: true,
      isOffscreenCanvasSupported: false,
    });
    try {
      const file = await task.promise;
      const pages: string[][] = [];
      for (let page = 1; page <= file.numPages; page++) {
        const { items } = await (await file.getPage(page)).getTextContent();
        pages.push(paragraphsOf(items.filter((item) => "str" in item) as Item[]));
      }
      return pages;
    } catch (thrown) {
      if (thrown instanceof SiskinError) throw thrown;
      const { name: kind, message } = thrown as Error;
      if (kind === "PasswordException") throw invalid(`${name} is encrypted; save it without a password, and add it again`);
      throw invalid(`${name} is damaged, or not a PDF: ${message}`);
    } finally {
      await task.destroy();
    }
  });
  if (missing !== undefined) {
    throw invalid(`${name} has text in ${missing}, a character map that siskin does not have; add its text, as a text file`);
  }
  let text = "";
  const blocks: Block[] = [];
  pages.forEach((paragraphs, i) => {
    for (const paragraph of paragraphs) {
      if (text !== "") text += "\n\n";
      const start = text.length;
      text += paragraph;
      blocks.push({ start, end: text.length, page: i + 1 });
    }
  });
  if (text === "") throw invalid(`${name} has no text: its pages are images, or empty; run text recognition (OCR) on it, and add the result`);
  return { text, blocks };
}
