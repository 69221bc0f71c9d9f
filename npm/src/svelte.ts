// A chat as a Svelte store.

import { readable, type Readable } from "svelte/store";

import { ChatStore, type ChatOptions, type ChatState } from "./chat-store.js";
import type { LoadedModel } from "./loaded.js";
import type { ModelSource } from "./types.js";

export type { ChatOptions, ChatState, ChatTurn } from "./chat-store.js";

/** A store whose model is loaded when the first component subscribes, and freed when the last one is gone. */
export function siskin(
  source: ModelSource | LoadedModel,
  options: ChatOptions = {},
): Readable<ChatState> & Pick<ChatStore, "send" | "stop" | "clear"> {
  const store = new ChatStore(options);
  const { subscribe } = readable(store.getState(), (set) => {
    // A server renders the first state only.
    if (typeof document === "undefined") return undefined;
    const end = store.subscribe(() => set(store.getState()));
    void store.load(source);
    return () => {
      end();
      store.unload();
    };
  });
  const { send, stop, clear } = store;
  return { subscribe, send, stop, clear };
}
