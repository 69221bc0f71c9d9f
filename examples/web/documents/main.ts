import { Siskin } from "siskin";

const find = <T extends Element>(selector: string) => document.querySelector<T>(selector)!;
const [files, form, button] = [find<HTMLInputElement>("[type=file]"), find<HTMLFormElement>("form"), find<HTMLButtonElement>("button")];
const [progress, output] = [find<HTMLProgressElement>("progress"), find<HTMLOutputElement>("output")];

const item = (text: string, ...more: Node[]) => {
  const li = document.createElement("li");
  li.append(text, ...more);
  return li;
};

const siskin = await Siskin.load("/model.gguf", { onProgress: ({ loaded, total }) => (progress.value = total ? loaded / total : 1) });
// A model made for embeddings finds better: `{ embedder: await Siskin.load("/encoder.gguf") }`.
const notes = await siskin.documents.open("notes");
if (notes.list().length === 0) await notes.add({ name: "timetable.md", text: "# Bergen\n\nThe ferry leaves at nine, and comes back at six." });

function show() {
  const items = notes.list().map(({ name, passages }) => {
    const remove = document.createElement("button");
    remove.textContent = "Remove";
    remove.onclick = () => notes.remove(name).then(show);
    return item(`${name}: passages: ${passages} `, remove);
  });
  find("#documents").replaceChildren(...items);
}

files.onchange = async () => {
  for (const file of files.files!) {
    try {
      await notes.add(file, { onProgress: ({ done, total }) => (progress.value = done / total) });
    } catch (error) {
      alert((error as Error).message);
    }
  }
  show();
};

form.onsubmit = async (event) => {
  event.preventDefault();
  const content = String(new FormData(form).get("question"));
  output.value = "";
  const stream = await notes.answer({ messages: [{ role: "user", content }], stream: true });
  find("#sources").replaceChildren(...stream.sources.map(({ document, page, text }) => item(`${document}${page ? `, page ${page}` : ""}: ${text}`)));
  for await (const { choices } of stream) output.value += choices[0]?.delta.content ?? "";
};

show();
files.disabled = button.disabled = false;
