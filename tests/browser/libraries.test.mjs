// The quick starts of clients over a model in the page, with the real model.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { launch, openPage } from "./chromium.mjs";
import { root, serve } from "./server.mjs";

const MODEL = "smollm2-135m-instruct.gguf";
const ANSWER = "The capital of France is Paris.";
let [server, browser, page, noise] = [];

before(async () => {
  server = await serve({ "": join(root, "tests/browser/dist"), models: join(root, "models") });
  browser = await launch();
  ({ page, noise } = await openPage(browser, server.url));
  await page.evaluate(async (url) => {
    Object.assign(window, await libraries());
    window.siskin = await Siskin.load(url, { device: "cpu", context: 1024 });
    window.question = "What is the capital of France?";
    const city = { type: "object", properties: { city: { type: "string", maxLength: 20 } }, required: ["city"], additionalProperties: false };
    window.weather = { name: "get_weather", description: "Get the weather of a city.", parameters: city };
  }, `${server.url}models/${MODEL}`);
});
after(async () => {
  await browser?.close();
  server?.close();
  assert.deepEqual(noise, []);
});

test("OpenAI's client, by siskin's fetch", async () => {
  const found = await page.evaluate(async () => {
    const client = new OpenAI({ fetch: openaiFetch(siskin), apiKey: "-", dangerouslyAllowBrowser: true, maxRetries: 0 });
    const request = { model: "local", messages: [{ role: "user", content: question }] };
    const models = [];
    for await (const { id } of client.models.list()) models.push(id);
    const whole = await client.chat.completions.create(request);
    let streamed = "";
    for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) streamed += chunk.choices[0]?.delta.content ?? "";
    let n = 0;
    for await (const _ of await client.chat.completions.create({ ...request, stream: true })) if (++n === 3) break;
    const response = await client.responses.stream({ model: "local", input: question }).finalResponse();
    const text = await client.completions.create({ model: "local", prompt: "Once upon a", max_tokens: 2 });
    const vectors = await client.embeddings.create({ model: "local", input: "a" }).catch((e) => [e.status, e.message]);
    const refused = await client.chat.completions.create({ ...request, prediction: { type: "content", content: "a" } }).catch((e) => [e.constructor === OpenAI.BadRequestError, e.message]);
    const asked = [];
    const run = client.chat.completions.runTools({
      model: "local",
      messages: [{ role: "user", content: "What is the weather in Paris?" }],
      tools: [{ type: "function", function: { ...weather, parse: JSON.parse, function: (given) => (asked.push(given), "rain") } }],
      tool_choice: { type: "function", function: { name: "get_weather" } },
    });
    await run.done();
    return { models, whole: whole.choices[0].message.content, streamed, n, response: response.output_text, text: text.choices[0].text, vectors, refused, asked };
  });
  assert.deepEqual(found.models, [MODEL]);
  assert.equal(found.whole, ANSWER);
  assert.equal(found.streamed, ANSWER);
  assert.equal(found.response, ANSWER);
  assert.equal(found.n, 3);
  assert.ok(found.text.length > 0);
  assert.equal(found.vectors[0], 400, "a model for text needs `pooling`");
  assert.deepEqual(found.refused[0], true);
  assert.match(found.refused[1], /`prediction`/);
  assert.deepEqual(found.asked, [{ city: "Paris" }]);
});

test("the AI SDK: text, streams, objects, tools, and useChat's transport", async () => {
  const found = await page.evaluate(async () => {
    const { generateText, streamText, Output, tool, jsonSchema, ToolLoopAgent, DirectChatTransport } = ai;
    const model = createSiskin(siskin)("local");
    const whole = await generateText({ model, prompt: question });
    let streamed = "";
    for await (const part of streamText({ model, prompt: question }).textStream) streamed += part;
    const schema = jsonSchema({ type: "object", properties: { city: { type: "string", maxLength: 20 } }, required: ["city"], additionalProperties: false });
    const object = await generateText({ model, output: Output.object({ schema }), prompt: "The capital of France, as JSON." });
    const tools = { get_weather: tool({ description: weather.description, inputSchema: schema, execute: ({ city }) => `Rain in ${city}` }) };
    const called = await generateText({ model, prompt: "What is the weather in Paris?", tools, toolChoice: "required" });
    const transport = new DirectChatTransport({ agent: new ToolLoopAgent({ model }) });
    const messages = [{ id: "1", role: "user", parts: [{ type: "text", text: question }] }];
    const parts = await transport.sendMessages({ trigger: "submit-message", chatId: "1", messageId: undefined, messages, abortSignal: undefined });
    let chat = "";
    for await (const part of parts) if (part.type === "text-delta") chat += part.delta;
    return {
      whole: [whole.text, whole.finishReason, whole.usage.outputTokens > 0],
      streamed,
      object: object.output,
      called: [called.finishReason, called.toolCalls[0].input, called.toolResults[0].output],
      chat,
    };
  });
  assert.deepEqual(found.whole, [ANSWER, "stop", true]);
  assert.equal(found.streamed, ANSWER);
  assert.equal(typeof found.object.city, "string");
  assert.deepEqual(found.called, ["tool-calls", { city: "Paris" }, "Rain in Paris"]);
  assert.equal(found.chat, ANSWER);
});
