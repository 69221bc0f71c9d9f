// Downloading and caching models, from servers that fail in every way.
import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createHash } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";

import { launch, openPage } from "./chromium.mjs";
import { nativeRun } from "./native.mjs";
import { root, serve } from "./server.mjs";

const tiny = join(root, "tests/fixtures/tiny");
const models = join(root, "tests/conformance/models");
const folder = mkdtempSync(join(tmpdir(), "siskin-"));
const model = join(folder, "model.gguf");
copyFileSync(join(tiny, "llama/model.gguf"), model);
const size = readFileSync(model).length;
const expected = nativeRun(model, "hello", 8, ["--ctx", "64"]).ids;
let [server, browser, page, noise, close] = [];

before(async () => {
  server = await serve({ "": join(root, "tests/browser/dist"), tiny, m: folder, models });
  browser = await launch();
});
after(async () => {
  await close?.();
  await browser?.close();
  server?.close();
  rmSync(folder, { recursive: true });
});
beforeEach(async () => {
  await close?.();
  server.faults.clear();
  server.setHeaders({});
  ({ page, noise, close } = await openPage(browser, server.url));
  server.requests.length = 0;
});

const URL_ = () => `${server.url}m/model.gguf`;
const fetches = () => server.requests.filter((r) => r.path === "/m/model.gguf");

/** Loads and generates; or returns an error's code and message. */
const load = (source, options = {}) =>
  page.evaluate(
    async ([source, options]) => {
      const progress = [];
      try {
        const onProgress = (p) => progress.push(p);
        const model = await Siskin.load(source, { device: "cpu", context: 64, onProgress, ...options });
        const ids = (await model.generate("hello", { maxTokens: 8 })).ids;
        model.unload();
        return { ids, progress, cached: await Siskin.cache.list() };
      } catch (e) {
        return { code: e instanceof SiskinError ? e.code : "untyped", message: e.message, status: e.status };
      }
    },
    [source, options],
  );

test("a model is downloaded once, cached, listed and deleted; progress adds up", async () => {
  const first = await load(URL_());
  assert.deepEqual(first.ids, expected);
  assert.deepEqual(first.progress.map((p) => p.phase).filter((p, i, all) => p !== all[i - 1]), [
    "download", "upload", "compile", "ready",
  ]);
  const downloads = first.progress.filter((p) => p.phase === "download");
  assert.equal(downloads.at(-1).loaded, size);
  assert.ok(downloads.every((p) => p.total === size));
  assert.deepEqual(first.cached.map(({ url, size, complete, where }) => ({ url, size, complete, where })), [
    { url: URL_(), size, complete: true, where: "opfs" },
  ]);
  assert.equal(fetches().length, 1);
  const second = await load(URL_());
  assert.deepEqual(second.ids, expected);
  assert.equal(fetches().length, 1, "the second time nothing is fetched");
  assert.deepEqual(await page.evaluate((url) => Promise.all([Siskin.cache.delete(url), Siskin.cache.delete(url)]).then(([a]) => a), URL_()), true);
  assert.deepEqual((await page.evaluate(() => Siskin.cache.list())), []);
  await load(URL_());
  assert.equal(fetches().length, 2);
  assert.deepEqual(noise, []);
});

test("an interrupted download resumes where it was, at any byte", async () => {
  for (const cutAfter of [1, 3, 1000, 65_536, size - 1]) {
    server.faults.set("/m/model.gguf", { cutAfter, times: 1 });
    server.requests.length = 0;
    const found = await load(URL_());
    assert.deepEqual(found.ids, expected, `cut after ${cutAfter}`);
    const [first, second, ...more] = fetches();
    assert.equal(first.range, undefined);
    assert.equal(second.range, `bytes=${cutAfter}-`, `cut after ${cutAfter}`);
    assert.deepEqual(more, []);
    await page.evaluate((url) => Siskin.cache.delete(url), URL_());
  }
});

test("a download resumes in a new page; a changed file starts over", async () => {
  const cut = async () => {
    server.faults.set("/m/model.gguf", { cutAfter: 50_000 });
    const loading = load(URL_());
    await page.waitForTimeout(600);
    await page.close();
    await loading.catch(() => {});
    server.faults.clear();
    page = await page.context().newPage();
    await page.goto(server.url);
    await page.waitForFunction("window.ready");
    server.requests.length = 0;
  };
  await cut();
  assert.deepEqual((await load(URL_())).ids, expected);
  assert.match(fetches()[0].range, /^bytes=\d+-$/);
  await page.evaluate((url) => Siskin.cache.delete(url), URL_());
  await cut();
  // A different, intact file with the same name: one byte differs.
  const bytes = readFileSync(model);
  bytes[bytes.length - 1] ^= 1;
  writeFileSync(model, bytes);
  const found = await load(URL_(), { sha256: createHash("sha256").update(bytes).digest("hex") });
  assert.equal(found.code, undefined, found.message);
  copyFileSync(join(tiny, "llama/model.gguf"), model);
});

test("without range requests, without a length, or from another origin, the whole file is downloaded", async () => {
  server.faults.set("/m/model.gguf", { noRange: true });
  assert.deepEqual((await load(URL_())).ids, expected);
  await page.evaluate((url) => Siskin.cache.delete(url), URL_());
  server.faults.set("/m/model.gguf", { noRange: true, cutAfter: 2000, times: 1 });
  assert.deepEqual((await load(URL_())).ids, expected);
  const other = `${server.otherOrigin}m/model.gguf`;
  server.faults.clear();
  assert.deepEqual((await load(other)).ids, expected);
});

test("downloads from a server that always breaks off, without range requests, fail", async () => {
  server.faults.set("/m/model.gguf", { noRange: true, cutAfter: 50_000 });
  const found = await load(URL_());
  assert.equal(found.code, "network", found.message);
  assert.equal(fetches().length, 5);
});

test("two tabs that load the same model download it once", async () => {
  const other = await page.context().newPage();
  await other.goto(server.url);
  await other.waitForFunction("window.ready");
  const run = (p) =>
    p.evaluate(async (url) => {
      const model = await Siskin.load(url, { device: "cpu", context: 64 });
      return (await model.generate("hello", { maxTokens: 8 })).ids;
    }, URL_());
  assert.deepEqual(await Promise.all([run(page), run(other)]), [expected, expected]);
  assert.equal(fetches().length, 1);
});

test("without space on disk, memory is used", async () => {
  const client = await page.context().newCDPSession(page);
  await client.send("Storage.overrideQuotaForOrigin", { origin: new URL(server.url).origin, quotaSize: 60_000 });
  const found = await load(URL_());
  assert.deepEqual(found.ids, expected, found.message);
  assert.deepEqual(found.cached.filter((c) => c.complete), []);
  await client.send("Storage.overrideQuotaForOrigin", { origin: new URL(server.url).origin });
});

test("without a worker the Cache API stores it", async () => {
  const found = await load(URL_(), { worker: false });
  assert.deepEqual(found.ids, expected);
  assert.deepEqual(found.cached.map((c) => c.where), ["cache"]);
  await load(URL_(), { worker: false });
  assert.equal(fetches().length, 1);
});

test("the user's files and folders", async () => {
  const found = await page.evaluate(async (base) => {
    const file = async (name) => new File([await (await fetch(`${base}tiny/llama/${name}`)).blob()], name);
    const run = async (source) => {
      const model = await Siskin.load(source, { device: "cpu", context: 64 });
      return (await model.generate("hello", { maxTokens: 8 })).ids;
    };
    const names = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"];
    return [await run(await file("model.gguf")), await run(await Promise.all(names.map(file)))];
  }, server.url);
  assert.deepEqual(found, [expected, nativeRun(join(tiny, "llama"), "hello", 8, ["--ctx", "64"]).ids]);
});

test("hub references lead to the configured hub", async () => {
  const found = await page.evaluate(
    (hub) =>
      Promise.all(
        ["hf:owner/repo/model.gguf", "hf:owner/repo@v1/model.gguf", "hf:nonsense"].map((ref) =>
          Siskin.fits(ref, { hub }).catch((e) => `${e.code} ${e.status}`),
        ),
      ),
    `${server.url}hub`,
  );
  assert.deepEqual(found, ["http 404", "http 404", "invalid_request undefined"]);
  const paths = server.requests.map((r) => r.path).filter((p) => p.startsWith("/hub"));
  assert.deepEqual(paths.sort(), ["/hub/owner/repo/resolve/main/model.gguf", "/hub/owner/repo/resolve/v1/model.gguf"]);
});

test("a SHA-256 applies to a user's file too, but not to a folder", async () => {
  const right = createHash("sha256").update(readFileSync(model)).digest("hex");
  const found = await page.evaluate(
    async ([url, folder, right]) => {
      const file = new File([await (await fetch(url)).blob()], "model.gguf");
      const load = (source, sha256) =>
        Siskin.load(source, { device: "cpu", context: 64, sha256 }).then(() => "loaded", (e) => e.code);
      return [await load(file, right), await load(file, "00".repeat(32)), await load(folder, right)];
    },
    [URL_(), `${server.url}tiny/llama/`, right],
  );
  assert.deepEqual(found, ["loaded", "integrity", "invalid_request"]);
});

test("a cached file is checked against the requested SHA-256", async () => {
  const digest = (bytes) => createHash("sha256").update(bytes).digest("hex");
  const old = readFileSync(model);
  const newer = Buffer.from(old);
  newer[newer.length - 1] ^= 1;
  // Cached without one: read once, and not downloaded again.
  await load(URL_());
  assert.deepEqual((await load(URL_(), { sha256: digest(old).toUpperCase() })).ids, expected);
  assert.equal(fetches().length, 1);
  writeFileSync(model, newer);
  for (let i = 0; i < 2; i++) assert.equal((await load(URL_(), { sha256: digest(newer) })).code, undefined);
  assert.equal(fetches().length, 2, "the new one is fetched once");
  assert.equal((await load(URL_(), { sha256: digest(old) })).code, "integrity");
  assert.equal(fetches().length, 3);
  copyFileSync(join(tiny, "llama/model.gguf"), model);
  assert.deepEqual((await load(URL_(), { sha256: digest(old) })).ids, expected, "what was refused is not kept");
});

test("a split model opens from the address of any part, and from its files", async () => {
  const names = [1, 2, 3].map((i) => `model-0000${i}-of-00003.gguf`);
  const wanted = nativeRun(join(models, "split", names[0]), "hello", 8, ["--ctx", "64"]).ids;
  const at = (name) => `${server.url}models/split/${name}`;
  assert.deepEqual((await load(at(names[1]))).ids, wanted);
  assert.match((await load(at(names[1]), { sha256: "00".repeat(32) })).message, /`sha256` is for a single file/);
  const { fits, ids, alone } = await page.evaluate(async (urls) => {
    const file = async (url) => new File([await (await fetch(url)).blob()], url.split("/").at(-1));
    const [first, second, third] = await Promise.all(urls.map(file));
    const { fits } = await Siskin.fits([third, first, second]);
    const model = await Siskin.load([third, first, second], { device: "cpu", context: 64 });
    const { ids } = await model.generate("hello", { maxTokens: 8 });
    model.unload();
    return { fits, ids, alone: await Siskin.load(first).catch((e) => `${e.code}: ${e.message}`) };
  }, names.map(at));
  assert.ok(fits);
  assert.deepEqual(ids, wanted);
  assert.match(alone, /^invalid_model: .*pass all parts/);
});

test("a cached folder needs no network, even with missing files; a file that appears later is found", async () => {
  const files = ["config.json", "model.safetensors", "tokenizer.json"];
  mkdirSync(join(folder, "kept"));
  for (const name of files) copyFileSync(join(tiny, "llama", name), join(folder, "kept", name));
  const source = `${server.url}m/kept/`;
  assert.deepEqual((await load(source)).ids, expected);
  server.faults.set("/m/kept/", { gone: true });
  const found = await load(source);
  assert.deepEqual(found.ids, expected, found.message);
  assert.deepEqual(found.cached.map((c) => c.url.split("/").at(-1)).sort(), files);
  server.faults.clear();
  writeFileSync(join(folder, "kept/chat_template.jinja"), "{{ messages[0].content }}");
  const template = await page.evaluate(async (source) => (await Siskin.load(source)).model.chatTemplate, source);
  assert.equal(template, "{{ messages[0].content }}");
});

test("fits and inspect read the header alone", async () => {
  const found = await page.evaluate(async (url) => {
    const inspected = await Siskin.inspect(url);
    const tokens = await inspected.tokenizer.encode("hello");
    const { tensors, architecture } = inspected.info;
    const roomy = await inspected.fit({ device: "cpu" });
    const tight = await inspected.fit({ device: "cpu", memory: roomy.memory.total - 1 });
    const gpu = await inspected.fit({ device: "webgpu" });
    inspected.close();
    // As hubs format it.
    const none = await Siskin.fits(`${url}?download=true`, { memory: 1000 });
    return { tokens: tokens.length, tensors: tensors.length, architecture, roomy, tight, gpu, none };
  }, URL_());
  assert.ok(found.tokens > 0 && found.tensors > 10);
  assert.equal(found.architecture, "llama");
  assert.ok(found.roomy.fits && found.gpu.fits);
  assert.ok(!found.tight.fits && found.tight.maxContext < found.tight.context && found.tight.maxContext > 0);
  assert.deepEqual([found.none.fits, found.none.maxContext], [false, 0]);
  assert.ok(fetches().every((r) => r.range), "only ranges are asked for");
});

test("bad addresses and files are typed errors", async () => {
  const hostile = Buffer.from(readFileSync(model));
  hostile.writeBigUInt64LE(2n ** 60n, 8);
  writeFileSync(join(folder, "hostile.gguf"), hostile);
  writeFileSync(join(folder, "cut.gguf"), readFileSync(model).subarray(0, 5000));
  writeFileSync(join(folder, "text.gguf"), "this is not a model");
  writeFileSync(join(folder, "empty.gguf"), "");
  server.faults.set("/m/page.gguf", { html: true });
  server.faults.set("/m/broken.gguf", { status: 503 });
  const other = `${server.otherOrigin}m/refused.gguf`;
  copyFileSync(model, join(folder, "refused.gguf"));
  server.faults.set("/m/refused.gguf", { noCors: true });
  const codes = {};
  for (const [name, source, options] of [
    ["hostile", `${server.url}m/hostile.gguf`],
    ["cut", `${server.url}m/cut.gguf`],
    ["text", `${server.url}m/text.gguf`],
    ["empty", `${server.url}m/empty.gguf`],
    ["html", `${server.url}m/page.gguf`],
    ["404", `${server.url}m/nothing.gguf`],
    ["503", `${server.url}m/broken.gguf`],
    ["cors", other],
    ["no server", "http://localhost:1/model.gguf"],
    ["no address", "http://"],
    ["no folder", `${server.url}m/`],
    ["sha", URL_(), { sha256: "00".repeat(32) }],
    ["context", URL_(), { context: 10 ** 9 }],
    ["no gpu", URL_(), { device: "abacus" }],
  ]) {
    const { code, message = "" } = await load(source, options);
    codes[name] = code;
    assert.ok(message.length > 20, `${name}: ${message}`);
  }
  assert.deepEqual(codes, {
    hostile: "invalid_model",
    cut: "invalid_model",
    text: "invalid_model",
    empty: "invalid_model",
    html: "invalid_model",
    404: "http",
    503: "http",
    cors: "network",
    "no server": "network",
    "no address": "invalid_request",
    "no folder": "http",
    sha: "integrity",
    context: "invalid_request",
    "no gpu": "invalid_request",
  });
  // A file that is not a model is not cached.
  assert.deepEqual((await page.evaluate(() => Siskin.cache.list())).filter((c) => c.complete).map((c) => c.url), [URL_()]);
  assert.deepEqual(noise.filter((n) => n.startsWith("uncaught")), []);
});

test("loading can be stopped", async () => {
  server.faults.set("/m/model.gguf", { cutAfter: 1000 });
  const found = await page.evaluate(async (url) => {
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 400);
    const early = AbortSignal.abort();
    const code = (e) => e.code;
    return [await Siskin.load(url, { signal: stop.signal }).catch(code), await Siskin.load(url, { signal: early }).catch(code)];
  }, URL_());
  assert.deepEqual(found, ["aborted", "aborted"]);
});

test("a strict Content-Security-Policy is enough", async () => {
  server.setHeaders({
    "content-security-policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'; worker-src 'self'; img-src data:",
  });
  await page.reload();
  await page.waitForFunction("window.ready");
  assert.deepEqual((await load(URL_())).ids, expected);
  assert.deepEqual(noise, []);
});
