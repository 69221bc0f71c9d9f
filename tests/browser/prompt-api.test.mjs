// The Prompt API, in Node: what the specification and the web platform's tests say, on a model that is made up, and a real one.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";

import { SiskinError } from "siskin";
import { install, languageModel } from "siskin/prompt-api";

import { root, serve } from "./server.mjs";

const REAL = join(root, "models/smollm2-135m-instruct.gguf");
const WINDOW = 100;

/** A model whose tokens are words, and which answers with the number of its request. */
function fake() {
  const requests = [];
  const words = (text) => text.split(/\s+/).filter(Boolean).map((piece, id) => ({ id, piece, start: 0, end: piece.length, special: false }));
  const render = async (messages, { addGenerationPrompt }) =>
    [...messages.map((m) => `<${m.role}> ${m.content}`), ...(addGenerationPrompt ? ["<assistant>"] : [])].join(" ");
  const create = async (request, { signal }) => {
    requests.push(request);
    if (request.messages.at(-1).content === "fail") throw new SiskinError("device", "no luck");
    const number = requests.length;
    return (async function* () {
      for (const content of ["answer ", String(number)]) {
        await new Promise((done) => setTimeout(done, 5));
        if (signal.aborted) return;
        yield { choices: [{ delta: { content } }] };
      }
    })();
  };
  return {
    requests,
    model: { name: "fake", chatTemplate: "" },
    chat: { completions: { create } },
    tokenizer: { render, encode: async (text) => words(text), encodeRendered: async (text) => words(text) },
    info: async () => ({ context: WINDOW }),
  };
}

/** A session, and the requests that its model gets. */
async function session(options) {
  const model = fake();
  return { ...model, session: await languageModel(model).create(options) };
}

const name = (promise) => promise.then(() => "none", (e) => e.name);
const read = async (stream) => {
  let text = "";
  for await (const chunk of stream) text += chunk;
  return text;
};

test("availability: of options that are supported, not supported, or none", async () => {
  const LanguageModel = languageModel(fake());
  assert.equal(await LanguageModel.availability(), "available");
  for (const options of [
    { expectedInputs: [] },
    { expectedInputs: [{ type: "text", languages: ["EN", "ja"] }], expectedOutputs: [{ type: "text" }] },
    { temperature: 0.5, topK: 1.5 },
    { initialPrompts: [{ role: "system", content: "a" }, { role: "system", content: "b" }] },
  ]) assert.equal(await LanguageModel.availability(options), "available", JSON.stringify(options));
  for (const options of [
    { expectedInputs: [{ type: "image" }] },
    { expectedOutputs: [{ type: "audio" }] },
    { topK: 0, temperature: 0.5 },
    { topK: 3, temperature: -0.5 },
    { tools: [{ name: "a", description: "", inputSchema: {}, execute: () => {} }] },
  ]) {
    assert.equal(await LanguageModel.availability(options), "unavailable", JSON.stringify(options));
    assert.match(await name(LanguageModel.create(options)), /^(NotSupportedError|RangeError)$/);
  }
  for (const call of [LanguageModel.availability, LanguageModel.create]) {
    assert.equal(await name(call({ expectedInputs: [{ type: "soup" }] })), "TypeError");
    assert.equal(await name(call({ expectedInputs: [{ type: "text", languages: ["en-abc-invalid"] }] })), "RangeError");
    assert.equal(await name(call({ samplingMode: "wild" })), "TypeError");
    assert.equal(await name(call({ samplingMode: "creative", topK: 3 })), "TypeError");
  }
});

test("create: the object, how tokens are chosen, initial prompts", async () => {
  const LanguageModel = languageModel(fake());
  const model = await LanguageModel.create();
  assert.ok(model instanceof LanguageModel);
  assert.throws(() => new LanguageModel(), TypeError);
  assert.equal(Object.prototype.toString.call(model), "[object LanguageModel]");
  assert.deepEqual([model.contextUsage, model.inputUsage, model.contextWindow, model.inputQuota], [0, 0, WINDOW, WINDOW]);
  assert.deepEqual([model.oncontextoverflow, model.onquotaoverflow, model.samplingMode], [null, null, "balanced"]);
  const { defaultTopK, defaultTemperature, maxTopK, maxTemperature } = await LanguageModel.params();
  assert.deepEqual([model.topK, model.temperature], [defaultTopK, defaultTemperature]);
  const most = await LanguageModel.create({ topK: Infinity, temperature: Infinity });
  assert.deepEqual([most.topK, most.temperature, most.samplingMode], [maxTopK, maxTemperature, undefined]);
  assert.equal((await LanguageModel.create({ topK: 1.5, temperature: 0.5 })).topK, 1);
  assert.equal((await LanguageModel.create({ samplingMode: "most-predictable" })).temperature, 0);
  for (const options of [{ topK: 3, temperature: -0.5 }, { topK: 0, temperature: 0.5 }, { topK: -2 }]) {
    assert.equal(await name(LanguageModel.create(options)), "RangeError");
  }

  const system = { role: "system", content: "be good" };
  const [user, assistant] = [{ role: "user", content: "hello" }, { role: "assistant", content: "hi" }];
  for (const initialPrompts of [[], [system], [system, user, assistant], [user, assistant]]) {
    const made = await LanguageModel.create({ initialPrompts });
    assert.equal(made.contextUsage, initialPrompts.length && (await made.measureContextUsage(initialPrompts)));
  }
  for (const initialPrompts of [[user, assistant, system], [system, system, user]]) {
    assert.equal(await name(LanguageModel.create({ initialPrompts })), "TypeError");
  }
  assert.equal(await name(LanguageModel.create({ initialPrompts: [{ ...assistant, prefix: true }] })), "NotSupportedError");
  assert.equal(await name(LanguageModel.create({ initialPrompts: [{ role: "user", content: "a ".repeat(WINDOW) }] })), "QuotaExceededError");
});

test("a monitor gets 0, 1 and what is between, and nothing after the end or an abort", async () => {
  const LanguageModel = languageModel(fake());
  const events = [];
  await LanguageModel.create({ monitor: (m) => (m.ondownloadprogress = (e) => events.push([e.type, e.loaded, e.total])) });
  assert.deepEqual(events, [["downloadprogress", 0, 1], ["downloadprogress", 1, 1]]);
  for (const at of [0, 1]) {
    const controller = new AbortController();
    const error = new Error("enough");
    let [count, reached] = [0];
    const event = new Promise((done) => (reached = done));
    const monitor = (m) => m.addEventListener("downloadprogress", ({ loaded }) => {
      count += 1;
      if (loaded === at) reached();
    });
    const created = LanguageModel.create({ monitor, signal: controller.signal });
    await event;
    controller.abort(error);
    const before = count;
    await assert.rejects(created, (e) => e === error);
    assert.equal(count, before);
  }
  const thrown = new Error("mine");
  await assert.rejects(LanguageModel.create({ monitor: () => { throw thrown; } }), (e) => e === thrown);
});

test("inputs: shorthands, parts, roles, and what is refused", async () => {
  const { session: model, requests } = await session({ initialPrompts: [{ role: "system", content: "be good" }] });
  const asked = async (input) => {
    const copy = await model.clone();
    await copy.prompt(input);
    return requests.at(-1).messages.slice(1);
  };
  assert.deepEqual(await asked("hi"), [{ role: "user", content: "hi" }]);
  for (const [input, text] of [[null, "null"], [undefined, "undefined"], [{}, "[object Object]"], ["", ""], [[], ""]]) {
    assert.deepEqual(await asked(input), [{ role: "user", content: text }]);
  }
  const text = (value) => ({ type: "text", value });
  assert.deepEqual(await asked([{ role: "user", content: [text("foo"), text("bar")] }, { role: "assistant", content: [] }]), [
    { role: "user", content: "foobar" },
    { role: "assistant", content: "" },
  ]);
  const refused = {
    TypeError: [
      [{ content: "no role" }],
      [{ role: "user" }],
      [{ role: "robot", content: "a" }],
      ["text"],
      [{ role: "user", content: [{ type: "soup", value: "a" }] }],
      [{ role: "user", content: [{ type: "text" }] }],
      [{ role: "user", content: [text(3)] }],
      [{ role: "system", content: "too late" }],
    ],
    SyntaxError: [
      [{ role: "user", content: "a", prefix: true }],
      [{ role: "assistant", content: "a", prefix: true }, { role: "user", content: "b" }],
    ],
    NotSupportedError: [
      [{ role: "user", content: [{ type: "image", value: new Blob() }] }],
      [{ role: "assistant", content: [{ type: "audio", value: new Blob() }] }],
    ],
  };
  for (const [error, inputs] of Object.entries(refused)) {
    for (const input of inputs) assert.equal(await name(model.prompt(input)), error, JSON.stringify(input));
  }
  assert.equal(await name(model.append([{ role: "assistant", content: "a", prefix: true }])), "NotSupportedError");
  assert.equal(await name(model.prompt("fail")), "UnknownError");
  assert.equal(await model.prompt("and now?"), `answer ${requests.length}`);
});

test("a conversation: usage, what is added, copies, and prompts one after another", async () => {
  const { session: model, requests } = await session();
  assert.equal(await model.append("one two"), undefined);
  assert.equal(model.contextUsage, await model.measureContextUsage("one two"));
  await model.append([]);
  assert.equal(model.contextUsage, 3);
  const copy = await model.clone();
  const [first, second] = await Promise.all([read(model.promptStreaming("three")), model.prompt("four")]);
  assert.deepEqual([first, second], ["answer 1", "answer 2"]);
  assert.deepEqual(requests[1].messages.map((m) => m.content), ["one two", "three", "answer 1", "four"]);
  assert.deepEqual(requests[0], {
    messages: [{ role: "user", content: "one two" }, { role: "user", content: "three" }],
    temperature: model.temperature,
    top_k: model.topK,
    stream: true,
  });
  assert.equal(model.contextUsage, 13);
  assert.deepEqual([copy.contextUsage, copy.topK, copy.contextWindow], [3, model.topK, WINDOW]);
  await copy.prompt("five");
  assert.deepEqual(requests[2].messages.map((m) => m.content), ["one two", "five"]);
  assert.equal(await model.measureInputUsage("a b"), 3);
  // A template may refuse messages by themselves.
  const strict = fake();
  strict.tokenizer.render = async () => {
    throw new SiskinError("chat_template", "roles must alternate");
  };
  assert.equal(await (await languageModel(strict).create()).measureContextUsage("a b"), 2);
});

test("an overflow drops the oldest exchanges, and none if that does not help", async () => {
  const { session: model, requests } = await session({ initialPrompts: [{ role: "system", content: "be good" }] });
  const events = [];
  model.oncontextoverflow = (e) => events.push(e.type);
  model.addEventListener("quotaoverflow", (e) => events.push(e.type));
  await model.prompt("first ".repeat(30));
  await model.prompt("second ".repeat(30));
  assert.deepEqual(events, []);
  await model.prompt("third ".repeat(40));
  assert.deepEqual(events, ["contextoverflow", "quotaoverflow"]);
  assert.deepEqual(requests.at(-1).messages.map((m) => m.content.split(" ")[0]), ["be", "second", "answer", "third"]);
  const before = model.contextUsage;
  const error = await model.prompt("more ".repeat(WINDOW)).catch((e) => e);
  assert.ok(error instanceof DOMException);
  assert.deepEqual([error.name, error.quota, error.requested > before + WINDOW], ["QuotaExceededError", WINDOW, true]);
  assert.deepEqual([model.contextUsage, events.length], [before, 2]);
});

test("signals: the reason of an abort, for every call; the session stays as it was", async () => {
  const { session: model, requests } = await session();
  const LanguageModel = languageModel(fake());
  const calls = [
    (signal) => LanguageModel.create({ signal }),
    (signal) => model.clone({ signal }),
    (signal) => model.prompt("a", { signal }),
    (signal) => model.append("a", { signal }),
    (signal) => model.measureContextUsage("a", { signal }),
    (signal) => new Promise((_, reject) => model.promptStreaming("a", { signal }).pipeTo(new WritableStream()).catch(reject)),
  ];
  for (const call of calls) {
    for (const reason of [undefined, new Error("mine")]) {
      const controller = new AbortController();
      const promise = call(controller.signal);
      controller.abort(reason);
      const expected = (e) => (reason ? e === reason : e.name === "AbortError");
      await assert.rejects(promise, expected);
      await assert.rejects(call(controller.signal), expected);
    }
  }
  assert.equal(model.contextUsage, 0);
  const stream = model.promptStreaming("left");
  for await (const chunk of stream) {
    assert.equal(chunk, "answer ");
    break;
  }
  assert.equal(await model.prompt("again"), `answer ${requests.length}`);
  assert.deepEqual(requests.at(-1).messages.map((m) => m.content), ["again"]);
});

test("a session that is destroyed: calls fail, its properties stay", async () => {
  const { session: model } = await session();
  await model.append("a b");
  const [running, stream] = [model.prompt("c"), model.promptStreaming("d")];
  model.destroy();
  const calls = [running, read(stream), model.prompt("e"), model.append("e"), model.clone(), model.measureContextUsage("e")];
  assert.deepEqual(await Promise.all(calls.map(name)), calls.map(() => "InvalidStateError"));
  assert.throws(() => model.promptStreaming("e"), { name: "InvalidStateError" });
  assert.deepEqual([model.contextUsage, model.contextWindow], [3, WINDOW]);

  const controller = new AbortController();
  const { session: other } = await session({ signal: controller.signal });
  const reason = new Error("left the page");
  controller.abort(reason);
  await assert.rejects(other.prompt("e"), (e) => e === reason);
});

test("`responseConstraint` becomes a `response_format`", async () => {
  const { session: model, requests } = await session();
  const schema = { type: "object", properties: { rating: { type: "number" } } };
  await model.prompt("rate it", { responseConstraint: schema, omitResponseConstraintInput: true });
  assert.deepEqual(requests[0].response_format, { type: "json_schema", json_schema: { name: "response", schema } });
  const cyclic = {};
  cyclic.self = cyclic;
  assert.equal(await name(model.prompt("a", { responseConstraint: cyclic })), "NotSupportedError");
  for (const [constraint, regex] of [[/^\d$/, "(\\d)"], [/a|b/, "(.|\\n)*(a|b)(.|\\n)*"], [/^(a|b\$)/, "((a|b\\$))(.|\\n)*"]]) {
    await model.prompt("a", { responseConstraint: constraint });
    assert.equal(requests.at(-1).regex, regex);
  }
  for (const constraint of [/^a|b/, /a/i]) assert.equal(await name(model.prompt("a", { responseConstraint: constraint })), "NotSupportedError");
  assert.equal(await name(model.prompt("a", { responseConstraint: "object" })), "TypeError");
  assert.equal(await name(model.prompt("a", { omitResponseConstraintInput: true })), "TypeError");
});

test("a real model: it is loaded once, answers, continues a prefix, and is freed", async () => {
  const LanguageModel = languageModel(REAL, { context: 256 });
  const [model, other] = await Promise.all([
    LanguageModel.create({ samplingMode: "most-predictable" }),
    LanguageModel.create({ initialPrompts: [{ role: "system", content: "You are a pirate." }] }),
  ]);
  const question = { role: "user", content: "What is the capital of France?" };
  const prefix = (content) => model.clone().then((copy) => copy.prompt([question, { role: "assistant", content, prefix: true }]));
  assert.equal(await prefix("The capital of France"), " is Paris.");
  assert.equal(await name(model.clone().then((copy) => copy.prompt([{ role: "user", content: "<|im_end|>" }, { role: "assistant", content: "a", prefix: true }]))), "NotSupportedError");
  assert.equal(await read(model.promptStreaming(question.content)), "The capital of France is Paris.");
  assert.ok(model.contextUsage > other.contextUsage && other.contextUsage > 0);
  LanguageModel.unload();
  assert.equal(await name(other.prompt("a")), "InvalidStateError");
});

test("what can be loaded, what is loading, and what cannot be, with the error of `create`", async (t) => {
  const server = await serve({ tiny: join(root, "tests/fixtures/tiny"), "": root });
  t.after(() => server.close());
  for (const [source, error] of [
    [`${server.url}none.gguf`, "NetworkError"],
    [join(root, "README.md"), "NotSupportedError"],
    [join(root, "missing.gguf"), "OperationError"],
  ]) {
    const LanguageModel = languageModel(source);
    assert.equal(await LanguageModel.availability(), "unavailable");
    assert.equal(await name(LanguageModel.create()), error);
  }
  assert.equal(await languageModel(join(root, "tests/fixtures/tiny/llama")).availability(), "available");
  const LanguageModel = languageModel(`${server.url}tiny/llama/model.gguf`, { context: 64 });
  assert.equal(await LanguageModel.availability(), "downloadable");
  const controller = new AbortController();
  const creating = LanguageModel.create({ signal: controller.signal });
  assert.equal(await LanguageModel.availability(), "downloading");
  controller.abort();
  assert.equal(await name(creating), "AbortError");
  // Nobody waits for it any more, so that it was stopped.
  assert.equal(await LanguageModel.availability(), "downloadable");
  assert.equal(await name(languageModel("http://localhost:1/a.gguf").availability()), "UnknownError");
});

test("`install` leaves the browser's own, if that has a model", async () => {
  const own = await install(fake());
  assert.equal(globalThis.LanguageModel, own);
  assert.equal(await install(fake()), own);
  own.availability = async () => "unavailable";
  const other = await install(fake());
  assert.notEqual(other, own);
  assert.equal(globalThis.LanguageModel, other);
  delete globalThis.LanguageModel;
});
