// Compiled but never run: the clients as pages use them.
import { get } from "svelte/store";
import { ref } from "vue";

import type { Siskin } from "../src/index.js";
import { install, type LanguageModel } from "../src/prompt-api.js";
import { useSiskin as useInReact } from "../src/react.js";
import { siskin } from "../src/svelte.js";
import { useSiskin as useInVue } from "../src/vue.js";

const URL = "/models/model.gguf";

export function react(loaded: Siskin): string {
  const { status, progress, messages, error, send, stop } = useInReact(URL, { system: "Be brief.", request: { temperature: 0.7 } });
  if (status === "loading") return `${progress?.loaded ?? 0} of ${progress?.total || 1}`;
  void send("hi").then(stop);
  return [...messages.map(({ role, content }) => `${role}: ${content}`), error?.code, useInReact(loaded).status].join();
}

export function vue(): string {
  const { messages, status } = useInVue(ref(URL), { device: "cpu" });
  return `${status.value}: ${messages.value.at(-1)?.content}`;
}

export function svelte(): string {
  const chat = siskin(URL);
  void chat.send("hi");
  return get(chat).messages.map(({ content }) => content).join();
}

/** Code written for Chrome. */
export async function prompt(loaded: Siskin): Promise<string> {
  const Factory = await install(loaded);
  if ((await Factory.availability({ expectedInputs: [{ type: "text", languages: ["en"] }] })) === "unavailable") return "";
  const session: LanguageModel = await Factory.create({
    initialPrompts: [{ role: "system", content: "Be brief." }],
    monitor: (m) => m.addEventListener("downloadprogress", (e) => console.log(e)),
  });
  await session.append([{ role: "user", content: [{ type: "text", value: "hi" }] }]);
  const reader = session.promptStreaming("hi", { responseConstraint: { type: "object" } }).getReader();
  const { value } = await reader.read();
  return value ?? (await session.prompt("hi", { signal: AbortSignal.timeout(1000) }));
}

export async function documents(loaded: Siskin, file: File): Promise<string[]> {
  const notes = await loaded.documents.open("notes", { embedder: loaded });
  await notes.add(file, { onProgress: ({ done, total }) => console.log(done / total), signal: AbortSignal.timeout(1000) });
  await notes.add({ name: "a", text: "# A", type: "text/markdown" });
  const messages = [{ role: "user" as const, content: "hi" }];
  const whole = await notes.answer({ messages, limit: 3, temperature: 0.5 });
  const stream = await notes.answer({ messages, stream: true });
  for await (const { choices } of stream) console.log(choices[0]?.delta.content);
  return [whole.choices[0]?.message.content ?? "", ...stream.sources.map(({ document, heading, page }) => `${document} ${heading} ${page}`)];
}
