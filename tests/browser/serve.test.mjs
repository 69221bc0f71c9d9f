// The server, with the clients that people use: OpenAI's own, the Vercel AI SDK, and its own page.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, streamText, tool } from "ai";
import OpenAI from "openai";

import { launch } from "./chromium.mjs";
import { modelButton, opened, say, view, visit } from "./page.mjs";
import { root } from "./server.mjs";

const MODEL = "smollm2-135m-instruct";
const QUESTION = "What is the capital of France?";
const ANSWER = "The capital of France is Paris.";
let server;

/** `siskin serve` with the page that was built. */
async function start(args) {
  const page = ["--page", join(root, "web/dist")];
  const all = ["serve", ...args, ...page, "--port", "0", "--device", "cpu", "--parallel", "4", "--ctx", "1024"];
  const child = spawn(join(root, "target/release/siskin"), all, { stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: child.stdout })) {
    const baseURL = /^listening on (\S+)$/.exec(line)?.[1];
    assert.ok(baseURL);
    return { child, baseURL };
  }
}

async function stop({ child }) {
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGINT");
  assert.equal(await ended, 0);
}

before(async () => {
  server = await start([join(root, "models", `${MODEL}.gguf`), "--api-key", "secret"]);
});
after(() => stop(server));

test("OpenAI's client: whole, streamed, several at once, and its errors", async () => {
  const client = new OpenAI({ baseURL: server.baseURL, apiKey: "secret", maxRetries: 0 });
  const models = [];
  for await (const model of client.models.list()) models.push(model.id);
  assert.deepEqual(models, [MODEL]);
  const request = { model: MODEL, messages: [{ role: "user", content: QUESTION }] };
  const whole = await client.chat.completions.create({ ...request, logprobs: true, top_logprobs: 1 });
  assert.equal(whole.choices[0].message.content, ANSWER);
  assert.equal(whole.choices[0].finish_reason, "stop");
  // All but the token that ends it.
  assert.equal(whole.choices[0].logprobs.content.length, whole.usage.completion_tokens - 1);
  const streams = Array.from({ length: 6 }, async () => {
    let text = "";
    for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
      text += chunk.choices[0]?.delta.content ?? "";
    }
    return text;
  });
  assert.deepEqual(await Promise.all(streams), Array(6).fill(ANSWER));
  const { content } = (await client.chat.completions.stream(request).finalChatCompletion()).choices[0].message;
  assert.equal(content, ANSWER);
  const two = await client.completions.create({ model: MODEL, prompt: ["Once upon a", "The sky is"], max_tokens: 4 });
  assert.equal(two.choices.length, 2);
  await assert.rejects(client.chat.completions.create({ ...request, model: "gpt" }), OpenAI.NotFoundError);
  await assert.rejects(client.chat.completions.create({ ...request, logit_bias: { 5: 101 } }), OpenAI.BadRequestError);
  const other = new OpenAI({ baseURL: server.baseURL, apiKey: "wrong", maxRetries: 0 });
  await assert.rejects(other.chat.completions.create(request), OpenAI.AuthenticationError);
});

test("OpenAI's client stops an answer", async () => {
  const client = new OpenAI({ baseURL: server.baseURL, apiKey: "secret" });
  const messages = [{ role: "user", content: "Count from one to a thousand." }];
  const stream = await client.chat.completions.create({ model: MODEL, messages, stream: true });
  for await (const chunk of stream) if (chunk.choices[0].delta.content) break;
  const running = async () => {
    const answer = await fetch(new URL("/metrics", server.baseURL), { headers: { authorization: "Bearer secret" } });
    return Number(/^siskin_requests_running\S* (\d+)$/m.exec(await answer.text())[1]);
  };
  for (let i = 0; (await running()) > 0; i++) {
    assert.ok(i < 100, "the answer goes on without its reader");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
});

test("OpenAI's client: responses, whole and streamed", async () => {
  const client = new OpenAI({ baseURL: server.baseURL, apiKey: "secret", maxRetries: 0 });
  const request = { model: MODEL, input: QUESTION };
  const whole = await client.responses.create({ ...request, metadata: { a: "b" } });
  assert.equal(whole.output_text, ANSWER);
  assert.equal(whole.status, "completed");
  assert.deepEqual(whole.metadata, { a: "b" });
  const conversation = [{ role: "user", content: QUESTION }, ...whole.output, { role: "user", content: "And of Spain?" }];
  const next = await client.responses.create({ model: MODEL, input: conversation, max_output_tokens: 4 });
  assert.equal(next.incomplete_details.reason, "max_output_tokens");
  assert.ok(next.usage.input_tokens_details.cached_tokens >= whole.usage.input_tokens);
  let [text, last] = ["", undefined];
  for await (const event of await client.responses.create({ ...request, stream: true })) {
    if (event.type === "response.output_text.delta") text += event.delta;
    last = event;
  }
  assert.equal(text, ANSWER);
  assert.equal(last.type, "response.completed");
  assert.deepEqual(last.response.usage.output_tokens, whole.usage.output_tokens);
  // The client puts the events together itself, and checks their order.
  assert.equal((await client.responses.stream(request).finalResponse()).output_text, ANSWER);
  await assert.rejects(client.responses.create({ ...request, previous_response_id: "resp_1" }), OpenAI.BadRequestError);
});

test("the AI SDK: whole and streamed", async () => {
  const provider = createOpenAICompatible({ name: "siskin", baseURL: server.baseURL, apiKey: "secret", includeUsage: true });
  const model = provider(MODEL);
  const whole = await generateText({ model, prompt: QUESTION });
  assert.equal(whole.text, ANSWER);
  assert.equal(whole.finishReason, "stop");
  assert.ok(whole.usage.outputTokens > 0);
  const streamed = streamText({ model, prompt: QUESTION });
  let text = "";
  for await (const part of streamed.textStream) text += part;
  assert.equal(text, ANSWER);
  assert.equal((await streamed.usage).outputTokens, whole.usage.outputTokens);
});

test("tools: OpenAI's client and the AI SDK call them, whole and streamed, and answer with their results", async () => {
  const client = new OpenAI({ baseURL: server.baseURL, apiKey: "secret", maxRetries: 0 });
  const city = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
  const weather = { name: "get_weather", description: "Get the weather of a city.", parameters: city };
  const asked = [];
  const run = client.chat.completions.runTools({
    model: MODEL,
    messages: [{ role: "user", content: "What is the weather in Paris?" }],
    tools: [{ type: "function", function: { ...weather, parse: JSON.parse, function: (given) => (asked.push(given), "18 degrees, rain") } }],
    tool_choice: { type: "function", function: { name: "get_weather" } },
  });
  // A named tool is called once, and its result is the end.
  await run.done();
  assert.deepEqual(asked, [{ city: "Paris" }]);
  assert.equal(run.messages.at(-1).role, "tool");
  const after = await client.chat.completions.create({ model: MODEL, messages: run.messages, max_tokens: 30 });
  assert.ok(after.choices[0].message.content.length > 0);

  const provider = createOpenAICompatible({ name: "siskin", baseURL: server.baseURL, apiKey: "secret" });
  const tools = { get_weather: tool({ description: weather.description, inputSchema: jsonSchema(city), execute: ({ city }) => `Rain in ${city}` }) };
  const request = { model: provider(MODEL), prompt: "What is the weather in Paris?", tools, toolChoice: "required" };
  const whole = await generateText(request);
  assert.equal(whole.finishReason, "tool-calls");
  assert.deepEqual(whole.toolCalls[0].input, { city: "Paris" });
  assert.equal(whole.toolResults[0].output, "Rain in Paris");
  const streamed = await streamText(request).toolCalls;
  assert.deepEqual(streamed.map((c) => c.input), whole.toolCalls.map((c) => c.input));
});

test("models on demand: the page from the server, answered by it and by its own wasm; idle models are unloaded", async () => {
  const args = ["--models", join(root, "models"), "--idle-unload", "2"];
  const onDemand = await start(args);
  const browser = await launch();
  try {
    const { page, noise, context } = await visit(browser, new URL("/", onDemand.baseURL).href);
    // It offers the server's models first, and no file that the server does not have.
    const onServer = (page) => modelButton(page).filter({ hasText: "on this server" }).waitFor();
    await page.getByRole("button", { name: `Use ${MODEL}` }).click();
    await onServer(page);
    assert.equal(await say(page, QUESTION), ANSWER);
    assert.ok(await page.getByRole("button", { name: /^Files are read by a model in this page: the server’s/ }).isDisabled());
    if (process.env.SHOTS) await page.screenshot({ path: join(process.env.SHOTS, "server.png") });
    await page.getByLabel("Your message").fill("Tell me a long story about a fox and a crow.");
    await page.getByRole("button", { name: "Send" }).click();
    await page.locator("article.assistant .text").nth(1).filter({ hasText: /\w/ }).waitFor();
    await page.getByRole("button", { name: "Stop" }).click();
    await page.getByRole("button", { name: "Send" }).waitFor();
    assert.equal(await page.getByRole("alert").count(), 0);

    const metrics = async () => (await fetch(new URL("/metrics", onDemand.baseURL))).text();
    const until = async (line) => {
      for (let i = 0; !(await metrics()).includes(line); i++) {
        assert.ok(i < 200, `no ${line}`);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    };
    const memory = () => Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${onDemand.child.pid}/status`, "utf8"))[1]);
    const loaded = process.platform === "linux" && memory();
    await until(`siskin_model_loaded{model="${MODEL}"} 0`);
    // The file has 98 MB, which its thread frees when it ends.
    for (let i = 0; loaded && memory() > loaded - 80_000; i++) {
      assert.ok(i < 100, `${memory()} kB of ${loaded} are left`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }

    // The same page with a model of its own: no policy of the server is in its way.
    await view(page, "Tokens");
    await page.getByText("this view needs a model in the page").waitFor();
    assert.equal(await page.getByText("from this site").count(), 0);
    await page.getByText("More ways to open a model").click();
    await page.getByLabel("Open a file or folder …").setInputFiles(join(root, "tests/fixtures/tiny/llama/model.gguf"));
    await opened(page);
    await view(page, "Chat");
    await page.getByRole("button", { name: "New", exact: true }).click();
    assert.ok(await say(page, "hello"));
    assert.deepEqual(noise, []);

    // A server with a key asks for it, and what it has loaded then answers.
    const locked = (await visit(browser, new URL("/", server.baseURL).href)).page;
    const key = locked.getByLabel("API key");
    await key.fill("wrong");
    await key.press("Enter");
    await locked.getByRole("alert").filter({ hasText: "Authorization: Bearer" }).waitFor();
    await key.fill("secret");
    await key.press("Enter");
    await onServer(locked);
    assert.equal(await say(locked, QUESTION), ANSWER);

    // Errors are shown: here the server has gone.
    await modelButton(page).click();
    await page.getByLabel(MODEL).check();
    await page.getByRole("button", { name: `Use ${MODEL}` }).click();
    await onServer(page);
    await context.setOffline(true);
    await page.getByLabel("Your message").fill("hello");
    await page.getByRole("button", { name: "Send" }).click();
    await page.getByRole("alert").waitFor();
  } finally {
    await browser.close();
    await stop(onDemand);
  }
});
