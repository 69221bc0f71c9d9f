// Documents without a browser: how they are read, cut, kept and found.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { cpSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { Siskin, SiskinError } from "siskin";

import { JAPANESE, TIMETABLE, pdf } from "../fixtures/documents/generate_pdf.mjs";
import { root } from "./server.mjs";

const fixtures = join(root, "tests/fixtures");
let folder, parts, encoder;

before(async () => {
  const { build } = createRequire(join(root, "npm/package.json"))("esbuild");
  const names = ["passages", "markdown", "html", "document-file", "answer"];
  const contents = names.map((name) => `export * from "./${name}.js";`).join("\n");
  const bundle = { bundle: true, write: false, format: "esm", platform: "node" };
  const { outputFiles } = await build({ ...bundle, stdin: { contents, resolveDir: join(root, "npm/src/documents"), loader: "ts" } });
  parts = await import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`);
  // An encoder that takes 40 tokens.
  folder = mkdtempSync(join(tmpdir(), "siskin-"));
  cpSync(join(fixtures, "encoders/bert"), folder, { recursive: true });
  for (const file of ["tokenizer.json", "tokenizer_config.json"]) cpSync(join(fixtures, "encoders", file), join(folder, file));
  encoder = await Siskin.load(folder);
});
after(() => {
  encoder?.unload();
  rmSync(folder, { recursive: true, force: true });
});

const failure = (promise) =>
  promise.then(
    () => "none",
    (e) => (e instanceof SiskinError ? `${e.code}: ${e.message}` : `untyped: ${e}`),
  );
/** Each word is a token. */
const words = (text) => [...text.matchAll(/\S+/g)].map(({ index }) => index);
const passagesOf = (text, blocks, most) =>
  parts.cut({ text, blocks }, words(text), most).map(({ start, end, ...more }) => ({ text: text.slice(start, end), ...more }));

test("Markdown is cut at headings, then between paragraphs, and code and front matter have no headings", () => {
  const text = [
    "---\ntitle: not a heading\n---\n# Trips",
    "Norway\n------",
    "One two three.",
    "Four five six.",
    "```sh\n# not a heading\n\nnor this\n```",
    "## Japan *and* [more](https://example.org)",
    "Seven.",
  ].join("\n\n");
  const found = passagesOf(text, parts.markdownText(text), 9);
  assert.deepEqual(found, [
    { text: "---\ntitle: not a heading\n---" },
    { text: "# Trips\n\nNorway\n------\n\nOne two three.", heading: "Trips > Norway" },
    { text: "Four five six.", heading: "Trips > Norway" },
    { text: "```sh\n# not a heading\n\nnor this\n```", heading: "Trips > Norway" },
    { text: "## Japan *and* [more](https://example.org)\n\nSeven.", heading: "Trips > Japan and more" },
  ]);
});

test("a long paragraph is cut between sentences, with one of overlap, and a long sentence between words", () => {
  const sentences = Array.from({ length: 9 }, (_, i) => `Sentence ${i} ends.`);
  const text = sentences.join(" ");
  const found = passagesOf(text, [{ start: 0, end: text.length }], 12);
  assert.deepEqual(found.map((p) => p.text), [
    sentences.slice(0, 4).join(" "),
    sentences.slice(3, 7).join(" "),
    sentences.slice(6).join(" "),
  ]);
  const long = Array.from({ length: 25 }, (_, i) => `word${i}`).join(" ");
  const pieces = passagesOf(long, [{ start: 0, end: long.length }], 10).map((p) => p.text);
  assert.equal(pieces.join(" "), long);
  assert.ok(pieces.every((p) => words(p).length <= 10), pieces.join("|"));
  // Without spaces, and with several tokens for each character.
  const dense = "界".repeat(50);
  const starts = Array.from(dense).flatMap((_, i) => [i, i, i]);
  const cuts = parts.cut({ text: dense, blocks: [{ start: 0, end: 50 }] }, starts, 10);
  assert.equal(cuts.map(({ start, end }) => dense.slice(start, end)).join(""), dense);
  assert.ok(cuts.every(({ start, end }) => end > start && 3 * (end - start) <= 12));
  assert.deepEqual(parts.cut({ text: "", blocks: [] }, [], 10), []);
});

test("pages are not joined, and each passage knows its own", () => {
  const text = "One.\n\nTwo.";
  const found = passagesOf(text, [{ start: 0, end: 4, page: 1 }, { start: 6, end: 10, page: 2 }], 10);
  assert.deepEqual(found, [{ text: "One.", page: 1 }, { text: "Two.", page: 2 }]);
});

test("HTML becomes its text, without what is not part of it", () => {
  const { text, blocks } = parts.htmlText(`<!doctype html><title>No</title><style>p {}</style><nav><ul><li>Home</ul></nav>
    <main><h1>Trips &amp;
      more</h1><p>The <b>ferry</b>  leaves<br>at&nbsp;nine. <script>no()</script><p hidden>No<br>no</p>
    <ul><li>One<li><p>Two</p></li><li></li></ul><pre>  a
    b</pre><table><tr><td>left<td>right</table>tail`);
  assert.equal(text, "Trips & more\n\nThe ferry leaves\nat nine.\n\n- One\n\n- Two\n\n a\n    b\n\nleft right\n\ntail");
  assert.deepEqual(blocks[0], { start: 0, end: 12, level: 1, title: "Trips & more" });
  assert.deepEqual(blocks.map(({ start, end }) => text.slice(start, end)).join("\n\n"), text);
});

test("a document's file is read as it was written, and not if it is another", () => {
  const hash = (bytes) => createHash("sha256").update(bytes).digest("hex");
  const header = { name: "a – b.md", type: "text/markdown", bytes: 3, sha256: "0", columns: 2, text: "äb", passages: [{ start: 0, end: 2 }] };
  const vectors = Float32Array.of(0.25, -1);
  const file = parts.encodeDocument({ header, vectors }, hash);
  assert.deepEqual(parts.decodeDocument(file, hash), { header, vectors });
  const wrong = (bytes) => assert.throws(() => parts.decodeDocument(bytes, hash), /cut short|damaged|not one of this version/);
  for (let length = 0; length < file.length; length++) wrong(file.slice(0, length));
  for (let at = 0; at < file.length; at++) wrong(file.map((byte, i) => (i === at ? byte ^ 1 : byte)));
  const less = parts.encodeDocument({ header, vectors: vectors.subarray(1) }, hash);
  assert.throws(() => parts.decodeDocument(less, hash), /a vector for each passage/);
});

const TEXT = `# Trips\n\n${"The ferry leaves at nine, and comes back at six. 🙂 Then we eat. ".repeat(12)}\n\n## Home\n\nWe sleep.`;

test("documents are found as their vectors say, by passages that the model takes", async () => {
  const notes = await encoder.documents.open("notes");
  const seen = [];
  assert.deepEqual(
    await notes.add({ name: "trip.md", text: TEXT }, { onProgress: (p) => seen.push(p) }),
    { name: "trip.md", type: "text/markdown", bytes: Buffer.byteLength(TEXT), passages: seen[0].total },
  );
  assert.equal(notes.where, "memory");
  assert.deepEqual([seen[0].done, seen.at(-1)], [0, { document: "trip.md", done: seen[0].total, total: seen[0].total }]);
  await notes.add(new File([TIMETABLE], "timetable.pdf"));
  await notes.add(new File(["<h1>Prices</h1><p>Forty crowns."], "prices.html"));
  const all = await notes.search("ferry", { limit: 100 });
  assert.equal(all.length, notes.list().reduce((sum, { passages }) => sum + passages, 0));
  const { data } = await encoder.embeddings.create({ input: all.map((p) => p.text) });
  const query = (await encoder.embeddings.create({ input: "ferry", prompt: "query" })).data[0].embedding;
  all.forEach(({ document, text, start, end, score }, i) => {
    const cosine = data[i].embedding.reduce((sum, v, j) => sum + v * query[j], 0);
    assert.ok(Math.abs(cosine - score) < 1e-5, `${text}: ${score} is not ${cosine}`);
    assert.ok(i === 0 || score <= all[i - 1].score);
    if (document === "trip.md") assert.equal(TEXT.slice(start, end), text);
  });
  for (const { text } of all) assert.ok((await encoder.tokenizer.encode(text)).length <= 40, text);
  assert.deepEqual((await notes.search("ferry", { limit: 2 })).map((p) => p.text), all.slice(0, 2).map((p) => p.text));
  const paged = all.filter((p) => p.document === "timetable.pdf");
  assert.deepEqual([...new Set(paged.map(({ page }) => page))].sort(), [1, 2]);
  // A word that was broken at the end of a line is whole.
  assert.ok(paged.some((p) => p.page === 1 && p.text.includes("nine in the morning, and comes back")));
  assert.ok(all.some((p) => p.heading === "Trips > Home" && p.text === "## Home\n\nWe sleep."));
  assert.ok(all.some((p) => p.heading === "Prices" && p.document === "prices.html"));

  // What is known is not embedded again, under whatever name.
  const again = [];
  await notes.add({ name: "trip.md", text: TEXT }, { onProgress: (p) => again.push(p) });
  await notes.add({ name: "copy.md", text: TEXT }, { onProgress: (p) => again.push(p) });
  assert.deepEqual(again, []);
  assert.deepEqual(notes.list().map((d) => d.name), ["trip.md", "timetable.pdf", "prices.html", "copy.md"]);
  // What has changed is, and takes the place of what it was.
  await notes.add({ name: "trip.md", text: "We stay at home." }, { onProgress: (p) => again.push(p) });
  assert.equal(again.length, 2);
  assert.deepEqual([await notes.remove("copy.md"), await notes.remove("copy.md")], [true, false]);
  const left = await notes.search("ferry", { limit: 100 });
  assert.deepEqual([...new Set(left.map((p) => p.document))].sort(), ["prices.html", "timetable.pdf", "trip.md"]);
  assert.equal(left.find((p) => p.document === "trip.md").text, "We stay at home.");
  notes.close();
  assert.equal(await failure(notes.search("a")), "unloaded: the index notes was closed");
});

test("a chat model's own states serve, also after it was opened again to train", async () => {
  const chat = await Siskin.load(join(fixtures, "tiny/llama"), { context: 64 });
  const notes = await chat.documents.open("own");
  await notes.add({ name: "a.txt", text: "the ferry" });
  await notes.add({ name: "b.txt", text: "a train" });
  const before = await notes.search("the ferry");
  await chat.planTraining([{ text: "hello" }], { steps: 1 });
  assert.deepEqual(await notes.search("the ferry"), before);
  assert.equal(before[0].document, "a.txt");
  assert.ok(Math.abs(before[0].score - 1) < 1e-5);
  notes.close();
  chat.unload();
});

test("nothing is kept of a document that is stopped", async () => {
  const notes = await encoder.documents.open("stopped");
  const stop = new AbortController();
  const added = notes.add({ name: "a.md", text: TEXT }, { signal: stop.signal, onProgress: () => stop.abort() });
  assert.equal(await failure(added), "aborted: aborted by the page");
  assert.deepEqual([notes.list(), await notes.search("ferry")], [[], []]);
  notes.close();
});

test("what cannot be read is refused by its name", async () => {
  const notes = await encoder.documents.open("refused");
  const add = (contents, name, type) => failure(notes.add(new File([contents], name, { type })));
  assert.match(await add("a,b", "table.csv", "text/csv"), /^invalid_request: table\.csv is of the type text\/csv; documents are text\/plain, .*\.pdf\)$/);
  assert.match(await add("a", "noname"), /^invalid_request: noname is of an unknown type/);
  assert.match(await add(Uint8Array.of(0xff, 0xfe, 0x41), "a.txt"), /^invalid_request: a\.txt is not UTF-8/);
  assert.match(await add(" \n", "empty.md"), /^invalid_request: empty\.md has no text$/);
  assert.match(await add("<nav>Home</nav>", "menu.html"), /^invalid_request: menu\.html has no text$/);
  assert.match(await add("no", "no.pdf"), /^invalid_request: no\.pdf is damaged, or not a PDF/);
  assert.match(await add(TIMETABLE.slice(0, 700), "cut.pdf"), /^invalid_request: cut\.pdf is damaged, or not a PDF/);
  assert.match(await add(pdf([["a"]], { isEncrypted: true }), "secret.pdf"), /^invalid_request: secret\.pdf is encrypted/);
  assert.match(await add(pdf([[], []]), "scan.pdf"), /^invalid_request: scan\.pdf has no text: its pages are images/);
  assert.match(await add(pdf([["abc"]], { font: JAPANESE }), "old.pdf"), /^invalid_request: old\.pdf has text in 90ms-RKSJ-H/);
  assert.match(await failure(notes.add({ name: "a", text: "a", type: "text/rtf" })), /^invalid_request: a is of the type text\/rtf/);
  assert.match(await failure(notes.add({ name: "a.pdf", text: "a" })), /^invalid_request: a\.pdf .*a PDF must be a file/);
  assert.match(await failure(notes.add({ name: "a", content: "a" })), /^invalid_request: .*`content`/);
  assert.match(await failure(notes.add(new Blob(["a"]))), /^invalid_request: .*`name`/);
  assert.match(await failure(notes.add({ name: "a", text: "a" }, { progress: 1 })), /^invalid_request: .*`progress`/);
  assert.match(await failure(notes.search(" ")), /^invalid_request: `query`/);
  assert.match(await failure(notes.search("a", { limit: 0 })), /^invalid_request: `limit` is 0/);
  assert.match(await failure(notes.answer({ messages: [] })), /^invalid_request: `messages`/);
  assert.deepEqual(notes.list(), []);
  notes.close();
  assert.match(await failure(encoder.documents.open("")), /^invalid_request: "" is not a name/);
  assert.match(await failure(encoder.documents.open("a", { model: encoder })), /^invalid_request: .*`model`/);
});

/** A model whose tokens are words, and that takes so many of them; what it was asked is in `asked`. */
function model(context, chatTemplate = "") {
  const encoder = new TextEncoder();
  const tokens = (text) =>
    [...text.matchAll(/\S+/g)].map(({ index, 0: word }) => ({ end: encoder.encode(text.slice(0, index + word.length)).length }));
  const asked = [];
  const create = async (request) => {
    asked.push(request);
    const prompt = request.messages.map((m) => m.content).join(" ");
    if (tokens(prompt).length > context) throw Object.assign(new Error("too long"), { code: "prompt_too_long" });
    return { choices: [] };
  };
  return { asked, model: { chatTemplate }, info: async () => ({ context }), tokenizer: { encode: async (t) => tokens(t) }, chat: { completions: { create } } };
}
const passage = (text, score = 0.5) => ({ document: "a.md", heading: "Trips", text, start: 10, end: 10 + text.length, score });
const messages = [{ role: "system", content: "Be brief." }, { role: "user", content: [{ type: "text", text: "When?" }] }];

test("a model gets passages as its template reads them, or in the system's message", async () => {
  const search = async (query, limit) => {
    assert.deepEqual([query, limit], ["When?", 3]);
    return [passage("At nine."), passage("No.", 0.05)];
  };
  const plain = model(4096);
  const answered = await parts.answer(plain, search, { messages, limit: 3, top_k: 7 }, {});
  assert.deepEqual(answered.sources, [passage("At nine.")]);
  const [{ content }, user] = plain.asked[0].messages;
  assert.match(content, /^Be brief\.\n\n\[1\] a\.md, Trips:\nAt nine\.\n\nAnswer .*\.$/s);
  assert.deepEqual([user, plain.asked[0].top_k, "limit" in plain.asked[0]], [messages[1], 7, false]);
  const reads = model(4096, "{% for d in documents %}{{ d.text }}{% endfor %}");
  const kwargs = { enable_thinking: false };
  await parts.answer(reads, search, { messages, limit: 3, chat_template_kwargs: kwargs }, {});
  const documents = [{ doc_id: 1, title: "a.md, Trips", text: "At nine." }];
  assert.deepEqual(reads.asked[0], { messages, chat_template_kwargs: { ...kwargs, documents } });
  const none = model(4096);
  const without = await parts.answer(none, async () => [passage("No.", 0.05)], { messages }, {});
  assert.deepEqual([without.sources, none.asked], [[], [{ messages }]]);
  const own = parts.answer(reads, search, { messages, limit: 3, chat_template_kwargs: { documents } }, {});
  await assert.rejects(own, /`chat_template_kwargs\.documents`/);
});

test("passages take what the conversation leaves of the context", async () => {
  const long = (word) => Array.from({ length: 60 }, () => word).join(" ");
  const found = async () => [passage(long("ä🙂")), passage(long("two")), passage(long("three"))];
  const some = model(400);
  const { sources } = await parts.answer(some, found, { messages, max_tokens: 80 }, {});
  assert.equal(sources.length, 3);
  assert.deepEqual(sources[0], passage(long("ä🙂")));
  const part = sources[2];
  assert.ok(part.text.length < long("three").length && long("three").startsWith(part.text) && part.end === 10 + part.text.length);
  // A conversation that leaves no room is answered without any.
  const full = model(150);
  assert.deepEqual((await parts.answer(full, found, { messages }, {})).sources, []);
  // What the template adds is not known: fewer are tried.
  const small = model(400);
  small.info = async () => ({ context: 1000 });
  const busy = [{ role: "user", content: long("said") + long(" said") + long(" said") + long(" said") + long(" said") }];
  const fewer = await parts.answer(small, found, { messages: busy, max_tokens: 1 }, {});
  assert.ok(small.asked.length > 1 && fewer.sources.length > 0, String(small.asked.length));
  // What is too long by itself is refused as it is without documents.
  await assert.rejects(parts.answer(model(3), found, { messages: busy }, {}), { code: "prompt_too_long" });
});
