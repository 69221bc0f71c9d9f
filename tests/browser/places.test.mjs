// Where siskin runs, or reports what to do: sandboxed frames, denied storage, a single script, other workers, Node.
import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { launch, launchProfile } from "./chromium.mjs";
import { nativeRun } from "./native.mjs";
import { root, serve } from "./server.mjs";

const { build } = createRequire(join(root, "npm/package.json"))("esbuild");
const tiny = join(root, "tests/fixtures/tiny");
const dist = join(root, "tests/browser/node_modules/siskin/dist");
const folder = mkdtempSync(join(tmpdir(), "siskin-places-"));
const expected = nativeRun(join(tiny, "llama/model.gguf"), "hello", 8, ["--ctx", "64"]).ids;
let [server, browser] = [];

/** A user's script, bundled by esbuild; it defines `run`. */
const RUN = `
import { Siskin, SiskinError } from "siskin";
globalThis.run = async (url, options, pdf) => {
  try {
    const model = await Siskin.load(url, { device: "cpu", context: 64, ...options });
    if (pdf) {
      const notes = await model.documents.open("notes");
      await notes.add({ name: "a.md", text: "# hello" });
      await notes.add(new File([await (await fetch(pdf)).blob()], "b.pdf"));
      const found = await notes.search("hello", { limit: 9 });
      notes.close();
      model.unload();
      return { names: [...new Set(found.map((p) => p.document))].sort(), where: notes.where };
    }
    const { ids } = await model.generate("hello", { maxTokens: 8 });
    model.unload();
    return { ids, kept: (await Siskin.cache.list()).length };
  } catch (e) {
    return { error: \`\${e instanceof SiskinError ? e.code : "untyped"}: \${e.message}\` };
  }
};`;

const bundle = (format, outfile, more = "") =>
  build({ stdin: { contents: RUN + more, resolveDir: join(root, "tests/browser") }, bundle: true, format, outfile: join(folder, outfile), logLevel: "error", logOverride: { "empty-import-meta": "silent" } });

before(async () => {
  const page = (name, script) => writeFileSync(join(folder, name), `<!doctype html><title>siskin</title><link rel="icon" href="data:,"><script ${script}></script>`);
  await bundle("iife", "iife.js");
  page("iife.html", 'src="iife.js"');
  await bundle("esm", "alone/esm.js");
  page("alone/index.html", 'type="module" crossorigin src="esm.js"');
  // As described in the README: the files next to the script are copied.
  mkdirSync(join(folder, "beside"));
  for (const file of readdirSync(dist).filter((f) => /\.(js|wasm)$/.test(f) && f !== "index.js")) copyFileSync(join(dist, file), join(folder, "beside", file));
  copyFileSync(join(folder, "alone/esm.js"), join(folder, "beside/esm.js"));
  page("beside/index.html", 'type="module" crossorigin src="esm.js"');
  await bundle("iife", "shared.js", `
    onconnect = ({ ports: [port] }) => (port.onmessage = async ({ data }) => port.postMessage(await run(...data)));
    onmessage = ({ data, ports: [port] }) => void run(...data).then((found) => port.postMessage(found));`);
  writeFileSync(join(folder, "frame.html"), `<!doctype html><title>siskin</title><iframe sandbox="allow-scripts" src="beside/index.html"></iframe>`);
  server = await serve({ "": folder, tiny, dist, documents: join(root, "tests/fixtures/documents") });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  server?.close();
  rmSync(folder, { recursive: true });
});

const MODEL = () => `${server.url}tiny/llama/model.gguf`;
const ON_THREAD = () => ({ worker: false, wasmUrl: `${server.url}dist/siskin_wasm_bg.wasm` });

const PDF = () => `${server.url}documents/timetable.pdf`;
const WITH_PDF = () => ({ ...ON_THREAD(), pdfWorkerUrl: `${server.url}dist/pdf-worker.js` });

/** Opens a page and runs its script with each of some options; those for PDFs add documents. */
async function runs(path, options, frame = (page) => page.mainFrame()) {
  const page = await (await browser.newContext()).newPage();
  await page.goto(server.url + path);
  const where = await frame(page);
  await where.waitForFunction("window.run");
  const found = [];
  for (const o of options) found.push(await where.evaluate((args) => run(...args), [MODEL(), o, o.pdfWorkerUrl && PDF()]));
  await page.context().close();
  return found;
}

test("a single script by a bare esbuild: the error names what to copy or set; then it answers", async () => {
  const pdf = { ...ON_THREAD(), pdfWorkerUrl: `${server.url}nowhere.js` };
  const [alone, given, lost] = await runs("alone/", [{}, ON_THREAD(), pdf]);
  assert.match(alone.error, /^internal: siskin's worker failed: .*serve the other files of siskin's dist next to the script, set `workerUrl`, or set `worker: false`/);
  assert.deepEqual(given.ids, expected, given.error);
  assert.match(lost.error, /^internal: .*nowhere\.js/);
  const [beside, elsewhere] = await runs("beside/", [{}, { pdfWorkerUrl: `${server.url}nowhere.js` }]);
  assert.deepEqual(beside, { ids: expected, kept: 1 });
  assert.match(elsewhere.error, /^internal: the worker that reads PDFs failed: its script does not load: .*`pdfWorkerUrl`/);
});

test("each worker has a name of its own, since webpack joins those of one name", () => {
  const scripts = readdirSync(dist).filter((f) => f.endsWith(".js")).map((f) => readFileSync(join(dist, f), "utf8"));
  const workers = scripts.flatMap((text) => [...text.matchAll(/new Worker\(new URL\("(.*?)", import\.meta\.url\), \{ type: "module", name: "(.*?)" \}\)/g)]);
  assert.deepEqual(workers.map(([, file]) => file).sort().reverse(), ["./worker.js", "./training-worker.js", "./pdf-worker.js"]);
  assert.equal(new Set(workers.map(([, , name]) => name)).size, 3);
});

test("an IIFE does not know its own address: the error says so, and it answers with `worker: false` and `wasmUrl`", async () => {
  const [plain, half, given] = await runs("iife.html", [{}, { worker: false }, ON_THREAD()]);
  assert.match(plain.error, /^internal: siskin's worker does not start .*set `worker: false`/);
  assert.match(half.error, /^invalid_request: .*`wasmUrl` to an absolute address, or `wasmBytes`/);
  assert.deepEqual(given, { ids: expected, kept: 1 });
});

test("a sandboxed frame has no workers of this origin and stores nothing: it answers on its own thread", async () => {
  const frame = (page) => page.frames().find((f) => f !== page.mainFrame());
  const [plain, given, documents] = await runs("frame.html", [{}, { worker: false }, WITH_PDF()], frame);
  assert.match(plain.error, /^internal: siskin's worker .*set `worker: false`/);
  assert.deepEqual(given, { ids: expected, kept: 0 });
  assert.deepEqual(documents, { names: ["a.md", "b.pdf"], where: "memory" });
});

test("a SharedWorker and a service worker have no workers: the error says so, and they answer on their own thread", async () => {
  const page = await (await browser.newContext()).newPage();
  await page.goto(`${server.url}iife.html`);
  const found = await page.evaluate(
    async ([url, options, withPdf, pdf]) => {
      const { port } = new SharedWorker("shared.js");
      await navigator.serviceWorker.register("shared.js");
      const { active } = await navigator.serviceWorker.ready;
      const ask = (...args) => new Promise((done) => ((port.onmessage = ({ data }) => done(data)), port.postMessage(args)));
      const askService = (...args) =>
        new Promise((done) => {
          const { port1, port2 } = new MessageChannel();
          port1.onmessage = ({ data }) => done(data);
          active.postMessage(args, [port2]);
        });
      const found = [await ask(url, {}), await ask(url, options), await askService(url, {}), await askService(url, options)];
      return [...found, await ask(url, withPdf, pdf)];
    },
    [MODEL(), ON_THREAD(), WITH_PDF(), PDF()],
  );
  for (const i of [0, 2]) {
    assert.match(found[i].error, /^internal: .*set `worker: false`/);
    assert.deepEqual(found[i + 1], { ids: expected, kept: 1 });
  }
  assert.deepEqual(found[4], { names: ["a.md", "b.pdf"], where: "cache" });
  await page.context().close();
});

test("where storage is denied, memory is used", async () => {
  // As in a profile that blocks cookies.
  const profile = join(folder, "profile");
  mkdirSync(join(profile, "Default"), { recursive: true });
  writeFileSync(join(profile, "Default/Preferences"), JSON.stringify({ profile: { default_content_setting_values: { cookies: 2 } } }));
  const context = await launchProfile(profile);
  const page = await context.newPage();
  await page.goto(`${server.url}beside/`);
  await page.waitForFunction("window.run");
  assert.ok(await page.evaluate(() => navigator.storage.getDirectory().then(() => false, () => true)), "the profile denies storage");
  for (const options of [{}, { worker: false }]) {
    assert.deepEqual(await page.evaluate(([url, o]) => run(url, o), [MODEL(), options]), { ids: expected, kept: 0 });
  }
  await context.close();
});

test("Node with the entry for browsers: the error names the options to set, and it answers on the CPU", async () => {
  const { Siskin, SiskinError } = await import(join(dist, "index.js"));
  const file = new Blob([readFileSync(join(tiny, "llama/model.gguf"))]);
  const wasmBytes = readFileSync(join(dist, "siskin_wasm_bg.wasm"));
  const failure = (options, source = file) => Siskin.load(source, options).then(() => "", (e) => (e instanceof SiskinError ? `${e.code}: ${e.message}` : "untyped"));
  assert.match(await failure({}), /^internal: .* has no workers; set `worker: false`/);
  assert.match(await failure({ worker: false }), /^internal: the wasm at file:.* does not start: .*`wasmBytes`/);
  assert.match(await failure({ worker: false, wasmBytes }, "model.gguf"), /^invalid_request: model\.gguf is not an address/);
  const model = await Siskin.load(file, { worker: false, wasmBytes, context: 64 });
  assert.deepEqual((await model.generate("hello", { maxTokens: 8 })).ids, expected);
  model.unload();
  const byAddress = await Siskin.load(MODEL(), { worker: false, wasmBytes, context: 64 });
  assert.deepEqual((await byAddress.generate("hello", { maxTokens: 8 })).ids, expected);
  assert.deepEqual(await Siskin.cache.list(), []);
});
