// The packed package in a built app: the same answers as the command line, in OpenAI's shapes.
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { launch, openPage } from "./chromium.mjs";
import { nativeRun, nativeTokens } from "./native.mjs";
import { root, serve } from "./server.mjs";

const tiny = join(root, "tests/fixtures/tiny");
const PROMPTS = ["the quick brown fox", "Hello wörld, 12345!", "a"];
let [server, browser] = [];

before(async () => {
  server = await serve({ "": join(root, "tests/browser/dist"), tiny, models: join(root, "models") });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  server?.close();
});

// A driver that runs shaders on the CPU compiles a model's for ten seconds: one profile each, and two where there are two files.
for (const [family, profiles] of [["llama", ["cpu", "base"]], ["mistral", ["cpu"]], ["qwen2", ["base"]], ["qwen3", ["cpu"]], ["gemma3", ["base"]]]) {
  test(`${family}: the command line's tokens, on WebGPU and on the CPU`, async () => {
    const { page, noise, close } = await openPage(browser, server.url);
    const files = ["", "model.gguf"].filter((name) => existsSync(join(tiny, family, name)));
    const runs = files.map((name, i) => [`tiny/${family}/${name}`, [["cpu"], ...profiles.slice(i, i + 1).map((p) => ["webgpu", p])]]);
    for (const [file, devices] of runs) {
      const path = join(root, "tests/fixtures", file);
      const expected = PROMPTS.map((p) => nativeRun(path, p, 24, ["--ctx", "64"]));
      const spans = nativeTokens(path, PROMPTS[1]).tokens;
      for (const [device, profile] of devices) {
        const found = await page.evaluate(
          async ([url, prompts, device, profile]) => {
            const model = await Siskin.load(url, { device, profile, context: 64 });
            const answers = [];
            for (const prompt of prompts) answers.push(await model.generate(prompt, { maxTokens: 24 }));
            const info = await model.info();
            const spans = await model.tokenizer.encode(prompts[1]);
            const text = await model.tokenizer.decode(answers[0].ids);
            model.unload();
            return { answers, info, spans, text };
          },
          [server.url + file, PROMPTS, device, profile],
        );
        const what = `${file} ${device} ${profile ?? ""}`;
        assert.equal(found.info.device, device, what);
        if (profile) assert.equal(found.info.profile, profile, what);
        assert.deepEqual(
          found.answers.map((a) => a.ids),
          expected.map((e) => e.ids),
          what,
        );
        assert.deepEqual(found.spans, spans, what);
      }
    }
    assert.deepEqual(noise, []);
    await close();
  });
}

test("a cache in q8_0: the command line's tokens, on WebGPU and on the CPU; what cannot be is refused", async () => {
  const { page, noise, close } = await openPage(browser, server.url);
  const path = join(tiny, "qwen3");
  const native = (...cache) => nativeRun(path, PROMPTS[0], 16, ["--ctx", "64", ...cache]).ids;
  const wanted = [native("--cache", "q8_0"), native("--cache-type-k", "q8_0", "--cache-type-v", "q4_0")];
  const { answers, bytes, refused } = await page.evaluate(
    async ([url, prompt]) => {
      const answers = [];
      const bytes = [];
      for (const device of [{ device: "cpu" }, { device: "webgpu", profile: "base" }]) {
        for (const cacheType of ["q8_0", { keys: "q8_0", values: "q4_0" }, undefined]) {
          // The second one has the kernels of the first.
          if (device.profile && cacheType === "q8_0") continue;
          const model = await Siskin.load(`${url}tiny/qwen3/`, { ...device, context: 64, cacheType });
          if (cacheType) answers.push((await model.generate(prompt, { maxTokens: 16 })).ids);
          bytes.push((await model.info()).memory.kvCache);
          model.unload();
        }
      }
      const message = (family, cacheType) => Siskin.load(`${url}tiny/${family}/`, { device: "cpu", cacheType }).catch((e) => `${e.code}: ${e.message}`);
      return { answers, bytes, refused: [await message("qwen3", "q5_1"), await message("qwen3", { k: "f16" }), await message("llama", "q8_0")] };
    },
    [server.url, PROMPTS[0]],
  );
  assert.deepEqual(answers, [...wanted, wanted[1]]);
  // A head of 32 has one scale, which takes a word: 36 and 20 bytes, and 64 in f16.
  const [f16] = bytes.slice(2);
  assert.deepEqual(bytes, [(f16 * 36) / 64, (f16 * 28) / 64, f16, (f16 * 28) / 64, f16]);
  assert.match(refused[0], /invalid_request: there is no cache type `q5_1`; use f32, f16, q8_0, q4_0/);
  assert.match(refused[1], /invalid_request: `cacheType` has no field `k`/);
  assert.match(refused[2], /invalid_request: .*multiple of 32 dimensions.* have 16/);
  assert.deepEqual(noise, []);
  await close();
});

/** A page with one model on the CPU as `model`. */
async function withModel(run, file = "tiny/llama/", context = 64) {
  const opened = await openPage(browser, server.url);
  await opened.page.evaluate(
    async ([url, context]) => {
      window.model = await Siskin.load(url, { device: "cpu", context });
    },
    [server.url + file, context],
  );
  await run(opened.page);
  assert.deepEqual(opened.noise, []);
  await opened.close();
}

test("completions: whole and streamed are the same answer, with usage and logprobs", () =>
  withModel(async (page) => {
    const found = await page.evaluate(async () => {
      const request = {
        messages: [{ role: "user", content: [{ type: "text", text: "hi" }] }],
        max_tokens: 12,
        temperature: 0.8,
        top_p: 0.9,
        seed: 7,
        logprobs: true,
        top_logprobs: 3,
      };
      const whole = await model.chat.completions.create(request);
      const chunks = [];
      const stream = await model.chat.completions.create({
        ...request,
        stream: true,
        stream_options: { include_usage: true },
      });
      for await (const chunk of stream) chunks.push(chunk);
      return { whole, chunks };
    });
    const { whole, chunks } = found;
    const text = chunks.map((c) => c.choices[0]?.delta.content ?? "").join("");
    assert.equal(text, whole.choices[0].message.content);
    assert.ok(text.length > 0);
    assert.equal(whole.object, "chat.completion");
    assert.equal(whole.choices[0].finish_reason, "length");
    assert.deepEqual(whole.usage.completion_tokens, 12);
    assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + 12);
    assert.equal(chunks[0].choices[0].delta.role, "assistant");
    assert.equal(chunks.at(-2).choices[0].finish_reason, "length");
    assert.deepEqual(chunks.at(-1).choices, []);
    assert.equal(chunks.at(-1).usage.completion_tokens, 12);
    const logprobs = whole.choices[0].logprobs.content;
    assert.equal(logprobs.length, 12);
    for (const l of logprobs) {
      assert.equal(l.top_logprobs.length, 3);
      assert.ok(l.logprob <= l.top_logprobs[0].logprob && l.top_logprobs[0].logprob <= 0);
    }
    // The second time, the prompt comes from the cache: other kernels, different last digits.
    const rounded = (list) => list.map((l) => [l.token, l.logprob.toFixed(3), l.top_logprobs.map((t) => t.token)]);
    assert.deepEqual(rounded(chunks.flatMap((c) => c.choices[0]?.logprobs?.content ?? [])), rounded(logprobs));
  }));

test("stop strings; the second turn reuses the first from the cache", () =>
  withModel(async (page) => {
    const found = await page.evaluate(async () => {
      const messages = [{ role: "user", content: "hi" }];
      const free = await model.chat.completions.create({ messages, max_tokens: 16 });
      const text = free.choices[0].message.content;
      const stop = text.slice(3, 6);
      const stopped = await model.chat.completions.create({ messages, max_tokens: 16, stop });
      return { text, stop, stopped };
    });
    const content = found.stopped.choices[0].message.content;
    assert.equal(content, found.text.slice(0, found.text.indexOf(found.stop)));
    assert.equal(found.stopped.choices[0].finish_reason, "stop");
    assert.ok(found.stopped.usage.prompt_tokens_details.cached_tokens > 0);
  }));

test("an answer can be stopped by its signal, its controller, or by leaving the loop", () =>
  withModel(
    async (page) => {
      const found = await page.evaluate(async () => {
        const request = { messages: [{ role: "user", content: "Count from one to a thousand." }], max_tokens: 500 };
        const count = async (stop) => {
          const signal = new AbortController();
          const stream = await model.chat.completions.create({ ...request, stream: true }, { signal: signal.signal });
          let n = 0;
          for await (const _ of stream) if (++n === 5 && stop(signal, stream)) break;
          return n;
        };
        const bySignal = await count((signal) => void signal.abort());
        const byController = await count((_, stream) => void stream.controller.abort());
        const byBreak = await count(() => true);
        const signal = new AbortController();
        const whole = model.chat.completions.create(request, { signal: signal.signal });
        setTimeout(() => signal.abort(), 300);
        const error = await whole.catch((e) => ({ code: e.code, typed: e instanceof SiskinError }));
        // It remains usable.
        const next = await model.chat.completions.create({ ...request, max_tokens: 4 });
        return { bySignal, byController, byBreak, error, next: next.usage.completion_tokens };
      });
      assert.ok(found.bySignal < 50 && found.byController < 50, JSON.stringify(found));
      assert.equal(found.byBreak, 5);
      assert.deepEqual(found.error, { code: "aborted", typed: true });
      assert.equal(found.next, 4);
    },
    // Slow enough to be stopped.
    "models/smollm2-135m-instruct.gguf",
    1024,
  ));

test("two models at once, and requests at once on one", () =>
  withModel(async (page) => {
    const expected = nativeRun(join(tiny, "qwen3"), "hello", 20, ["--ctx", "64"]).ids;
    const own = nativeRun(join(tiny, "llama"), "hello", 20, ["--ctx", "64"]).ids;
    const found = await page.evaluate(async (url) => {
      const other = await Siskin.load(url, { device: "webgpu", context: 64 });
      const run = async (m) => (await m.generate("hello", { maxTokens: 20 })).ids;
      const all = await Promise.all([run(model), run(other), run(model), run(other)]);
      other.unload();
      const after = await other.generate("hello").catch((e) => e.code);
      return { all, after, still: await run(model) };
    }, `${server.url}tiny/qwen3/`);
    assert.deepEqual(found.all, [own, expected, own, expected]);
    assert.equal(found.after, "unloaded");
    assert.deepEqual(found.still, own);
  }));

test("requests that cannot be answered report the reason", () =>
  withModel(async (page) => {
    const codes = await page.evaluate(async () => {
      const ask = (request) => model.chat.completions.create(request).then(
        () => "answered",
        (e) => `${e instanceof SiskinError ? e.code : "untyped"}: ${e.message}`,
      );
      const messages = [{ role: "user", content: "hi" }];
      return Promise.all([
        ask(undefined),
        ask({}),
        ask({ messages: [] }),
        ask({ messages: [{ role: "robot", content: "hi" }] }),
        ask({ messages: [{ role: "user", content: 3 }] }),
        ask({ messages, temperature: "hot" }),
        ask({ messages, temperature: -1 }),
        ask({ messages, top_p: 0 }),
        ask({ messages, max_tokens: 1.5 }),
        ask({ messages, top_logprobs: 2 }),
        ask({ messages, functions: [{ name: "f" }] }),
        ask({ messages, n: 0 }),
        ask({ messages: [{ role: "user", content: "long ".repeat(200) }] }),
      ]);
    });
    assert.ok(codes.pop().startsWith("prompt_too_long: "));
    for (const code of codes) assert.match(code, /^invalid_request: /);
  }));

for (const device of ["cpu", "webgpu"]) {
  test(`answers side by side on ${device} are those of each alone, and one that is stopped disturbs none`, async () => {
    const { page, noise, close } = await openPage(browser, server.url);
    const expected = PROMPTS.map((p) => nativeRun(join(tiny, "llama"), p, 24, ["--ctx", "64"]).ids);
    const found = await page.evaluate(
      async ([url, prompts, device]) => {
        const model = await Siskin.load(url, { device, context: 64 });
        const order = [];
        const stop = new AbortController();
        const stopped = model
          .generate("stop this", { maxTokens: 40, ignoreEnd: true }, { signal: stop.signal, onEvent: (e) => e.kind === "token" && stop.abort() })
          .then((a) => a.finishReason, (e) => e.code);
        const answers = prompts.map((prompt, i) =>
          model.generate(prompt, { maxTokens: 24 }, { onEvent: (e) => e.kind === "token" && order.push(i) }),
        );
        // What is not an answer waits for those that were asked before, and goes before those asked after.
        const turns = [];
        const logits = model.nextLogits("x").finally(() => turns.push("logits"));
        const later = model.generate("a", { maxTokens: 2 }, { onEvent: (e) => e.kind === "token" && turns.push("later") });
        const ids = (await Promise.all(answers)).map((a) => a.ids);
        await later;
        const request = { messages: [{ role: "user", content: "hi" }], max_tokens: 10, temperature: 1, seed: 3 };
        const three = await model.chat.completions.create({ ...request, n: 3 });
        const alone = [];
        for (const seed of [3, 4, 5]) alone.push((await model.chat.completions.create({ ...request, seed })).choices[0].message.content);
        const streamed = ["", "", ""];
        let usage;
        for await (const chunk of await model.chat.completions.create({ ...request, n: 3, stream: true, stream_options: { include_usage: true } })) {
          for (const { index, delta } of chunk.choices) streamed[index] += delta.content ?? "";
          usage = chunk.usage ?? usage;
        }
        const texts = three.choices.map((c) => c.message.content);
        return { ids, order, turns, stopped: await stopped, logits: (await logits).length, texts, alone, streamed, usage, three: three.usage };
      },
      [`${server.url}tiny/llama/`, PROMPTS, device],
    );
    assert.deepEqual(found.ids, expected);
    assert.equal(found.stopped, "cancelled");
    assert.equal(found.logits, 320);
    assert.deepEqual(found.turns, ["logits", "later", "later"]);
    // Side by side: each has a token before any has all of its own.
    const first = found.order.findIndex((i, at) => found.order.slice(0, at + 1).filter((j) => j === i).length === 24);
    assert.deepEqual([...new Set(found.order.slice(0, first < 0 ? undefined : first))].sort(), [0, 1, 2]);
    assert.deepEqual(found.texts, found.alone);
    assert.deepEqual(found.streamed, found.alone);
    assert.equal(found.usage.completion_tokens, found.three.completion_tokens);
    assert.ok(found.three.prompt_tokens < 64);
    assert.deepEqual(noise, []);
    await close();
  });
}

for (const device of ["cpu", "webgpu"]) {
  test(`a saved conversation continues after a reload on ${device}, and only with its model`, async () => {
    const { page, noise, close } = await openPage(browser, server.url);
    const found = await page.evaluate(
      async ([url, device]) => {
        const load = (family, on = device) => Siskin.load(`${url}tiny/${family}/`, { device: on, context: 64 });
        const first = await load("llama");
        const prompt = "the quick brown fox jumps over the lazy dog";
        await first.generate(prompt, { maxTokens: 4 });
        const file = await first.save("a note");
        const wanted = await first.generate(`${prompt} again`, { maxTokens: 8 });
        first.unload();
        const later = await load("llama");
        const restored = await later.restore(file);
        const answer = await later.generate(`${prompt} again`, { maxTokens: 8 });
        later.unload();
        const other = await load("qwen2", "cpu");
        const refused = await other.restore(file).catch((e) => ({ code: e.code, message: e.message }));
        other.unload();
        return { restored, refused, answers: [wanted, answer].map((a) => [a.ids, a.cachedTokens]) };
      },
      [server.url, device],
    );
    assert.equal(found.restored.note, "a note");
    assert.ok(found.restored.tokens > 5);
    assert.deepEqual(found.answers[1], found.answers[0]);
    assert.ok(found.answers[1][1] > 5);
    assert.equal(found.refused.code, "saved");
    assert.match(found.refused.message, /another model/);
    assert.deepEqual(noise, []);
    await close();
  });
}

test("the main thread and given bytes work too", async () => {
  const { page, noise, close } = await openPage(browser, server.url);
  const expected = nativeRun(join(tiny, "llama"), "hello", 8, ["--ctx", "64"]).ids;
  const ids = await page.evaluate(async (url) => {
    const wasm = performance.getEntriesByType("resource").find((r) => r.name.endsWith(".wasm"));
    if (wasm) throw new Error("the wasm is fetched before it is needed");
    const model = await Siskin.load(url, { device: "cpu", context: 64, worker: false });
    const ids = (await model.generate("hello", { maxTokens: 8 })).ids;
    const at = performance.getEntriesByType("resource").find((r) => r.name.endsWith(".wasm")).name;
    const wasmBytes = await (await fetch(at)).arrayBuffer();
    const other = await Siskin.load(url, { device: "cpu", context: 64, wasmBytes });
    const more = (await other.generate("hello", { maxTokens: 8 })).ids;
    const lost = await Siskin.load(url, { wasmUrl: "/nothing.wasm" }).catch((e) => e.code);
    return [ids, more, lost];
  }, `${server.url}tiny/llama/`);
  assert.deepEqual(ids, [expected, expected, "internal"]);
  assert.deepEqual(noise.filter((n) => !n.includes("404")), []);
  await close();
});

test("a worker that fails during an answer, or does not load, is an error: no call hangs", async () => {
  const script = readdirSync(join(root, "tests/browser/dist/assets")).find((f) => /^worker-.*\.js$/.test(f));
  const path = `/assets/${script}`;
  const answer = async () => {
    const { page, close } = await openPage(browser, server.url);
    const found = await page.evaluate(async (url) => {
      try {
        const model = await Siskin.load(url, { device: "cpu", context: 1024 });
        await model.generate("Count from one to a thousand.", { maxTokens: 900, ignoreEnd: true });
        return "answered";
      } catch (e) {
        return `${e.code}: ${e.message}`;
      }
    }, `${server.url}models/smollm2-135m-instruct.gguf`);
    await close();
    return found;
  };
  // The ways in which the wasm's tasks end when they panic: in a microtask, or in a promise.
  server.faults.set(path, { append: "\nsetTimeout(() => queueMicrotask(() => { throw new Error('boom') }), 4000);" });
  assert.match(await answer(), /^internal: .*boom/);
  server.faults.set(path, { append: "\nsetTimeout(() => Promise.reject(new Error('boom')), 4000);" });
  assert.match(await answer(), /^internal: .*boom/);
  server.faults.set(path, { status: 404 });
  assert.match(await answer(), /^internal: .*does not load/);
  server.faults.clear();
});

test("errors thrown by a page's callback are the page's; the answer continues", () =>
  withModel(async (page) => {
    const found = await page.evaluate(async () => {
      const errors = [];
      addEventListener("error", (e) => {
        e.preventDefault();
        errors.push(e.message);
      });
      const onEvent = (e) => {
        if (e.kind === "token") throw new Error("mine");
      };
      const { ids } = await model.generate("hello", { maxTokens: 3, ignoreEnd: true }, { onEvent });
      return { n: ids.length, errors: errors.length, mine: errors.every((e) => e.includes("mine")) };
    });
    assert.deepEqual(found, { n: 3, errors: 3, mine: true });
  }));

test("tracing: attention that sums to one, most likely tokens, the lens's last layer", () =>
  withModel(async (page) => {
    const found = await page.evaluate(async () => {
      const prompt = "the quick brown fox jumps over";
      const trace = await model.trace(prompt, { attention: true, topK: 5, logitLens: true });
      const logits = await model.nextLogits(prompt);
      const ids = (await model.tokenizer.encode(prompt)).map((t) => t.id);
      const next = (await model.generate(prompt, { maxTokens: 1 })).ids[0];
      let best = 0;
      logits.forEach((l, i) => l > logits[best] && (best = i));
      const merges = await model.tokenizer.merges("quick brown");
      return {
        ids, next, best, merges,
        traced: trace.tokens.map((t) => t.id),
        top: trace.top.map((t) => t.map((x) => x.id)),
        lens: trace.logitLens.map((l) => l.map((x) => x.id)),
        nHeads: trace.nHeads,
        attention: trace.attention.map((a) => [...a]),
        layers: model.model.nLayers,
      };
    });
    const T = found.ids.length;
    assert.deepEqual(found.traced, found.ids);
    assert.equal(found.top.length, T);
    assert.equal(found.top.at(-1)[0], found.next);
    assert.equal(found.best, found.next);
    assert.equal(found.lens.length, found.layers);
    // The lens at the last layer is the model itself.
    assert.deepEqual(found.lens.at(-1), found.top.map((t) => t[0]));
    assert.equal(found.attention.length, found.layers);
    for (const layer of found.attention) {
      assert.equal(layer.length, found.nHeads * T * T);
      for (let row = 0; row < found.nHeads * T; row++) {
        const weights = layer.slice(row * T, (row + 1) * T);
        assert.ok(Math.abs(weights.reduce((a, b) => a + b) - 1) < 1e-4);
        assert.ok(weights.slice((row % T) + 1).every((w) => w === 0), "nothing is seen of what comes");
      }
    }
    assert.equal(found.merges.length, 2);
    for (const { steps } of found.merges) {
      assert.ok(steps.every((s, i) => i === 0 || s.length === steps[i - 1].length - 1));
      assert.ok(steps.every((s) => s.join("") === steps[0].join("")));
    }
  }));

test("the real model answers, from the tarball, on the CPU", async () => {
  const { page, noise, close } = await openPage(browser, server.url);
  const answer = await page.evaluate(async (url) => {
    const model = await Siskin.load(url, { device: "cpu", context: 512 });
    let text = "";
    const stream = await model.chat.completions.create({
      messages: [{ role: "user", content: "What is the capital of France?" }],
      stream: true,
    });
    for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
    return text;
  }, `${server.url}models/smollm2-135m-instruct.gguf`);
  assert.equal(answer, "The capital of France is Paris.");
  assert.deepEqual(noise, []);
  await close();
});
