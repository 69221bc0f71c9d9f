// Embeddings and scores: the command line's, in OpenAI's shape.
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { launch, openPage } from "./chromium.mjs";
import { nativeEmbed, nativeRerank } from "./native.mjs";
import { root, serve } from "./server.mjs";

const fixtures = join(root, "tests/fixtures");
const TEXTS = ["How do I reset my password?", "Password recovery", "a"];
const QUERY = "Where is the stadium?";
let [server, browser, page, noise, folder] = [];

before(async () => {
  // The fixture with the tokenizer that all of its kind share.
  folder = mkdtempSync(join(tmpdir(), "siskin-"));
  cpSync(join(fixtures, "encoders/bert"), folder, { recursive: true });
  for (const file of ["tokenizer.json", "tokenizer_config.json"]) cpSync(join(fixtures, "encoders", file), join(folder, file));
  server = await serve({ "": join(root, "tests/browser/dist"), encoders: join(fixtures, "encoders"), bert: folder, tiny: join(fixtures, "tiny") });
  browser = await launch();
  ({ page, noise } = await openPage(browser, server.url));
  await page.evaluate((url) => {
    window.open = (path, more) => Siskin.load(url + path, { device: "cpu", ...more });
    window.failure = (promise) => promise.then(() => "none", (e) => `${e instanceof SiskinError ? e.code : "untyped"}: ${e.message}`);
  }, server.url);
});
after(async () => {
  await browser?.close();
  server?.close();
  rmSync(folder, { recursive: true, force: true });
  // A missing side file is not an error, although the browser reports it.
  assert.deepEqual(noise.filter((n) => !n.includes("404")), []);
});

const close = (found, wanted, what) =>
  found.forEach((v, i) => assert.ok(Math.abs(v - wanted[i]) < 1e-5, `${what}: at ${i}: ${v} is not ${wanted[i]}`));

for (const [name, url, path] of [
  ["a folder", "bert/", () => folder],
  ["a GGUF file", "encoders/modernbert/model.gguf", () => join(fixtures, "encoders/modernbert/model.gguf")],
]) {
  test(`embeddings of ${name} are the command line's, on WebGPU and on the CPU`, async () => {
    const wanted = nativeEmbed(path(), TEXTS);
    for (const [device, profile] of [["cpu"], ["webgpu", "base"], ["webgpu", "cpu"]]) {
      const found = await page.evaluate(
        async ([url, texts, device, profile]) => {
          const model = await open(url, { device, profile });
          const all = await model.embeddings.create({ input: texts });
          const one = await model.embeddings.create({ input: texts[1], model: "mine", dimensions: 8, encoding_format: "base64" });
          const { makes, pooling } = model.model;
          model.unload();
          return { all, one, makes, pooling };
        },
        [url, TEXTS, device, profile],
      );
      const what = `${url} ${device} ${profile ?? ""}`;
      assert.equal(found.makes, "embeddings");
      assert.equal(found.pooling, url === "bert/" ? "mean" : "cls");
      assert.deepEqual([found.all.object, found.all.usage], ["list", wanted.usage], what);
      assert.deepEqual(found.all.data.map((d) => [d.object, d.index]), TEXTS.map((_, i) => ["embedding", i]));
      found.all.data.forEach((d, i) => close(d.embedding, wanted.data[i].embedding, what));
      const bytes = Buffer.from(found.one.data[0].embedding, "base64");
      const first = wanted.data[1].embedding.slice(0, 8);
      const length = Math.hypot(...first);
      assert.equal(found.one.model, "mine");
      assert.equal(bytes.length, 32);
      close(first.map((_, i) => bytes.readFloatLE(4 * i)), first.map((v) => v / length), what);
    }
  });
}

test("documents are sorted by their scores, which are the command line's", async () => {
  const path = "encoders/xlm-roberta_rerank/model.gguf";
  const wanted = nativeRerank(join(fixtures, path), QUERY, TEXTS);
  const found = await page.evaluate(
    async ([path, query, documents]) => {
      const model = await open(path);
      const all = await model.rerank({ query, documents });
      const best = await model.rerank({ query, documents, top_n: 1 });
      const refused = await failure(model.embeddings.create({ input: "a" }));
      model.unload();
      return { all, best, refused };
    },
    [path, QUERY, TEXTS],
  );
  assert.deepEqual(found.all.results.map((r) => [r.index, r.document.text]), wanted.results.map((r) => [r.index, r.document.text]));
  close(found.all.results.map((r) => r.relevance_score), wanted.results.map((r) => r.relevance_score), "scores");
  assert.deepEqual(found.best.results, found.all.results.slice(0, 1));
  assert.match(found.refused, /^invalid_request: .*scores.*`rerank`/);
});

test("a model for text is pooled as asked, and still answers", async () => {
  const found = await page.evaluate(async () => {
    const model = await open("tiny/llama/", { context: 64 });
    const before = await model.generate("a", { maxTokens: 4 });
    const refused = await failure(model.embeddings.create({ input: "a" }));
    const { data } = await model.embeddings.create({ input: ["a", "the quick brown fox"], pooling: "last" });
    const after = await model.generate("a", { maxTokens: 4 });
    const { makes } = model.model;
    model.unload();
    return { refused, lengths: data.map((d) => Math.hypot(...d.embedding)), before: before.ids, after: after.ids, makes };
  });
  assert.equal(found.makes, "text");
  assert.match(found.refused, /^invalid_request: .*set `pooling`/);
  found.lengths.forEach((length) => assert.ok(Math.abs(length - 1) < 1e-5));
  assert.deepEqual(found.after, found.before);
});

test("what a request asks for works, or is refused by the name of its field", async () => {
  const found = await page.evaluate(async () => {
    const model = await open("bert/");
    const create = (request) => failure(model.embeddings.create(request));
    const found = {
      input: await create({ input: [1, 2] }),
      none: await create({ input: [] }),
      field: await create({ input: "a", dimension: 3 }),
      dimensions: await create({ input: "a", dimensions: 1.5 }),
      many: await create({ input: "a", dimensions: 99 }),
      format: await create({ input: "a", encoding_format: "int8" }),
      pooling: await create({ input: "a", pooling: "max" }),
      prompt: await create({ input: "a", prompt: "passage" }),
      long: await create({ input: "password ".repeat(50) }),
      cut: await create({ input: "password ".repeat(50), truncate: true, user: "me" }),
      chat: await failure(model.chat.completions.create({ messages: [{ role: "user", content: "Hi" }] })),
      generate: await failure(model.generate("a")),
      rerank: await failure(model.rerank({ query: "a", documents: ["b"] })),
      documents: await failure(model.rerank({ query: "a", documents: "b" })),
    };
    model.unload();
    return found;
  });
  const wanted = {
    input: /^invalid_request: `input`/,
    none: /^invalid_request: `input`/,
    field: /^invalid_request: .*`dimension`/,
    dimensions: /^invalid_request: `dimensions` is 1.5/,
    many: /^invalid_request: 99 dimensions .* 32/,
    format: /^invalid_request: `encoding_format`/,
    pooling: /^invalid_request: `pooling` is max/,
    prompt: /^invalid_request: .*`passage`.*query/,
    long: /^prompt_too_long: text 1 has .* takes 40; .*`truncate`/,
    cut: /^none$/,
    chat: /^invalid_request: .*`embeddings.create`/,
    generate: /^invalid_request: .*`embeddings.create`/,
    rerank: /^invalid_request: .*no scores/,
    documents: /^invalid_request: `documents`/,
  };
  for (const [what, pattern] of Object.entries(wanted)) assert.match(found[what], pattern, what);
});
