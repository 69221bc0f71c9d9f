// User interfaces over siskin/react, /vue and /svelte, as small as they can be.
import { StrictMode, createElement, useEffect } from "react";
import { createRoot } from "react-dom/client";
import { install } from "siskin/prompt-api";
import { useSiskin } from "siskin/react";
import { siskin } from "siskin/svelte";
import { useSiskin as useSiskinInVue } from "siskin/vue";
import { createApp, h } from "vue";

const OPTIONS = { device: "cpu", context: 512, request: { temperature: 0 } };

const view = (element, { status, messages, send, stop }, onClick = "onClick") =>
  element("section", {}, [
    element("output", { key: "status" }, status),
    element("ol", { key: "messages" }, messages.map((m, key) => element("li", { key }, `${m.role}: ${m.content}`))),
    element("button", { key: "ask", [onClick]: () => send("What is the capital of France?") }, "Ask"),
    element("button", { key: "stop", [onClick]: stop }, "Stop"),
  ]);

/** Shows a chat in React; returns what removes it. The model is `window.model` once it is loaded. */
export function inReact(source, place) {
  function Chat() {
    const chat = useSiskin(source, OPTIONS);
    useEffect(() => void (window.model = chat.model), [chat.model]);
    return view(createElement, chat);
  }
  const react = createRoot(place);
  react.render(createElement(StrictMode, null, createElement(Chat)));
  return () => react.unmount();
}

/** The same in Vue. */
export function inVue(source, place) {
  const setup = () => {
    const { status, messages, send, stop } = useSiskinInVue(source, OPTIONS);
    return () => view(h, { status: status.value, messages: messages.value, send, stop });
  };
  const app = createApp({ setup });
  app.mount(place);
  return () => app.unmount();
}

/** The states of a chat in Svelte's store, while it answers once. */
export async function inSvelte(source) {
  const chat = siskin(source, OPTIONS);
  const seen = [];
  let ready;
  const isReady = new Promise((done) => (ready = done));
  const unsubscribe = chat.subscribe((state) => {
    seen.push(state);
    if (state.status === "ready") ready();
  });
  await isReady;
  await chat.send("What is the capital of France?");
  unsubscribe();
  return seen.map(({ status, messages }) => [status, messages.at(-1)?.content ?? ""]);
}

export { install };
