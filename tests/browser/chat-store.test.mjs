// What the hooks for React, Svelte and Vue share, without a framework or a browser.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";

import { ChatStore } from "siskin/chat-store";

import { root, serve } from "./server.mjs";

const gguf = join(root, "tests/fixtures/tiny/llama/model.gguf");

/** A model that answers with each of these words, or fails at an error. */
function fake(words) {
  const requests = [];
  const create = async (request, { signal }) => {
    requests.push(request);
    return (async function* () {
      for (const word of words) {
        await new Promise((done) => setTimeout(done, 5));
        if (signal.aborted) return;
        if (word instanceof Error) throw word;
        yield { choices: [{ delta: typeof word === "string" ? { content: word } : word }] };
      }
    })();
  };
  return { requests, unloaded: 0, chat: { completions: { create } }, unload() { this.unloaded += 1; } };
}

/** All states, from now on. */
function watch(store) {
  const states = [];
  store.subscribe(() => states.push(store.getState()));
  return states;
}

test("an answer grows in states that are never changed; the request has the system's message and the options", async () => {
  const store = new ChatStore({ system: "be brief", request: { temperature: 0 } });
  const model = fake(["one ", "", "two"]);
  assert.equal(store.getState().status, "idle");
  await store.load(model);
  assert.equal(store.getState().model, model);
  const states = watch(store);
  await store.send("hi");
  assert.deepEqual(states.map((s) => [s.status, s.messages.map((m) => m.content).join("|")]), [
    ["answering", ""],
    ["answering", "hi|"],
    ["answering", "hi|one "],
    ["answering", "hi|one two"],
    ["ready", "hi|one two"],
  ]);
  await store.send("more");
  assert.deepEqual(model.requests[1], {
    temperature: 0,
    stream: true,
    messages: [
      { role: "system", content: "be brief" },
      { role: "user", content: "hi" },
      { role: "assistant", content: "one two" },
      { role: "user", content: "more" },
    ],
  });
  store.clear();
  assert.deepEqual([store.getState().messages, store.getState().status], [[], "ready"]);
  store.unload();
  assert.deepEqual([store.getState().status, store.getState().model, model.unloaded], ["idle", null, 0]);
});

test("what is thought stands apart from the answer, and is not said again", async () => {
  const store = new ChatStore();
  const model = fake([{ reasoning_content: "Hm" }, { reasoning_content: "m." }, "four"]);
  await store.load(model);
  const states = watch(store);
  await store.send("2 + 2?");
  assert.deepEqual(states[2].messages.at(-1), { role: "assistant", content: "", reasoning: "Hm" });
  assert.deepEqual(store.getState().messages.at(-1), { role: "assistant", content: "four", reasoning: "Hmm." });
  await store.send("so?");
  assert.deepEqual(model.requests[1].messages[1], { role: "assistant", content: "four" });
});

test("an answer that is stopped keeps its beginning; nothing of one that was left is shown", async () => {
  const store = new ChatStore();
  await store.load(fake(["one ", "two ", "three"]));
  const stop = store.subscribe(() => store.getState().messages.at(-1)?.content === "one " && store.stop());
  await store.send("hi");
  stop();
  assert.deepEqual([store.getState().status, store.getState().error], ["ready", null]);
  assert.deepEqual(store.getState().messages.map((m) => m.content), ["hi", "one "]);
  const left = store.send("again");
  store.clear();
  await left;
  assert.deepEqual([store.getState().status, store.getState().messages], ["ready", []]);
});

test("what fails is in the state, and the next message can be sent", async () => {
  const store = new ChatStore();
  await store.send("too early");
  assert.match(store.getState().error.message, /^no model is loaded$/);
  await store.load(fake([Object.assign(new Error("no luck"), { code: "device" })]));
  await store.send("hi");
  const { status, error, messages } = store.getState();
  assert.deepEqual([status, error.code, messages], ["ready", "device", [{ role: "user", content: "hi" }]]);
  const first = store.send("hi");
  await store.send("at once");
  assert.match(store.getState().error.message, /^the answer before is not complete/);
  await first;

  await store.load(join(root, "missing.gguf"));
  assert.equal(store.getState().status, "failed");
  assert.match(store.getState().error.message, /missing\.gguf: there is no such file/);
});

test("models are loaded with progress, replaced, and freed", async (t) => {
  const server = await serve({ tiny: join(root, "tests/fixtures/tiny") });
  t.after(() => server.close());
  const store = new ChatStore({ context: 64 });
  const states = watch(store);
  const replaced = store.load(gguf);
  await Promise.all([replaced, store.load(`${server.url}tiny/llama/model.gguf`)]);
  const { model } = store.getState();
  assert.deepEqual([...new Set(states.map((s) => s.status))], ["loading", "idle", "ready"]);
  assert.ok(states.some((s) => s.progress?.phase === "download" && s.progress.total > 0));
  assert.equal((await model.generate("hello", { maxTokens: 3 })).ids.length, 3);
  store.unload();
  await assert.rejects(model.info(), { code: "unloaded" });
  assert.equal(store.getState().status, "idle");
});
