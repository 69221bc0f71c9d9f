import { Siskin } from "./siskin/index.js";

// Only a page with Trusted Types needs this.
const policy = trustedTypes.createPolicy("siskin", { createScriptURL: (url) => url });
const workerUrl = policy.createScriptURL("siskin/worker.js");

const [button, output] = [document.querySelector("button"), document.querySelector("output")];
button.onclick = async () => {
  output.textContent = "Loading …";
  const siskin = await Siskin.load("/model.gguf", { workerUrl });
  output.textContent = "";
  const messages = [{ role: "user", content: "What is the capital of France?" }];
  const stream = await siskin.chat.completions.create({ messages, stream: true });
  for await (const { choices } of stream) output.textContent += choices[0].delta.content ?? "";
};
