// Documents in a page: the documented quick start, and how they are kept.
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { launch, openPage } from "./chromium.mjs";
import { root, serve } from "./server.mjs";

const fixtures = join(root, "tests/fixtures");
let server, browser, folder;

before(async () => {
  // The fixture with the tokenizer that all of its kind share.
  folder = mkdtempSync(join(tmpdir(), "siskin-"));
  cpSync(join(fixtures, "encoders/bert"), folder, { recursive: true });
  for (const file of ["tokenizer.json", "tokenizer_config.json"]) cpSync(join(fixtures, "encoders", file), join(folder, file));
  server = await serve({
    "": join(root, "tests/browser/dist"),
    models: join(root, "models"),
    encoders: join(fixtures, "encoders"),
    bert: folder,
    documents: join(fixtures, "documents"),
  });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  server?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** A page in which a model is loaded, with helpers. */
async function visit(model, context) {
  const visited = await openPage(browser, server.url, { context });
  await visited.page.evaluate(async (url) => {
    window.failure = (promise) => promise.then(() => "none", (e) => `${e instanceof SiskinError ? e.code : "untyped"}: ${e.message}`);
    window.fileOf = async (url, name) => new File([await (await fetch(url)).blob()], name);
    window.siskin = await Siskin.load(url, { device: "cpu" });
  }, server.url + model);
  return visited;
}

/** Of a quiet package. A missing side file is not an error, although the browser reports it. */
const quiet = (noise) => assert.deepEqual(noise.filter((n) => !n.includes("404")), []);

test("the quick start: documents are added, searched and asked, and found again after a reload", async () => {
  const { page, context, noise } = await visit("models/smollm2-135m-instruct.gguf");
  const first = await page.evaluate(async () => {
    const notes = await siskin.documents.open("notes");
    const seen = [];
    const onProgress = ({ document, done, total }) => seen.push(`${document} ${done}/${total}`);
    const text = "# Food\n\nWe eat ramen in Tokyo.\n\n# Museums\n\nThe museum of ships is closed on Mondays.";
    await notes.add({ name: "trip.md", text }, { onProgress });
    await notes.add(await fileOf("documents/timetable.pdf", "timetable.pdf"), { onProgress });
    const passages = await notes.search("When does the ferry leave?", { limit: 3 });
    // The same by hand.
    const create = async (input) => (await siskin.embeddings.create({ input, pooling: "mean" })).data.map((d) => d.embedding);
    const all = await notes.search("When does the ferry leave?", { limit: 100 });
    const [query, ...rows] = await create(["When does the ferry leave?", ...all.map((p) => p.text)]);
    const off = all.map(({ score }, i) => Math.abs(score - rows[i].reduce((sum, v, j) => sum + v * query[j], 0)));
    const messages = [{ role: "user", content: "When does the ferry leave?" }];
    const whole = await notes.answer({ messages, limit: 2, max_tokens: 24 });
    const stream = await notes.answer({ messages, limit: 2, max_tokens: 24, stream: true });
    const early = stream.sources;
    let streamed = "";
    for await (const { choices } of stream) streamed += choices[0]?.delta.content ?? "";
    const refused = await failure(notes.answer({ messages, limits: 2 }));
    const listed = notes.list();
    notes.close();
    return { where: notes.where, listed, seen, passages, off, count: all.length, whole, early, streamed, refused };
  });
  assert.equal(first.where, "opfs");
  assert.deepEqual(first.listed.map(({ name, type, passages }) => [name, type, passages]), [
    ["trip.md", "text/markdown", 2],
    ["timetable.pdf", "application/pdf", 2],
  ]);
  assert.deepEqual(first.seen, ["trip.md 0/2", "trip.md 2/2", "timetable.pdf 0/2", "timetable.pdf 2/2"]);
  assert.equal(first.count, 4);
  assert.ok(Math.max(...first.off) < 1e-4, first.off.join());
  const [best] = first.passages;
  assert.deepEqual([best.document, best.page], ["timetable.pdf", 1]);
  assert.match(best.text, /leaves at nine in the morning, and comes back at six\.$/);
  assert.match(first.whole.choices[0].message.content, /nine/);
  assert.deepEqual(first.whole.sources, first.passages.slice(0, 2));
  assert.deepEqual(first.early, first.whole.sources);
  assert.equal(first.streamed, first.whole.choices[0].message.content);
  assert.match(first.refused, /^invalid_request: .*limits/);
  await page.close();

  const again = await visit("models/smollm2-135m-instruct.gguf", context);
  const second = await again.page.evaluate(async () => {
    const notes = await siskin.documents.open("notes");
    const listed = notes.list();
    const [best] = await notes.search("When does the ferry leave?", { limit: 1 });
    const seen = [];
    await notes.add(await fileOf("documents/timetable.pdf", "timetable.pdf"), { onProgress: (p) => seen.push(p) });
    const removed = await notes.remove("trip.md");
    const left = await notes.search("When does the ferry leave?", { limit: 9 });
    notes.close();
    const cached = (await Siskin.cache.list()).map(({ url }) => url);
    return { listed, best, seen, removed, left: left.map((p) => p.document), cached };
  });
  assert.deepEqual(second.listed, first.listed);
  assert.deepEqual(second.best, best);
  assert.deepEqual(second.seen, []);
  assert.ok(second.removed);
  assert.deepEqual(second.left, ["timetable.pdf", "timetable.pdf"]);
  assert.deepEqual(second.cached, [`${server.url}models/smollm2-135m-instruct.gguf`]);
  await context.close();
  quiet([...noise, ...again.noise]);
});

test("kept documents: two tabs, a full disk, damage, another embedder", async () => {
  const one = await visit("bert/");
  const two = await visit("bert/", one.context);
  const open = () => two.page.evaluate(async () => {
    const notes = await siskin.documents.open("kept");
    const found = { names: notes.list().map((d) => d.name).sort(), damaged: notes.damaged, all: await notes.search("ferry", { limit: 99 }) };
    notes.close();
    return found;
  });
  // Both tabs add at once, one document each and one of the same name.
  const add = (text) => async (own) => {
    const notes = await siskin.documents.open("kept");
    await Promise.all([notes.add({ name: "both.md", text: own }), notes.add({ name: `${own}.md`, text: `the ferry of ${own}` })]);
    window.notes = notes;
  };
  await Promise.all([one.page.evaluate(add(), "one"), two.page.evaluate(add(), "two")]);
  const both = await open();
  assert.deepEqual([both.names, both.damaged, both.all.length], [["both.md", "one.md", "two.md"], [], 3]);
  assert.ok(["one", "two"].includes(both.all.find((p) => p.document === "both.md").text));

  // A full disk leaves everything as it was.
  const session = await one.context.newCDPSession(one.page);
  await session.send("Storage.overrideQuotaForOrigin", { origin: new URL(server.url).origin, quotaSize: 1 });
  const full = await one.page.evaluate(async () => {
    const before = notes.list();
    return { error: await failure(notes.add({ name: "both.md", text: "three" })), before, after: notes.list() };
  });
  await session.send("Storage.overrideQuotaForOrigin", { origin: new URL(server.url).origin });
  assert.match(full.error, /^storage: both\.md was not added: the origin's storage is full/);
  assert.deepEqual(full.after, full.before);
  assert.deepEqual(await open(), both);

  // A file that is damaged or cut short is not believed, and not forgotten.
  await one.page.evaluate(async () => {
    const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("siskin-documents-kept");
    for await (const [name, handle] of folder) {
      if (!name.endsWith(".json")) continue;
      const { url } = JSON.parse(await (await handle.getFile()).text());
      const data = await folder.getFileHandle(name.slice(0, -".json".length));
      const { size } = await data.getFile();
      const writer = await data.createWritable({ keepExistingData: true });
      if (url.endsWith("/one.md")) await writer.truncate(size - 4);
      if (url.endsWith("/two.md")) await writer.write({ type: "write", position: size - 8, data: Uint8Array.of(1, 2, 3) });
      await writer.close();
    }
  });
  const damaged = await open();
  assert.deepEqual(damaged.names, ["both.md"]);
  assert.deepEqual(damaged.damaged.sort((a, b) => (a.name < b.name ? -1 : 1)), [
    { name: "one.md", reason: "its file is cut short" },
    { name: "two.md", reason: "its file is damaged: its checksum is another" },
  ]);
  const mended = await one.page.evaluate(async () => {
    const notes = await siskin.documents.open("kept");
    await notes.add({ name: "one.md", text: "the ferry of one" });
    await notes.remove("two.md");
    notes.close();
    return notes.damaged;
  });
  assert.deepEqual(mended, []);
  assert.deepEqual((await open()).names, ["both.md", "one.md"]);

  // Vectors of different models cannot be compared.
  const other = await one.page.evaluate(async (url) => {
    const embedder = await Siskin.load(url, { device: "cpu" });
    const error = await failure(siskin.documents.open("kept", { embedder }));
    notes.close();
    await siskin.documents.delete("kept");
    const fresh = await siskin.documents.open("kept", { embedder });
    await fresh.add({ name: "a.txt", text: "the ferry" });
    const found = await fresh.search("ferry");
    fresh.close();
    // Outside a worker, the file system cannot be written.
    const here = await Siskin.load(url, { device: "cpu", worker: false });
    const cached = await here.documents.open("here");
    await cached.add({ name: "a.txt", text: "the ferry" });
    cached.close();
    const reopened = await here.documents.open("here");
    const kept = { where: reopened.where, names: reopened.list().map((d) => d.name) };
    return { error, texts: found.map((p) => p.text), kept };
  }, `${server.url}encoders/modernbert/model.gguf`);
  assert.match(other.error, /^invalid_request: the vectors of the index kept were made by bert \(bert, .* mean pooling\), not by model\.gguf \(modern-bert, .* cls pooling\); .*`documents\.delete\("kept"\)`$/);
  assert.deepEqual(other.texts, ["the ferry"]);
  assert.deepEqual(other.kept, { where: "cache", names: ["a.txt"] });
  await one.context.close();
  quiet([...one.noise, ...two.noise]);
});
