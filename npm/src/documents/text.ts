// The text of documents, by their types.

import { SiskinError } from "../errors.js";
import type { DocumentSource, DocumentType } from "../documents.js";
import type { RuntimeOptions } from "../types.js";
import { htmlText } from "./html.js";
import { markdownText } from "./markdown.js";
import type { Block, Extracted } from "./passages.js";
import { pdfText } from "./pdf.js";

const TYPES: Record<DocumentType, readonly string[]> = {
  "text/plain": ["txt", "text"],
  "text/markdown": ["md", "markdown"],
  "text/html": ["html", "htm", "xhtml"],
  "application/pdf": ["pdf"],
};

const invalid = (message: string) => new SiskinError("invalid_request", message);

/** A document as it was given. */
export interface Contents {
  name: string;
  type: DocumentType;
  bytes: Uint8Array;
}

function typeOf(name: string, type: string, isText: boolean): DocumentType {
  const known = Object.keys(TYPES) as DocumentType[];
  const told = known.find((t) => t === type.split(";")[0]!.trim().toLowerCase());
  const ending = /\.([^./\\]+)$/.exec(name)?.[1]?.toLowerCase() ?? "";
  const named = known.find((t) => TYPES[t].includes(ending));
  const found = isText ? (type === "" ? (named ?? "text/plain") : told) : (named ?? told);
  if (found && !(isText && found === "application/pdf")) return found;
  const endings = Object.values(TYPES).flat().map((e) => `.${e}`).join(", ");
  const what = type === "" ? "of an unknown type" : `of the type ${type}`;
  throw invalid(`${name} is ${what}; documents are ${known.join(", ")} (${endings})${isText ? ", and a PDF must be a file" : ""}`);
}

export async function contentsOf(source: DocumentSource): Promise<Contents> {
  const { name } = source;
  if (typeof name !== "string" || name === "") throw invalid("a document needs a `name`: a File has one, or give { name, text }");
  if (source instanceof Blob) {
    const type = typeOf(name, source.type, false);
    return { name, type, bytes: new Uint8Array(await source.arrayBuffer()) };
  }
  const unknown = Object.keys(source).find((key) => !["name", "text", "type"].includes(key));
  if (unknown !== undefined) throw invalid(`a document has no field \`${unknown}\`; it has: name, text, type`);
  if (typeof source.text !== "string") throw invalid(`${name} has no \`text\`; give a File, or { name, text }`);
  return { name, type: typeOf(name, source.type ?? "", true), bytes: new TextEncoder().encode(source.text) };
}

function decoded(name: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw invalid(`${name} is not UTF-8; save it in that encoding, and add it again`);
  }
}

/** Paragraphs of a plain text, between empty lines. */
function paragraphs(text: string): Block[] {
  const blocks: Block[] = [];
  let start = 0;
  for (const { index, 0: gap } of text.matchAll(/\n[^\S\n]*(?:\n[^\S\n]*)+/g)) {
    blocks.push({ start, end: index });
    start = index + gap.length;
  }
  return [...blocks, { start, end: text.length }];
}

/** The text of a document; of a PDF, with the worker that reads it. */
export async function extract({ name, type, bytes }: Contents, options: RuntimeOptions): Promise<Extracted> {
  if (type === "application/pdf") return pdfText(name, bytes, options);
  const text = decoded(name, bytes).replaceAll("\r\n", "\n");
  const found =
    type === "text/html" ? htmlText(text) : { text, blocks: type === "text/markdown" ? markdownText(text) : paragraphs(text) };
  if (found.text.trim() === "") throw invalid(`${name} has no text`);
  return found;
}
