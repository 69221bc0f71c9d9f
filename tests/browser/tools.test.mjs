// Tools and answers of a shape in the page. A model with random weights says anything: what fits does so by a grammar.
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { launch, openPage } from "./chromium.mjs";
import { root, serve } from "./server.mjs";

const TOOLS = [
  {
    type: "function",
    function: {
      name: "weather",
      parameters: {
        type: "object",
        properties: { city: { enum: ["Paris", "Oslo"] }, days: { type: "integer", minimum: 1, maximum: 9 } },
        required: ["city", "days"],
      },
    },
  },
  { type: "function", function: { name: "switch", parameters: { type: "object", properties: { on: { type: "boolean" } }, required: ["on"] } } },
];
let [server, browser, page, noise, folder] = [];
const fetched = [];

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "siskin-tools-"));
  cpSync(join(root, "tests/fixtures/tiny/qwen3"), folder, { recursive: true });
  // Tools take more tokens than it says it can read.
  const config = join(folder, "config.json");
  writeFileSync(config, readFileSync(config, "utf8").replace('"max_position_embeddings": 128', '"max_position_embeddings": 2048'));
  server = await serve({ "": join(root, "tests/browser/dist"), tiny: folder });
  browser = await launch();
  ({ page, noise } = await openPage(browser, server.url));
  page.on("request", (request) => fetched.push(request.url()));
  await page.evaluate(
    async ([url, tools]) => {
      window.tools = tools;
      window.model = await Siskin.load(`${url}tiny/`, { device: "cpu", context: 1536 });
      const common = { messages: [{ role: "user", content: "a" }], temperature: 1.5, seed: 3, max_tokens: 200 };
      window.ask = (request) => model.chat.completions.create({ ...common, ...request });
      window.failure = (promise) => promise.then(() => "none", (e) => `${e instanceof SiskinError ? e.code : "untyped"}: ${e.message}`);
    },
    [server.url, TOOLS],
  );
});
after(async () => {
  await browser?.close();
  server?.close();
  rmSync(folder, { recursive: true, force: true });
  assert.deepEqual(noise.filter((n) => !n.includes("404")), []);
});

function check({ name, arguments: text }) {
  const found = JSON.parse(text);
  if (name === "switch") return assert.equal(typeof found.on, "boolean");
  assert.equal(name, "weather");
  assert.ok(["Paris", "Oslo"].includes(found.city) && found.days >= 1 && found.days <= 9, text);
}

test("what compiles grammars is fetched when it is first needed; answers then have their shape", async () => {
  const grammars = () => fetched.filter((url) => url.includes("siskin_grammar_bg")).length;
  await page.evaluate(() => ask({ max_tokens: 2 }));
  assert.equal(grammars(), 0);
  const schema = { type: "object", properties: { ok: { type: "boolean" } }, required: ["ok"], additionalProperties: false };
  const found = await page.evaluate(async (schema) => {
    const text = async (request) => {
      const { message, finish_reason } = (await ask(request)).choices[0];
      return finish_reason === "stop" ? message.content : finish_reason;
    };
    let streamed = "";
    for await (const { choices } of await ask({ choice: ["up", "down"], stream: true })) streamed += choices[0]?.delta.content ?? "";
    const format = { type: "json_schema", name: "ok", schema };
    return {
      schema: await text({ response_format: { type: "json_schema", json_schema: { name: "ok", schema } } }),
      choice: await text({ choice: ["up", "down"] }),
      regex: await text({ regex: "[ab]{3}" }),
      grammar: await text({ grammar: 'start: "x"+ "y"', max_tokens: 400 }),
      streamed,
      several: (await ask({ choice: ["up", "down"], n: 3 })).choices.map((c) => c.message.content),
      response: (await model.responses.create({ input: "a", temperature: 1.5, text: { format } })).output[0].content[0].text,
      text: (await model.completions.create({ prompt: "a", temperature: 1.5, choice: ["up", "down"] })).choices[0].text,
    };
  }, schema);
  assert.equal(grammars(), 1);
  assert.equal(typeof JSON.parse(found.schema).ok, "boolean");
  assert.equal(typeof JSON.parse(found.response).ok, "boolean");
  for (const answer of [found.choice, found.streamed, found.text, ...found.several]) assert.match(answer, /^(up|down)$/);
  assert.match(found.regex, /^[ab]{3}$/);
  assert.match(found.grammar, /^x+y$/);
});

test("shapes that cannot be had are refused by the field, and the next request is answered", async () => {
  const found = await page.evaluate(async () => [
    await failure(ask({ response_format: { type: "json_schema", json_schema: { name: "x", schema: { type: "robot" } } } })),
    await failure(ask({ regex: "(" })),
    await failure(ask({ grammar: "start: nothing" })),
    await failure(ask({ choice: [] })),
    await failure(ask({ regex: "a", choice: ["b"] })),
    (await ask({ regex: "b" })).choices[0].message.content,
  ]);
  const fields = ["response_format", "regex", "grammar", "choice", "choice"];
  for (const [i, field] of fields.entries()) assert.ok(found[i].startsWith(`invalid_request: \`${field}\``), found[i]);
  assert.equal(found[5], "b");
});

test("a required call fits its parameters, whole and streamed; a named one is of its tool", async () => {
  const { whole, streamed, named } = await page.evaluate(async () => {
    const request = { tools, tool_choice: "required" };
    const whole = (await ask(request)).choices[0];
    const streamed = { calls: [] };
    for await (const { choices } of await ask({ ...request, stream: true })) {
      streamed.calls.push(...(choices[0]?.delta.tool_calls ?? []));
      streamed.reason = choices[0]?.finish_reason ?? streamed.reason;
    }
    const named = (await ask({ tools, tool_choice: { type: "function", function: { name: "switch" } } })).choices[0];
    return { whole, streamed, named };
  });
  assert.equal(whole.finish_reason, "tool_calls");
  assert.equal(whole.message.content, null);
  for (const call of whole.message.tool_calls) check(call.function);
  assert.equal(streamed.reason, "tool_calls");
  assert.deepEqual(streamed.calls.map((c) => c.function), whole.message.tool_calls.map((c) => c.function));
  assert.deepEqual(named.message.tool_calls.map((c) => c.function.name), ["switch"]);
});

test("runTools runs what is called, tells the model of failures, and stops at its limit", async () => {
  const found = await page.evaluate(async () => {
    const [, lamp] = tools;
    const given = [];
    const request = { messages: [{ role: "user", content: "a" }], temperature: 1.5, seed: 3, max_tokens: 150, tool_choice: "required", parallel_tool_calls: false };
    const run = model.chat.completions.runTools({ ...request, tools: [{ ...lamp, run: ({ on }) => (given.push(on), { done: true }) }] });
    const steps = [];
    for await (const { message, completion } of run) steps.push([message.role, message.content, !!completion]);
    const last = await run.finalContent();
    const fails = model.chat.completions.runTools({ ...request, tools: [{ ...lamp, run: () => { throw new Error("no lamp"); } }] });
    await fails.finalContent();
    const limited = model.chat.completions.runTools({ ...request, tools: [{ ...lamp, run: () => "done" }] }, { maxRounds: 1 });
    return {
      given,
      steps,
      last,
      messages: run.messages.map((m) => m.role),
      told: fails.messages.find((m) => m.role === "tool").content,
      limited: await failure(limited.finalContent()),
      without: (() => { try { model.chat.completions.runTools({ ...request, tools: [lamp] }); } catch (e) { return e.message; } })(),
    };
  });
  assert.equal(found.given.length, 1);
  assert.deepEqual(found.steps.slice(0, 2).map(([role, , isAnswer]) => [role, isAnswer]), [["assistant", true], ["tool", false]]);
  assert.equal(found.steps[1][1], '{"done":true}');
  assert.equal(found.steps.at(-1)[1], found.last);
  assert.deepEqual(found.messages.slice(0, 3), ["user", "assistant", "tool"]);
  assert.equal(found.told, "Error: no lamp");
  assert.match(found.limited, /^invalid_request: .*`maxRounds`/);
  assert.match(found.without, /`run`/);
});

test("an answer calls a tool or has the shape", async () => {
  const answers = await page.evaluate(async () => {
    const both = (seed) => ask({ tools, regex: "[ab]{3}", seed, max_tokens: 150 });
    return Promise.all([1, 2, 3, 4].map(async (seed) => (await both(seed)).choices[0].message));
  });
  for (const { content, tool_calls: calls } of answers) {
    if (calls) for (const call of calls) check(call.function);
    else assert.match(content, /^[ab]{3}$/);
  }
});

test("what is wrong with tools is told by name", async () => {
  const found = await page.evaluate(async () => {
    const [, lamp] = tools;
    return [
      await failure(ask({ tools: [{ type: "browser" }] })),
      await failure(ask({ tools: [lamp], tool_choice: { type: "function", function: { name: "door" } } })),
      await failure(ask({ messages: [{ role: "tool", content: "4" }] })),
      await failure(ask({ temperature: Number.NaN })),
    ];
  });
  const named = ["`tools[0]`", "`door`", "tool_call_id", "`temperature`"];
  for (const [i, name] of named.entries()) assert.ok(found[i].startsWith("invalid_request: ") && found[i].includes(name), found[i]);
});
