import { Siskin } from "siskin";

const [button, output] = [document.querySelector("button"), document.querySelector("output")];
const siskin = await Siskin.load("/model.gguf");
button.disabled = false;
button.onclick = async () => {
  output.value = "";
  await siskin.generate("Once upon a time", { maxTokens: 20 }, { onEvent: ({ text }) => (output.value += text ?? "") });
};
