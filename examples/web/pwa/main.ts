const find = <T extends Element>(selector: string) => document.querySelector<T>(selector)!;
const [progress, button] = [find<HTMLProgressElement>("progress"), find<HTMLButtonElement>("button")];
const [state, answer] = [find<HTMLOutputElement>("#state"), find<HTMLOutputElement>("#answer")];

// The service worker keeps what is fetched from here on, so what was fetched before it began is fetched again.
const { serviceWorker } = navigator;
await serviceWorker.register("/service-worker.js");
if (!serviceWorker.controller) await new Promise((resolve) => serviceWorker.addEventListener("controllerchange", resolve, { once: true }));
const before = performance.getEntriesByType("resource").map(({ name }) => name);
await Promise.all([location.href, ...before].map((url) => fetch(url)));

const { Siskin } = await import("siskin");
const siskin = await Siskin.load("/model.gguf", { onProgress: ({ loaded, total }) => (progress.value = total ? loaded / total : 1) });
// Otherwise the browser may delete the model when it needs room.
await navigator.storage.persist();
state.value = "Ready, with or without a network";
button.disabled = false;
button.onclick = async () => {
  const messages = [{ role: "user" as const, content: "What is the capital of France?" }];
  const stream = await siskin.chat.completions.create({ messages, stream: true });
  answer.value = "";
  for await (const { choices } of stream) answer.value += choices[0]?.delta.content ?? "";
};
