import { generateText, jsonSchema, tool } from "ai";
import { Siskin } from "siskin";
import { createSiskin } from "siskin/ai-sdk";

const [button, list] = [document.querySelector("button")!, document.querySelector("ol")!];
const show = (text: string) => list.append(Object.assign(document.createElement("li"), { textContent: text }));

const model = createSiskin(await Siskin.load("/model.gguf"))("local");
const get_time = tool({
  description: "Get the time in a city.",
  inputSchema: jsonSchema<{ city: string }>({
    type: "object",
    properties: { city: { type: "string", maxLength: 20 } },
    required: ["city"],
    additionalProperties: false,
  }),
  execute: ({ city }) => `It is ten o'clock in ${city}.`,
});
button.disabled = false;
button.onclick = async () => {
  const asked = "What time is it in Paris?";
  // A small model may not call a tool by itself; with `toolChoice` it must, and its arguments always fit.
  const { toolCalls, toolResults } = await generateText({ model, tools: { get_time }, toolChoice: "required", prompt: asked });
  for (const call of toolCalls) show(`${call.toolName}(${JSON.stringify(call.input)})`);
  for (const result of toolResults) show(String(result.output));
};
