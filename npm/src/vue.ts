// A chat as a Vue composable.

import { computed, onMounted, onScopeDispose, shallowRef, toValue, watch, type ComputedRef, type MaybeRefOrGetter } from "vue";

import { ChatStore, type ChatOptions, type ChatState } from "./chat-store.js";
import type { LoadedModel } from "./loaded.js";
import type { ModelSource } from "./types.js";

export type { ChatOptions, ChatState, ChatTurn } from "./chat-store.js";

type Refs = { [K in keyof ChatState]: ComputedRef<ChatState[K]> };

/** Loads a model when the component is mounted, or when `source` changes, and frees it when the component is gone. */
export function useSiskin(
  source: MaybeRefOrGetter<ModelSource | LoadedModel | null>,
  options: ChatOptions = {},
): Refs & Pick<ChatStore, "send" | "stop" | "clear"> {
  const store = new ChatStore(options);
  const state = shallowRef(store.getState());
  const end = store.subscribe(() => (state.value = store.getState()));
  const load = (given: ModelSource | LoadedModel | null) => (given === null ? store.unload() : void store.load(given));
  onMounted(() => watch(() => toValue(source), load, { immediate: true }));
  onScopeDispose(() => {
    end();
    store.unload();
  });
  const field = <K extends keyof ChatState>(key: K) => computed(() => state.value[key]);
  const { send, stop, clear } = store;
  return {
    status: field("status"),
    progress: field("progress"),
    messages: field("messages"),
    error: field("error"),
    model: field("model"),
    send,
    stop,
    clear,
  };
}
