// WebGPU in Chromium: every shader, a decode step's counts, lost and missing devices.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { launch, openPage } from "./chromium.mjs";
import { nativeRun } from "./native.mjs";
import { root, serve } from "./server.mjs";

const tiny = join(root, "tests/fixtures/tiny");
let [server, browser] = [];

before(async () => {
  server = await serve({ "": join(root, "tests/browser/dist"), tiny });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  server?.close();
});

test("Chromium compiles every variant of every kernel", async () => {
  const listing = execFileSync(join(root, "target/release/examples/browser_shaders"), { maxBuffer: 1 << 28 });
  const shaders = JSON.parse(listing);
  assert.ok(shaders.length > 140, `only ${shaders.length} variants`);
  const { page, close } = await openPage(browser, server.url);
  const { errors, subgroups } = await page.evaluate(async (shaders) => {
    const adapter = await navigator.gpu.requestAdapter();
    const subgroups = adapter.features.has("subgroups");
    const device = await adapter.requestDevice({ requiredFeatures: subgroups ? ["subgroups"] : [] });
    const errors = [];
    // Errors are checked below, shader by shader.
    device.onuncapturederror = (e) => e.preventDefault();
    for (const { name, source } of shaders) {
      const info = await device.createShaderModule({ code: source }).getCompilationInfo();
      for (const m of info.messages) if (m.type === "error") errors.push(`${name}: ${m.message} (line ${m.lineNum})`);
    }
    return { errors, subgroups };
  }, shaders);
  assert.ok(subgroups, "this Chromium's GPU has no subgroups: their shaders were not compiled");
  assert.deepEqual(errors, []);
  await close();
});

test("a decode step in the browser creates nothing: one submit, one read-back; also with subgroups", async () => {
  const { page, noise, close } = await openPage(browser, server.url);
  const found = await page.evaluate(async (url) => {
    const found = [];
    const { requestDevice } = GPUAdapter.prototype;
    for (const profile of ["base", "sg"]) {
      const model = await Siskin.load(url, { device: "webgpu", profile, context: 64, worker: false });
      const { text } = await model.generate("hello", { maxTokens: 12 });
      found.push({ text, used: (await model.info()).profile, counts: await model.decodeCounts(), layers: model.model.nLayers });
      model.unload();
    }
    return { found, isRestored: GPUAdapter.prototype.requestDevice === requestDevice };
  }, `${server.url}tiny/llama/model.gguf`);
  assert.ok(found.isRestored);
  const [base, sg] = found.found;
  assert.deepEqual([base.used, sg.used], ["base", "sg"]);
  assert.equal(sg.text, base.text);
  for (const { counts, layers } of [base, sg]) {
    const { bytesBound, ...rest } = counts;
    assert.deepEqual(rest, { dispatches: 5 * layers + 3, submits: 1, readbacks: 1, buffersCreated: 0, bindGroupsCreated: 0 });
    assert.ok(bytesBound > 0);
  }
  assert.deepEqual(noise, []);
  await close();
});

test("a lost device is reopened, and the answer continues", async () => {
  const expected = nativeRun(join(tiny, "llama"), "hello", 30, ["--ctx", "64"]).ids;
  const { page, noise, close } = await openPage(browser, server.url);
  const found = await page.evaluate(async (url) => {
    const devices = [];
    const request = GPUAdapter.prototype.requestDevice;
    GPUAdapter.prototype.requestDevice = async function (...args) {
      devices.push(await request.apply(this, args));
      return devices.at(-1);
    };
    let reported = 0;
    const options = { device: "webgpu", profile: "cpu", context: 64, worker: false, onDeviceLost: () => reported++ };
    const model = await Siskin.load(url, options);
    let n = 0;
    const inAnswer = await model.generate("hello", { maxTokens: 30 }, {
      onEvent: (e) => e.kind === "token" && ++n === 10 && devices.at(-1).destroy(),
    });
    devices.at(-1).destroy();
    const between = await model.generate("hello", { maxTokens: 30 });
    devices.at(-1).destroy();
    const trace = await model.trace("hello", { topK: 1 });
    return { inAnswer: inAnswer.ids, between: between.ids, traced: trace.top.at(-1)[0].id, reported, opened: devices.length };
  }, `${server.url}tiny/llama/`);
  assert.deepEqual(found.inAnswer, expected);
  assert.deepEqual(found.between, expected);
  assert.equal(found.traced, expected[0]);
  assert.equal(found.reported, 2);
  assert.equal(found.opened, 4);
  assert.deepEqual(noise.filter((n) => n.startsWith("uncaught")), []);
  await close();
});

test("without WebGPU the CPU answers, and the reason is reported", async () => {
  const plain = await launch(["--disable-features=WebGPU", "--disable-webgpu"]);
  const { page, noise } = await openPage(plain, server.url);
  const found = await page.evaluate(async (url) => {
    // Removed explicitly, whatever the switches do in this version, and without workers.
    Object.defineProperty(Navigator.prototype, "gpu", { value: undefined });
    const model = await Siskin.load(url, { context: 64, worker: false });
    const forced = await Siskin.load(url, { device: "webgpu", worker: false }).catch((e) => e.code);
    const { device, reason } = await model.info();
    return { forced, device, reason, ids: (await model.generate("hello", { maxTokens: 8 })).ids };
  }, `${server.url}tiny/llama/`);
  assert.deepEqual(found, {
    forced: "no_webgpu",
    device: "cpu",
    reason: "this browser has no WebGPU",
    ids: nativeRun(join(tiny, "llama"), "hello", 8, ["--ctx", "64"]).ids,
  });
  await plain.close();
  // A folder's optional files are asked for: the browser reports each that is missing.
  assert.deepEqual(noise.filter((n) => !n.includes("404")), []);
});

test("a software GPU is ignored unless requested", async () => {
  const { page, close } = await openPage(browser, server.url);
  const found = await page.evaluate(async (url) => {
    const model = await Siskin.load(url, { context: 64 });
    return { ...(await model.info()), gpu: await Siskin.gpu() };
  }, `${server.url}tiny/llama/`);
  assert.equal(found.device, "cpu");
  assert.ok(found.gpu.software && found.gpu.maxBufferSize > 2 ** 27);
  assert.match(found.reason, /runs on the CPU/);
  await close();
});
