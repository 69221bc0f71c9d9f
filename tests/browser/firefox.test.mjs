// Firefox ESR with WebGPU on lavapipe, driven by WebDriver BiDi: the core flow.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import puppeteer from "puppeteer-core";

import { PATIENCE } from "./chromium.mjs";
import { nativeRun } from "./native.mjs";
import { root, serve } from "./server.mjs";

const tiny = join(root, "tests/fixtures/tiny");
let [server, browser, page] = [];
const noise = [];

before(async () => {
  server = await serve({ "": join(root, "tests/browser/dist"), tiny, models: join(root, "models"), documents: join(root, "tests/fixtures/documents") });
  const lavapipe = "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json";
  browser = await puppeteer.launch({
    browser: "firefox",
    executablePath: process.env.FIREFOX ?? "/usr/bin/firefox-esr",
    extraPrefsFirefox: {
      "dom.webgpu.enabled": true,
      "gfx.webgpu.ignore-blocklist": true,
      "app.update.enabled": false,
      "network.captive-portal-service.enabled": false,
      "network.connectivity-service.enabled": false,
    },
    env: { ...process.env, HOME: process.env.HOME ?? "/tmp", ...(existsSync(lavapipe) && { VK_DRIVER_FILES: lavapipe }) },
    protocolTimeout: 600_000,
    timeout: PATIENCE,
  });
  page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.on("pageerror", (e) => noise.push(`uncaught: ${e.message}`));
  await page.goto(server.url);
  await page.waitForFunction("window.ready");
});
after(async () => {
  await browser?.close();
  server?.close();
});

test("documents are kept in a page's storage, and found again", async () => {
  const search = (isNew) =>
    page.evaluate(
      async (url, isNew) => {
        const model = await Siskin.load(`${url}tiny/llama/model.gguf`, { device: "cpu", context: 64 });
        const notes = await model.documents.open("notes");
        if (isNew) {
          await notes.add({ name: "a.md", text: "# hello" });
          await notes.add(new File([await (await fetch(`${url}documents/timetable.pdf`)).blob()], "b.pdf"));
        }
        const found = await notes.search("# hello", { limit: 9 });
        notes.close();
        model.unload();
        return { where: notes.where, best: found[0].document, names: [...new Set(found.map((p) => p.document))].sort() };
      },
      server.url,
      isNew,
    );
  const wanted = { where: "opfs", best: "a.md", names: ["a.md", "b.pdf"] };
  assert.deepEqual(await search(true), wanted);
  await page.reload();
  await page.waitForFunction("window.ready");
  assert.deepEqual(await search(false), wanted);
});

test("the command line's tokens, on WebGPU and on the CPU", async () => {
  const expected = nativeRun(join(tiny, "qwen3"), "hello", 20, ["--ctx", "64"]).ids;
  for (const [device, profile] of [["cpu"], ["webgpu", "base"], ["webgpu", "cpu"]]) {
    const found = await page.evaluate(
      async (url, device, profile) => {
        try {
          const model = await Siskin.load(url, { device, profile, context: 64 });
          const { ids } = await model.generate("hello", { maxTokens: 20 });
          const info = await model.info();
          model.unload();
          return { ids, device: info.device };
        } catch (e) {
          return { error: `${e.code}: ${e.message}` };
        }
      },
      `${server.url}tiny/qwen3/`,
      device,
      profile,
    );
    assert.deepEqual(found, { ids: expected, device });
  }
  assert.deepEqual(noise, []);
});

test("the real model streams its answer on WebGPU", async () => {
  const found = await page.evaluate(async (url) => {
    const model = await Siskin.load(url, { device: "webgpu", context: 256 });
    let [text, chunks] = ["", 0];
    const messages = [{ role: "user", content: "What is the capital of France?" }];
    const stream = await model.chat.completions.create({ messages, stream: true });
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta?.content ?? "";
      chunks++;
    }
    const { device, deviceName, profile, wasmHeap } = await model.info();
    const largest = Math.max(...model.model.tensors.map((t) => t.bytes));
    const kept = await Siskin.cache.list();
    model.unload();
    return { text, chunks, device, deviceName, profile, wasmHeap, largest, kept: kept.filter((c) => c.complete && c.where === "opfs").length };
  }, `${server.url}models/smollm2-135m-instruct.gguf`);
  assert.equal(found.text, "The capital of France is Paris.");
  assert.equal(found.device, "webgpu");
  assert.ok(found.chunks > 5 && found.kept > 0, JSON.stringify(found));
  // Weights pass through one tensor at a time.
  assert.ok(found.wasmHeap < 64 * 2 ** 20 + found.largest, `${found.wasmHeap} bytes of heap`);
  console.log(`Firefox ran on ${found.deviceName}, profile ${found.profile}`);
});

test("the real model takes a training step on WebGPU", async () => {
  const step = await page.evaluate(async (url) => {
    const model = await Siskin.load(url, { device: "webgpu", context: 64 });
    const run = model.train([{ text: "A siskin is a small bird." }], { rank: 2, targetModules: ["q_proj"], validation: 0 });
    const { value } = await run[Symbol.asyncIterator]().next();
    model.unload();
    return value;
  }, `${server.url}models/smollm2-135m-instruct.gguf`);
  assert.ok(step.step === 1 && step.loss > 0 && step.gradNorm > 0, JSON.stringify(step));
  assert.deepEqual(noise, []);
});
