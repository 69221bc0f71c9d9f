// Answers that are being written: one per conversation, several at a time.

import type { ChatRequest, ChatStream, Sources } from "siskin";
import { SvelteMap } from "svelte/reactivity";

import { language } from "../language/language.svelte.js";
import { model } from "../lib/model.svelte.js";
import { notePace } from "../lib/offers.svelte.js";
import { keepSequence } from "../lib/sequence.js";
import { server, type Part } from "../lib/server.svelte.js";
import { words } from "../lib/words.js";
import { append, chats, cutAt, messagesOf, type Chat, type Turn } from "./chats.svelte.js";
import { files } from "./files.svelte.js";
import { sampling } from "./sampling.svelte.js";
import { sourceOf } from "./sources.js";

/** Temperature for another answer when it is 0, which would give the same one again. */
const OTHERWISE = 0.8;
/** Answers with fewer tokens say little about the speed. */
const MEASURABLE = 16;

interface Running {
  turn: string;
  stop: AbortController;
}

/** An answer of the page's own model, from the user's files or not. */
async function* own(request: Omit<ChatRequest, "stream">, fromFiles: boolean, signal: AbortSignal): AsyncGenerator<Part> {
  const stream: ChatStream & Partial<Sources> = fromFiles
    ? await files.answer(request, signal)
    : await model.siskin!.chat.completions.create({ ...request, stream: true }, { signal });
  if (stream.sources) yield { sources: stream.sources };
  for await (const { choices, siskin } of stream) {
    const { content: text, reasoning_content: thought } = choices[0]?.delta ?? {};
    if (text || thought) yield { text, thought };
    if (choices[0]?.finish_reason) yield { cut: choices[0].finish_reason === "length" };
    if (siskin) yield { tokens: siskin.ids.length, seconds: siskin.decode_seconds, guessed: siskin.guessed_tokens, right: siskin.right_guesses };
  }
}

/** The rest of an answer that the page's own model began. */
async function* rest(chat: Chat, turn: Turn, signal: AbortSignal): AsyncGenerator<Part> {
  const { tokenizer } = model.siskin!;
  const rendered = await tokenizer.render(messagesOf(chat, turn.parent));
  const ids = (await tokenizer.encodeRendered(rendered + turn.content)).map(({ id }) => id);
  const { temperature, top_p, top_k, min_p, repeat_penalty, max_tokens, seed } = sampling.values;
  const options = { temperature, topP: top_p, topK: top_k, minP: min_p, repeatPenalty: repeat_penalty, maxTokens: max_tokens, ...(seed >= 0 && { seed }) };
  const parts: Part[] = [];
  let wake = () => {};
  const done = model.siskin!.generate(ids, options, {
    signal,
    onEvent: (event) => {
      if (event.kind !== "prefill") parts.push({ text: event.text });
      wake();
    },
  });
  const ended = done.then(
    () => true,
    () => true,
  );
  for (;;) {
    const more = new Promise<false>((resolve) => (wake = () => resolve(false)));
    const isOver = parts.length === 0 && (await Promise.race([ended, more]));
    yield* parts.splice(0);
    if (isOver) break;
  }
  const { ids: all, finishReason, decodeSeconds } = await done;
  yield { tokens: (turn.tokens ?? 0) + all.length, seconds: decodeSeconds, cut: finishReason === "length" };
}

/** The format that a pasted schema asks for. */
function formatOf(schema: string): ChatRequest["response_format"] {
  return schema.trim() ? { type: "json_schema", json_schema: { name: "answer", schema: JSON.parse(schema) } } : undefined;
}

class Answers {
  /** By conversation. */
  readonly running = new SvelteMap<string, Running>();
  readonly errors = new SvelteMap<string, string>();

  get ready(): boolean {
    return !!server.chosen || !!model.siskin;
  }

  send(chat: Chat, content: string, parent = chat.leaf): void {
    if (!this.ready || this.running.has(chat.id)) return;
    append(chat, { parent, role: "user", content });
    chats.keep(chat);
    void this.#answer(chat, chat.leaf);
  }

  /** Another answer in the place of one, or the missing answer to the last message. */
  again(chat: Chat, turn: Turn): void {
    if (!this.ready || this.running.has(chat.id)) return;
    if (turn.role === "user") return void this.#answer(chat, turn.id);
    void this.#answer(chat, turn.parent, { temperature: sampling.values.temperature || OTHERWISE, seed: null });
  }

  stop(chat: Chat): void {
    this.running.get(chat.id)?.stop.abort();
  }

  async #answer(chat: Chat, parent: string | null, options: { temperature?: number; seed?: null } = {}): Promise<void> {
    this.errors.delete(chat.id);
    const { seed } = sampling.values;
    let response_format: ChatRequest["response_format"];
    try {
      response_format = formatOf(chat.schema);
    } catch {
      return void this.errors.set(chat.id, language.words.chat.schemaWrong);
    }
    const request = { messages: messagesOf(chat, parent), ...sampling.values, seed: seed < 0 ? null : seed, ...(response_format && { response_format }), ...options };
    const fromFiles = chat.files ?? false;
    const turn = append(chat, { parent, role: "assistant", content: "" });
    await this.#write(chat, turn, (signal) => (server.chosen ? server.answer(request, signal) : own(request, fromFiles, signal)));
  }

  /** Goes on with an answer where it ended; the page's own model can. */
  async extend(chat: Chat, turn: Turn): Promise<void> {
    if (!model.siskin || this.running.has(chat.id)) return;
    this.errors.delete(chat.id);
    await this.#write(chat, turn, (signal) => rest(chat, turn, signal));
  }

  async #write(chat: Chat, turn: Turn, parts: (signal: AbortSignal) => AsyncGenerator<Part>): Promise<void> {
    const stop = new AbortController();
    this.running.set(chat.id, { turn: turn.id, stop });
    const isOwn = !server.chosen;
    let [first, n] = [0, 0];
    try {
      for await (const { text, thought, sources, tokens, seconds, guessed, right, cut } of parts(stop.signal)) {
        if (text || thought) {
          first ||= performance.now();
          n += 1;
          turn.content += text ?? "";
          if (thought) turn.thought = (turn.thought ?? "") + thought;
          if (n > 1) turn.rate = ((n - 1) * 1000) / (performance.now() - first);
        }
        if (sources) turn.sources = sources.map(sourceOf);
        if (cut !== undefined) turn.cut = cut;
        if (tokens) {
          turn.tokens = tokens;
          if (guessed) [turn.guessed, turn.right] = [guessed, right];
          if (seconds) turn.rate = (n - 1) / Math.max(seconds, 1e-9);
        }
      }
      if (isOwn && model.info && turn.rate && n > MEASURABLE) notePace(model.info.memory.weights, turn.rate);
    } catch (thrown) {
      if (!stop.signal.aborted) this.errors.set(chat.id, words(thrown));
      if (!turn.content && !turn.thought) cutAt(chat, turn);
    } finally {
      turn.tokens ??= n || undefined;
      this.running.delete(chat.id);
      model.notice = "";
      chats.keep(chat);
      void model.refresh();
      if (model.siskin && isOwn) void keepSequence(model.siskin);
    }
  }
}

export const answers = new Answers();
chats.isBusy = (id) => answers.running.has(id);
