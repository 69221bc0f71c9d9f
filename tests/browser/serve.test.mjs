// The server, with the clients that people use: OpenAI's own and the Vercel AI SDK.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";
import OpenAI from "openai";

import { root } from "./server.mjs";

const MODEL = "smollm2-135m-instruct";
const QUESTION = "What is the capital of France?";
const ANSWER = "The capital of France is Paris.";
let [child, baseURL] = [];

before(async () => {
  const model = join(root, "models", `${MODEL}.gguf`);
  const args = ["serve", model, "--port", "0", "--device", "cpu", "--parallel", "4", "--ctx", "1024", "--api-key", "secret"];
  child = spawn(join(root, "target/release/siskin"), args, { stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: child.stdout })) {
    baseURL = /^listening on (\S+)$/.exec(line)?.[1];
    break;
  }
  assert.ok(baseURL);
});
after(async () => {
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGINT");
  assert.equal(await ended, 0);
});

test("OpenAI's client: whole, streamed, several at once, and its errors", async () => {
  const client = new OpenAI({ baseURL, apiKey: "secret", maxRetries: 0 });
  const models = [];
  for await (const model of client.models.list()) models.push(model.id);
  assert.deepEqual(models, [MODEL]);
  const request = { model: MODEL, messages: [{ role: "user", content: QUESTION }] };
  const whole = await client.chat.completions.create({ ...request, logprobs: true, top_logprobs: 1 });
  assert.equal(whole.choices[0].message.content, ANSWER);
  assert.equal(whole.choices[0].finish_reason, "stop");
  assert.equal(whole.choices[0].logprobs.content.length, whole.usage.completion_tokens);
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
  await assert.rejects(client.chat.completions.create({ ...request, logit_bias: { 5: 1 } }), OpenAI.BadRequestError);
  const other = new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 });
  await assert.rejects(other.chat.completions.create(request), OpenAI.AuthenticationError);
});

test("OpenAI's client stops an answer", async () => {
  const client = new OpenAI({ baseURL, apiKey: "secret" });
  const messages = [{ role: "user", content: "Count from one to a thousand." }];
  const stream = await client.chat.completions.create({ model: MODEL, messages, stream: true });
  for await (const chunk of stream) if (chunk.choices[0].delta.content) break;
  const running = async () => {
    const answer = await fetch(new URL("/metrics", baseURL), { headers: { authorization: "Bearer secret" } });
    return Number(/^siskin_requests_running\S* (\d+)$/m.exec(await answer.text())[1]);
  };
  for (let i = 0; (await running()) > 0; i++) {
    assert.ok(i < 100, "the answer goes on without its reader");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
});

test("the AI SDK: whole and streamed", async () => {
  const provider = createOpenAICompatible({ name: "siskin", baseURL, apiKey: "secret", includeUsage: true });
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
