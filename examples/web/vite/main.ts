import { Siskin } from "siskin";

const find = <T extends Element>(selector: string) => document.querySelector<T>(selector)!;
const [progress, output] = [find<HTMLProgressElement>("progress"), find<HTMLOutputElement>("output")];
const [ask, stop] = [find<HTMLButtonElement>("#ask"), find<HTMLButtonElement>("#stop")];

const siskin = await Siskin.load("/model.gguf", {
  onProgress: ({ loaded, total }) => (progress.value = total ? loaded / total : 1),
});
ask.disabled = false;
ask.onclick = async () => {
  const messages = [{ role: "user" as const, content: "What is the capital of France?" }];
  const stream = await siskin.chat.completions.create({ messages, stream: true });
  stop.disabled = false;
  stop.onclick = () => stream.controller.abort();
  output.value = "";
  for await (const { choices } of stream) output.value += choices[0]?.delta.content ?? "";
  stop.disabled = true;
};
