"use client";

// A chat as a React hook.

import { useEffect, useState, useSyncExternalStore } from "react";

import { ChatStore, type ChatOptions, type ChatState } from "./chat-store.js";
import type { LoadedModel } from "./loaded.js";
import type { ModelSource } from "./types.js";

export type { ChatOptions, ChatState, ChatTurn } from "./chat-store.js";

/**
 * Loads a model when the component is mounted, or when `source` changes, and frees it when the component is gone. The options
 * are those of the first call.
 */
export function useSiskin(
  source: ModelSource | LoadedModel | null,
  options: ChatOptions = {},
): ChatState & Pick<ChatStore, "send" | "stop" | "clear"> {
  const [store] = useState(() => new ChatStore(options));
  useEffect(() => {
    if (source !== null) void store.load(source);
    return store.unload;
  }, [store, source]);
  const { send, stop, clear } = store;
  return { ...useSyncExternalStore(store.subscribe, store.getState, store.getState), send, stop, clear };
}
