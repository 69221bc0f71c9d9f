// Answers from passages: a chat completion whose model has read them.

import type { ChatCompletion, ChatMessage, ChatRequest, ChatStream } from "../chat.js";
import type { DocumentRequest, Passage, Sources } from "../documents.js";
import { SiskinError } from "../errors.js";
import type { RequestOptions } from "../exchange.js";
import type { Siskin } from "../siskin.js";

/** A passage with a smaller cosine has nothing to do with the query. */
const NEAR = 0.1;
/** Tokens of an answer for which room is left, where the request says nothing. */
const ANSWER = 512;
/** Tokens of what a template adds to messages. */
const TEMPLATE = 96;
/** A part of a passage that has fewer tokens is of no use. */
const SHORTEST = 24;

// After the passages, and with a length: otherwise small models go on with more passages.
const INSTRUCTION =
  "Answer the user's question in one or two sentences from the passages above, and cite them by their numbers, such as [1] or [2]. " +
  "If they do not have the answer, say so.";

function textOf({ content }: ChatMessage): string {
  if (typeof content === "string") return content;
  return (content ?? []).map((part) => ("text" in part ? String(part.text) : "")).join("");
}

const titleOf = ({ document, heading, page }: Passage) =>
  [document, heading, page !== undefined && `page ${page}`].filter(Boolean).join(", ");

/** The request, with the passages as its template expects them. */
function withPassages(request: ChatRequest, passages: Passage[], readsDocuments: boolean): ChatRequest {
  if (passages.length === 0) return request;
  if (readsDocuments) {
    const documents = passages.map((passage, i) => ({ doc_id: i + 1, title: titleOf(passage), text: passage.text }));
    return { ...request, chat_template_kwargs: { ...request.chat_template_kwargs, documents } };
  }
  const listed = passages.map((passage, i) => `[${i + 1}] ${titleOf(passage)}:\n${passage.text}`);
  const told = [...listed, INSTRUCTION].join("\n\n");
  const [first, ...rest] = request.messages;
  if (first?.role !== "system" && first?.role !== "developer") {
    return { ...request, messages: [{ role: "system", content: told }, ...request.messages] };
  }
  return { ...request, messages: [{ ...first, content: `${textOf(first)}\n\n${told}` }, ...rest] };
}

/** As many of the passages, in their order, as so many tokens can have; the last may be a part. */
async function fitting(model: Siskin, passages: Passage[], room: number): Promise<Passage[]> {
  const fit: Passage[] = [];
  let left = room;
  for (const passage of passages) {
    const label = (await model.tokenizer.encode(titleOf(passage))).length + 8;
    const tokens = await model.tokenizer.encode(passage.text);
    if (label + tokens.length <= left) {
      fit.push(passage);
      left -= label + tokens.length;
      continue;
    }
    const last = tokens[left - label - 1];
    if (left - label >= SHORTEST && last) {
      const bytes = new TextEncoder().encode(passage.text).subarray(0, last.end);
      // What is left of a character is not part of the text.
      const text = new TextDecoder().decode(bytes, { stream: true }).trimEnd();
      fit.push({ ...passage, text, end: passage.start + text.length });
    }
    break;
  }
  return fit;
}

/** The tokens that passages can have: what the conversation and the answer leave of the context. */
async function roomFor(model: Siskin, request: ChatRequest): Promise<number> {
  const { context } = await model.info();
  const { messages, tools, max_tokens, max_completion_tokens } = request;
  const said = await model.tokenizer.encode(JSON.stringify([messages, tools]));
  const answer = max_completion_tokens ?? max_tokens ?? Math.min(ANSWER, Math.floor(context / 4));
  const instruction = (await model.tokenizer.encode(INSTRUCTION)).length;
  return context - said.length - answer - instruction - TEMPLATE;
}

export async function answer(
  model: Siskin,
  search: (query: string, limit?: number) => Promise<Passage[]>,
  { limit, ...request }: DocumentRequest,
  options: RequestOptions,
): Promise<(ChatStream | ChatCompletion) & Sources> {
  const invalid = (message: string) => new SiskinError("invalid_request", message);
  const asked = Array.isArray(request.messages) ? request.messages.findLast(({ role }) => role === "user") : undefined;
  const query = asked && textOf(asked).trim();
  if (!query) throw invalid("`messages` must have a message of the user, for whose text passages are found");
  const readsDocuments = /\bdocuments\b/.test(model.model.chatTemplate ?? "");
  if (request.chat_template_kwargs && "documents" in request.chat_template_kwargs) {
    throw invalid("`chat_template_kwargs.documents` is set by `answer`; leave it out");
  }
  const near = (await search(query, limit)).filter(({ score }) => score >= NEAR);
  let room = near.length === 0 ? 0 : await roomFor(model, request);
  for (;;) {
    const sources = await fitting(model, near, room);
    try {
      const answered = await model.chat.completions.create(withPassages(request, sources, readsDocuments), options);
      return Object.assign(answered, { sources });
    } catch (thrown) {
      // Tokens of the template were more than expected.
      if (sources.length === 0 || SiskinError.from(thrown).code !== "prompt_too_long") throw thrown;
      room = Math.floor(room / 2);
    }
  }
}
