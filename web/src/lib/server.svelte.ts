// The server that the page came from, if it answers requests: `siskin serve`.

import type { Passage } from "siskin";

import { language } from "../language/language.svelte.js";
import { read, write } from "./kept-values.js";

/** Part of an answer: its sources, its text, what is thought before it, or at the end what it took. */
export interface Part {
  text?: string | null;
  thought?: string;
  /** The passages of files that the model got. */
  sources?: Passage[];
  tokens?: number;
  seconds?: number;
  /** Tokens that were guessed, and those of them that were right. */
  guessed?: number;
  right?: number;
  /** Whether it ended at its maximum length. */
  cut?: boolean;
}

interface Listed {
  id: string;
  status?: { value: string };
}

/** The data of a stream's events. */
async function* events(body: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const lines = text.split("\n");
    text = lines.pop()!;
    for (const line of lines) if (line.startsWith("data: ")) yield line.slice(6);
  }
}

/** What is opened at the next visit: a model of the server, or one of the page's own. */
const REMEMBERED = "model";

class Server {
  names = $state.raw<string[]>([]);
  /** The model that answers in place of the page's own. */
  chosen = $state("");
  needsKey = $state(false);
  error = $state("");
  #key = "";

  #fetch(path: string, init: RequestInit = {}): Promise<Response> {
    const headers = { "content-type": "application/json", ...(this.#key && { authorization: `Bearer ${this.#key}` }) };
    return fetch(new URL(path, location.origin), { ...init, headers });
  }

  /** Finds out whether there are models, and chooses one that is loaded. */
  async look(key = ""): Promise<void> {
    this.#key = key;
    this.error = "";
    try {
      const answer = await this.#fetch("/v1/models");
      // Other servers may answer with a page.
      if (!answer.headers.get("content-type")?.startsWith("application/json")) return;
      const { data, error } = (await answer.json()) as { data?: Listed[]; error?: { message: string } };
      this.needsKey = answer.status === 401;
      if (this.needsKey && key) this.error = error?.message ?? "";
      if (!data) return;
      this.names = data.map((model) => model.id);
      const last = read<{ server?: string }>(REMEMBERED);
      const usual = last ? data.find(({ id }) => id === last.server) : data.find(({ status }) => status?.value === "loaded");
      this.chosen ||= usual?.id ?? "";
    } catch {
      // The page came from nowhere that answers, such as this browser's cache.
    }
  }

  /** Answers come from this model, at the next visit too. */
  choose(name: string): void {
    this.chosen = name;
    write(REMEMBERED, { server: name });
  }

  /** Answers come from the page's own model. */
  leave(): void {
    this.chosen = "";
  }

  /** An answer of the chosen model. */
  async *answer(request: object, signal: AbortSignal): AsyncGenerator<Part> {
    const body = JSON.stringify({ ...request, model: this.chosen, stream: true, stream_options: { include_usage: true } });
    const answer = await this.#fetch("/v1/chat/completions", { method: "POST", body, signal });
    if (!answer.ok || !answer.body) {
      const told = (await answer.json().catch(() => undefined)) as { error?: { message: string } } | undefined;
      throw new Error(told?.error?.message ?? language.words.chat.status(answer.status));
    }
    let seconds: number | undefined;
    for await (const data of events(answer.body)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Error(chunk.error.message);
      const { content: text, reasoning_content: thought } = chunk.choices[0]?.delta ?? {};
      if (text || thought) yield { text, thought };
      if (chunk.choices[0]?.finish_reason) yield { cut: chunk.choices[0].finish_reason === "length" };
      seconds = chunk.siskin?.decode_seconds ?? seconds;
      if (chunk.usage) yield { tokens: chunk.usage.completion_tokens, seconds };
    }
    throw new Error(language.words.chat.brokeOff);
  }
}

export const server = new Server();
