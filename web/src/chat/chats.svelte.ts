// Conversations, stored in this browser. Each is a tree: another answer, or an edited message, is a branch beside the first.

import { language } from "../language/language.svelte.js";
import { placeOf, readSources, type Source } from "./sources.js";

export interface Turn {
  id: string;
  /** The turn before it; null for the first. */
  parent: string | null;
  role: "user" | "assistant";
  content: string;
  /** What the model thought before it answered. */
  thought?: string;
  /** For an answer from files: the passages that the model got. */
  sources?: Source[];
  /** For an answer: tokens, and tokens per second. */
  tokens?: number;
  rate?: number;
  /** Tokens that were guessed, and those of them that were right. */
  guessed?: number;
  right?: number;
  /** It ended at the maximum length. */
  cut?: boolean;
}

export interface Chat {
  id: string;
  /** Empty until there is a message. */
  title: string;
  system: string;
  /** A JSON schema that answers fit; empty for none. */
  schema: string;
  /** Whether it is answered from the user's files; undefined until that is decided. */
  files?: boolean;
  turns: Turn[];
  /** The last turn of the branch that is shown. */
  leaf: string | null;
  /** Milliseconds since 1970. */
  changed: number;
}

const PREFIX = "siskin.chat.";
const OLD = "siskin.chats";
export const newId = () => Math.random().toString(36).slice(2);

/** A conversation from what was stored or imported; undefined if it is none. */
export function readChat(value: unknown): Chat | undefined {
  const given = value as Partial<Chat> & { messages?: { role: string; content: unknown }[] };
  const list = given?.turns ?? given?.messages;
  if (!Array.isArray(list)) return undefined;
  const system = given.system ?? given.messages?.find(({ role }) => role === "system")?.content;
  const turns: Turn[] = [];
  const known = new Set<unknown>();
  for (const turn of list as Record<string, unknown>[]) {
    const { role, content } = turn;
    if (role !== "user" && role !== "assistant") continue;
    if (typeof content !== "string") return undefined;
    const id = text(turn.id) || newId();
    if (known.has(id)) continue;
    // Without ids, turns follow one another. A parent comes before its children: in a file that was edited, it may not.
    const before = turn.id ? turn.parent : turns.at(-1)?.id;
    const parent = known.has(before) ? (before as string) : null;
    const rest = { thought: text(turn.thought) || undefined, sources: readSources(turn.sources), tokens: number(turn.tokens), rate: number(turn.rate), guessed: number(turn.guessed), right: number(turn.right), cut: turn.cut === true || undefined };
    turns.push({ id, parent, role, content, ...rest });
    known.add(id);
  }
  const first = turns[0]?.content;
  return {
    id: text(given.id) || newId(),
    title: text(given.title) || (first ? titleOf(first) : ""),
    system: text(system),
    schema: text(given.schema),
    files: typeof given.files === "boolean" ? given.files : undefined,
    turns,
    leaf: known.has(given.leaf) ? given.leaf! : (turns.at(-1)?.id ?? null),
    changed: number(given.changed) ?? Date.now(),
  };
}

const text = (value: unknown) => (typeof value === "string" ? value : "");
const number = (value: unknown) => (typeof value === "number" ? value : undefined);

function titleOf(text: string): string {
  const line = text.trim().split("\n")[0]!;
  return line.length > 60 ? `${line.slice(0, 59)}…` : line;
}

/** Undefined for what is not JSON. */
function parsed(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return undefined;
  }
}

function stored(): Chat[] {
  const found: unknown[] = [];
  try {
    for (const [key, json] of Object.entries(localStorage) as [string, string][]) if (key.startsWith(PREFIX)) found.push(parsed(json));
    // How earlier versions stored them.
    const old = parsed(localStorage.getItem(OLD) ?? "[]");
    if (Array.isArray(old)) found.push(...old);
  } catch {
    // Nothing is stored here.
  }
  const chats = found.map(readChat).filter((chat) => chat !== undefined && chat.turns.length > 0) as Chat[];
  return chats.sort((a, b) => b.changed - a.changed);
}

const fresh = (): Chat => ({ id: newId(), title: "", system: "", schema: "", turns: [], leaf: null, changed: Date.now() });

class Chats {
  all = $state<Chat[]>(stored());
  #current = $state("");
  /** Set if the browser did not store the last change. */
  full = $state(false);
  /** Whether an answer is being written to a conversation here. */
  isBusy: (id: string) => boolean = () => false;

  constructor() {
    if (this.all.length === 0) this.all.push(fresh());
    this.#current = this.all[0]!.id;
    // Another tab changed a conversation that no answer is being written to here.
    addEventListener("storage", ({ key, newValue }) => key?.startsWith(PREFIX) && this.#other(key.slice(PREFIX.length), newValue));
  }

  get chat(): Chat {
    return this.all.find(({ id }) => id === this.#current) ?? this.all[0]!;
  }

  show(chat: Chat): void {
    this.#current = chat.id;
  }

  /** A new conversation, with the system prompt of the current one. */
  add(): void {
    const empty = this.all.find(({ turns }) => turns.length === 0);
    if (!empty) this.all.unshift({ ...fresh(), system: this.chat.system });
    this.#current = (empty ?? this.all[0]!).id;
  }

  remove(chat: Chat): void {
    this.all = this.all.filter(({ id }) => id !== chat.id);
    if (this.all.length === 0) this.all.push(fresh());
    try {
      localStorage.removeItem(PREFIX + chat.id);
    } catch {
      // It was not stored.
    }
  }

  import(found: Chat[]): void {
    const known = new Set(this.all.map(({ id }) => id));
    for (const chat of found) {
      if (known.has(chat.id)) chat.id = newId();
      this.all.unshift(chat);
      this.keep(this.all[0]!);
    }
    if (found.length > 0) this.#current = this.all[0]!.id;
  }

  /** Conversations that contain a text, in any branch. */
  search(text: string): Chat[] {
    const wanted = text.trim().toLocaleLowerCase();
    if (!wanted) return this.all;
    return this.all.filter(({ title, turns }) => [title, ...turns.map(({ content }) => content)].some((t) => t.toLocaleLowerCase().includes(wanted)));
  }

  keep(chat: Chat): void {
    // It may have been deleted while it was answered.
    if (!this.all.some(({ id }) => id === chat.id)) return;
    const first = chat.turns[0]?.content;
    if (!chat.title && first) chat.title = titleOf(first);
    chat.changed = Date.now();
    try {
      localStorage.setItem(PREFIX + chat.id, JSON.stringify(chat));
      // The old form has been read, and each conversation of it is stored by itself.
      if (localStorage.getItem(OLD)) {
        for (const other of this.all) if (other.turns.length > 0) localStorage.setItem(PREFIX + other.id, JSON.stringify(other));
        localStorage.removeItem(OLD);
      }
      this.full = false;
    } catch {
      this.full = true;
    }
  }

  #other(id: string, json: string | null): void {
    if (this.isBusy(id)) return;
    const index = this.all.findIndex((chat) => chat.id === id);
    const chat = json ? readChat(parsed(json)) : undefined;
    if (chat && index >= 0) this.all[index] = chat;
    else if (chat) this.all.unshift(chat);
    else if (index >= 0 && this.all.length > 1) this.all.splice(index, 1);
  }
}

export const chats = new Chats();

/** The turns of the branch that is shown, or of the one that ends at a turn. */
export function branch(chat: Chat, leaf = chat.leaf): Turn[] {
  const byId = new Map(chat.turns.map((turn) => [turn.id, turn]));
  const found: Turn[] = [];
  for (let turn = leaf === null ? undefined : byId.get(leaf); turn; turn = turn.parent === null ? undefined : byId.get(turn.parent)) found.unshift(turn);
  return found;
}

/** The turns in the same place of other branches, and itself. */
export const beside = (chat: Chat, turn: Turn): Turn[] => chat.turns.filter(({ parent }) => parent === turn.parent);

/** Shows the newest branch that goes through a turn. */
export function showBranch(chat: Chat, turn: Turn): void {
  let leaf = turn;
  for (let next: Turn | undefined = turn; next; next = chat.turns.findLast(({ parent }) => parent === leaf.id)) leaf = next;
  chat.leaf = leaf.id;
}

/** Appends a turn, and shows its branch. */
export function append(chat: Chat, turn: Omit<Turn, "id">): Turn {
  const id = newId();
  chat.turns.push({ ...turn, id });
  chat.leaf = id;
  // Not the object that was pushed: the state's own is observed.
  return chat.turns.at(-1)!;
}

/** Deletes a turn and what follows it in all branches. */
export function cutAt(chat: Chat, turn: Turn): void {
  const gone = new Set([turn.id]);
  // Turns come after their parents.
  for (const { id, parent } of chat.turns) if (parent !== null && gone.has(parent)) gone.add(id);
  chat.turns = chat.turns.filter(({ id }) => !gone.has(id));
  const other = chat.turns.findLast(({ parent }) => parent === turn.parent);
  if (other) showBranch(chat, other);
  else chat.leaf = turn.parent;
}

/** A conversation as OpenAI's messages: the branch that is shown. */
export function messagesOf(chat: Chat, leaf = chat.leaf): { role: "system" | "user" | "assistant"; content: string }[] {
  const system = chat.system.trim() ? [{ role: "system" as const, content: chat.system }] : [];
  return [...system, ...branch(chat, leaf).map(({ role, content }) => ({ role, content }))];
}

/** A conversation for a file: its messages, with the sources of answers. */
export function exported(chat: Chat): object {
  const sources = branch(chat).map((turn) => turn.sources);
  const messages = messagesOf(chat);
  const before = messages.length - sources.length;
  return { title: chat.title, files: chat.files, messages: messages.map((message, i) => ({ ...message, sources: sources[i - before] })) };
}

function sourcesMarkdown(sources: Source[]): string {
  const listed = sources.map((source, i) => `- [${i + 1}] ${[source.document, placeOf(source)].filter(Boolean).join(", ")}`);
  return `${language.words.files.sources}:\n\n${listed.join("\n")}`;
}

export function markdownOf(chat: Chat): string {
  const t = language.words.chat;
  const names = { user: t.you, assistant: t.model };
  const system = chat.system.trim() ? [`**${t.system}**\n\n${chat.system}`] : [];
  const parts = branch(chat).map(({ role, content, sources }) => [`**${names[role]}**`, content, ...(sources?.length ? [sourcesMarkdown(sources)] : [])].join("\n\n"));
  return `# ${chat.title}\n\n${[...system, ...parts].join("\n\n---\n\n")}\n`;
}
