// Conversations, stored in this browser.

export interface Turn {
  role: "user" | "assistant";
  content: string;
  /** For an answer: tokens, and tokens per second. */
  tokens?: number;
  rate?: number;
}

export interface Chat {
  id: string;
  title: string;
  system: string;
  turns: Turn[];
}

const KEY = "siskin.chats";

function stored(): Chat[] {
  try {
    const chats: unknown = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(chats) ? (chats as Chat[]).filter((c) => Array.isArray(c?.turns)) : [];
  } catch {
    return [];
  }
}

class Chats {
  all = $state<Chat[]>(stored());
  current = $state(0);

  get chat(): Chat {
    if (this.all.length === 0) this.add();
    return this.all[Math.min(this.current, this.all.length - 1)]!;
  }

  add(): void {
    this.all.unshift({ id: Math.random().toString(36).slice(2), title: "New conversation", system: "", turns: [] });
    this.current = 0;
  }

  remove(index: number): void {
    this.all.splice(index, 1);
    if (this.all.length === 0) this.add();
    this.current = 0;
    this.keep();
  }

  keep(): void {
    const first = this.chat.turns[0]?.content;
    if (first) this.chat.title = first.slice(0, 40);
    try {
      localStorage.setItem(KEY, JSON.stringify(this.all));
    } catch {
      // The browser stores nothing here: the conversation lasts as long as the page.
    }
  }
}

export const chats = new Chats();
if (chats.all.length === 0) chats.add();
