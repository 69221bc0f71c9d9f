// The packed package in Node: by path and address, in a thread of its own and on the calling one.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, openAsBlob, readFileSync, rmSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";

import { embed, embedMany } from "ai";
import { rewards, Siskin, SiskinError } from "siskin";
import { createSiskin } from "siskin/ai-sdk";

import { nativeRun } from "./native.mjs";
import { root, serve } from "./server.mjs";

const tiny = join(root, "tests/fixtures/tiny");
const gguf = join(tiny, "llama/model.gguf");
const expected = nativeRun(gguf, "hello", 8, ["--ctx", "64"]).ids;
const folder = mkdtempSync(join(tmpdir(), "siskin-node-"));
let server;

before(async () => {
  server = await serve({ tiny });
});
after(() => {
  server?.close();
  rmSync(folder, { recursive: true });
});

const failure = (source, options) =>
  Siskin.load(source, options).then(
    (model) => model.unload(),
    (e) => (e instanceof SiskinError ? `${e.code}: ${e.message}` : `untyped: ${e}`),
  );

test("a script answers by a relative path, and ends by itself", () => {
  const script = `
    import { Siskin } from "siskin";
    const siskin = await Siskin.load("../../models/smollm2-135m-instruct.gguf");
    const stream = await siskin.chat.completions.create({
      messages: [{ role: "user", content: "What is the capital of France?" }],
      temperature: 0,
      stream: true,
    });
    for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
    siskin.unload();`;
  const options = { cwd: join(root, "tests/browser"), encoding: "utf8", timeout: 120_000, stdio: ["ignore", "pipe", "pipe"] };
  assert.equal(execFileSync(process.execPath, ["--input-type=module", "-e", script], options), "The capital of France is Paris.");
});

test("the command line's tokens: a file, a folder, a file: URL, an address, a folder with one GGUF file, on either thread", async () => {
  const spaced = join(folder, "a folder #1");
  mkdirSync(spaced);
  copyFileSync(gguf, join(spaced, "a model.gguf"));
  const sources = [gguf, relative(process.cwd(), gguf), join(tiny, "llama"), pathToFileURL(gguf), `${server.url}tiny/llama/`, spaced];
  for (const source of sources) {
    const model = await Siskin.load(source, { context: 64 });
    assert.deepEqual((await model.generate("hello", { maxTokens: 8 })).ids, expected, String(source));
    assert.equal((await model.info()).device, "cpu");
    model.unload();
  }
  const sha256 = createHash("sha256").update(readFileSync(gguf)).digest("hex");
  for (const source of [gguf, await openAsBlob(gguf)]) {
    const model = await Siskin.load(source, { context: 64, worker: false, sha256 });
    assert.deepEqual((await model.generate("hello", { maxTokens: 8 })).ids, expected);
    model.unload();
  }
  assert.deepEqual(await Siskin.cache.list(), []);
});

test("a large file is read by range", async () => {
  const large = join(folder, "large.gguf");
  copyFileSync(gguf, large);
  // 5 GiB that take no space on disc: more than one Buffer can hold.
  truncateSync(large, 5 * 2 ** 30);
  const model = await Siskin.load(large, { context: 64 });
  assert.deepEqual((await model.generate("hello", { maxTokens: 8 })).ids, expected);
  model.unload();
});

test("headers alone, and training", async () => {
  const inspected = await Siskin.inspect(gguf);
  assert.equal(inspected.info.architecture, "llama");
  inspected.close();
  assert.ok((await Siskin.fits(gguf)).fits);
  const model = await Siskin.load(gguf, { context: 64 });
  const losses = [];
  for await (const { loss } of model.train([{ text: "hello world" }], { steps: 3, learningRate: 0.01 })) losses.push(loss);
  assert.equal(losses.length, 3);
  assert.ok(losses[2] < losses[0], losses.join());
  // Another adapter would end the run; without a run, it may be tried.
  await assert.rejects(model.nextLogits("hello", { adapter: null }), /^SiskinError: a training run is using the model/);
  await model.adapters.use(null);
  assert.equal((await model.nextLogits("hello", { adapter: null })).length, model.model.vocabSize);
  const pairs = [
    { prompt: "a", chosen: "b", rejected: "c" },
    { prompt: [{ role: "user", content: "d" }], chosen: [{ role: "assistant", content: "e" }], rejected: "f" },
  ];
  await assert.rejects(() => model.train(pairs, { objective: "dpo", steps: 1 }).summary(), /examples\[1\]: one of `chosen` and `rejected` is a text/);
  const both = `${JSON.stringify(pairs[0])}\n{"text":"a"}\n`;
  const [answers, preferences] = [await model.dataset("a.jsonl", both), await model.preferences("a.jsonl", both)];
  assert.deepEqual(answers.records.map((r) => r.line).concat(answers.bad.map((b) => b.line)), [2, 1]);
  assert.deepEqual(preferences.records, [{ line: 1, ...pairs[0] }]);
  const good = [pairs[0], { ...pairs[1], rejected: [{ role: "assistant", content: "f" }] }];
  const options = { objective: "dpo", beta: 0.1, lossType: "sigmoid", steps: 3, learningRate: 0.01, warmupSteps: 0, validation: 0 };
  const margins = [];
  for await (const step of model.train(good, options)) margins.push(step["rewards/margins"]);
  assert.ok(Math.abs(margins[0]) < 1e-4 && margins[2] > margins[0], margins.join());
  model.unload();
});

test("answers that the model draws are rewarded by a function", async () => {
  const model = await Siskin.load(gguf, { context: 64 });
  const prompts = [{ prompt: "hello", wanted: 3 }, { prompt: "a b", answer: "c" }, { prompt: [{ role: "user", content: "d" }] }];
  const options = { objective: "grpo", steps: 2, batchSize: 2, numGenerations: 4, maxCompletionLength: 6, rank: 2, validation: 0.3, warmupSteps: 0 };
  const seen = [];
  const letters = async (answers) => {
    seen.push(answers);
    return answers.map(({ completion }) => [...completion].filter((c) => /[a-z]/.test(c)).length);
  };
  const run = model.train(prompts, { ...options, reward: letters });
  const steps = [];
  for await (const step of run) steps.push(step);
  assert.equal(steps.length, 2);
  for (const [i, step] of steps.entries()) {
    const found = await letters(seen[i]);
    const mean = found.reduce((sum, r) => sum + r, 0) / found.length;
    assert.equal(seen[i].length, 8);
    assert.ok(Math.abs(step.reward - mean) < 1e-5 && step.gradNorm > 0 && step.drawingSeconds > 0, JSON.stringify(step));
    assert.ok(step["completions/meanLength"] <= 6 && step.fracRewardZeroStd <= 1);
  }
  const all = seen.flat();
  assert.ok(all.every((a) => typeof a.completion === "string" && typeof a.truncated === "boolean"));
  assert.ok(all.some((a) => a.wanted === 3 || a.answer === "c"));
  assert.equal(typeof (await run.heldOutReward()), "number");
  const failure = (reward, more = {}) => model.train(prompts, { ...options, ...more, reward })[Symbol.asyncIterator]().next();
  const judged = JSON.parse(readFileSync(join(root, "tests/fixtures/rewards/judged.json"), "utf8"));
  for (const { reward, is, ...answer } of judged) assert.deepEqual(rewards[reward]([answer]), [is], JSON.stringify(answer));
  assert.deepEqual(rewards.matches(/^\d+$/g)([{ completion: "12" }, { completion: "a 12" }, { completion: "3" }]), [1, 0, 1]);
  assert.throws(() => rewards.answer([{ line: 4, completion: "a" }]), /example 4 has no answer/);
  await assert.rejects(failure((a) => a.map(() => NaN)), /the reward of an answer to record \d is NaN/);
  await assert.rejects(failure((a) => a.map(() => 1)), /all 8 answers of the first step have the reward 1/);
  await assert.rejects(failure((a) => a.map(() => "1")), /the reward of answer 1 is 1, which is no number/);
  await assert.rejects(failure(() => undefined), /must return a number for each answer/);
  await assert.rejects(failure("json"), /must be a function/);
  await assert.rejects(failure(() => []), /0 rewards for 8 answers/);
  await assert.rejects(failure(undefined), /need a `reward`/);
  await assert.rejects(failure(letters, { objective: "sft" }), /no other has one/);
  model.unload();
});

test("guesses of repeated tokens change no answer, and are counted", async () => {
  const answer = async (draft) => {
    const model = await Siskin.load(gguf, { draft });
    const request = { messages: [{ role: "user", content: "a b c d a b c d a b c" }], max_tokens: 48 };
    const { choices, usage } = await model.chat.completions.create(request);
    model.unload();
    return [choices[0].message.content, usage.completion_tokens, usage.completion_tokens_details];
  };
  const [plain, guessed] = [await answer(undefined), await answer("ngram")];
  assert.deepEqual(guessed.slice(0, 2), plain.slice(0, 2));
  assert.equal(plain[2], undefined);
  const { accepted_prediction_tokens: right, rejected_prediction_tokens: wrong } = guessed[2];
  assert.ok(right + wrong > 0 && right >= 0 && wrong >= 0, JSON.stringify(guessed[2]));
  await assert.rejects(Siskin.load(gguf, { draft: "eagle" }), /there is no draft `eagle`; use ngram/);
});

test("what is no model is refused in one line", async () => {
  const empty = join(folder, "empty");
  const several = join(folder, "several");
  for (const path of [empty, several]) mkdirSync(path);
  for (const name of ["a.gguf", "b.gguf"]) copyFileSync(gguf, join(several, name));
  assert.equal(await failure("missing.gguf"), `invalid_request: cannot open ${join(process.cwd(), "missing.gguf")}: there is no such file; check the path`);
  assert.match(await failure("file://elsewhere/a.gguf"), /^invalid_request: cannot open file:\/\/elsewhere\/a\.gguf: /);
  assert.match(await failure(join(gguf, "a.gguf")), /^invalid_request: cannot open .*a\.gguf: /);
  assert.match(await failure(empty), /^invalid_model: .*empty\/ has no model: neither a config\.json nor a GGUF file$/);
  assert.match(await failure(several), /^invalid_request: .*several\/ has several GGUF files; give the path of one: a\.gguf, b\.gguf$/);
  assert.match(await failure(join(root, "README.md")), /^invalid_model: .*README\.md is not a GGUF file/);
  assert.match(await failure(gguf, { sha256: "00" }), /^integrity: checksum mismatch: .*model\.gguf/);
  assert.match(await failure([new File(["x"], "a.gguf")]), /^invalid_request: .*give a path, or set `worker: false`/);
  assert.match(await failure(gguf, { wasmUrl: pathToFileURL(join(folder, "no.wasm")) }), /^invalid_request: cannot open .*no\.wasm/);
  assert.match(await failure(`${server.url}tiny/none.gguf`), /^http: .* answered 404/);
});

test("the AI SDK has a model's embeddings", async () => {
  const encoders = join(root, "tests/fixtures/encoders");
  const encoder = join(folder, "bert");
  cpSync(join(encoders, "bert"), encoder, { recursive: true });
  for (const file of ["tokenizer.json", "tokenizer_config.json"]) copyFileSync(join(encoders, file), join(encoder, file));
  const siskin = await Siskin.load(encoder, { device: "cpu" });
  const input = ["a bird", "a finch"];
  const own = (await siskin.embeddings.create({ input })).data.map((d) => d.embedding);
  const model = createSiskin(siskin).embeddingModel("local");
  assert.deepEqual((await embedMany({ model, values: input })).embeddings, own);
  const { embedding, usage } = await embed({ model, value: input[1] });
  assert.deepEqual(embedding, own[1]);
  assert.ok(usage.tokens > 0);
  siskin.unload();
});
