// Training in the browser: the command line's losses on both devices, and, in the page, from examples to an
// adapter in use.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { launch, openPage } from "./chromium.mjs";
import { loadModel, modelButton, opened, say, serveSite, view, visit } from "./page.mjs";
import { root, serve } from "./server.mjs";

const tiny = join(root, "tests/fixtures/tiny");
const EXAMPLES = Array.from({ length: 10 }, (_, i) => ({
  messages: [
    { role: "user", content: `a${i} b` },
    { role: "assistant", content: `c${i} d e` },
  ],
}));
let [app, site, browser] = [];

before(async () => {
  app = await serve({ "": join(root, "tests/browser/dist"), tiny });
  site = await serveSite();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  app?.close();
  site?.close();
});

/** Losses of some steps on the command line, on the CPU. */
function nativeLosses(steps, ...more) {
  const folder = mkdtempSync(join(tmpdir(), "siskin-train-"));
  const data = join(folder, "data.jsonl");
  writeFileSync(data, EXAMPLES.map((e) => JSON.stringify(e)).join("\n"));
  const flags = ["--rank", "4", "--lr", "0.01", "--steps", String(steps), "--batch-size", "3", "--max-seq-len", "48", "--validation", "0.2"];
  const model = join(tiny, "llama/model.gguf");
  const out = join(folder, "out");
  execFileSync(join(root, "target/release/siskin"), ["train", "--model", model, "--data", data, "--out", out, "--device", "cpu", ...flags, ...more], { stdio: "pipe" });
  const lines = readFileSync(join(out, "metrics.jsonl"), "utf8").trim().split("\n").map((l) => JSON.parse(l));
  return lines.slice(1);
}

test("the wasm that trains is fetched by the first call that needs it, and the conversation goes on in it", async () => {
  const { page, noise, close } = await openPage(browser, app.url);
  const fetched = [];
  page.on("response", (r) => /\.wasm$/.test(r.url()) && fetched.push(new URL(r.url()).pathname.match(/siskin_\w+?(?=_bg)/)[0]));
  const options = { rank: 4, learningRate: 0.01, steps: 2, batchSize: 3, maxSeqLen: 48 };
  const found = await page.evaluate(
    async ([url, examples, options]) => {
      const seen = [];
      const model = await Siskin.load(url, { device: "cpu", context: 64, onProgress: (p) => seen.push(p.phase) });
      const answer = async () => (await model.generate("a1 b", { maxTokens: 8 })).ids.join();
      const plain = await answer();
      // An adapter that is in use when training is asked for stays so.
      const other = await Siskin.load(url, { device: "cpu", context: 64, training: true });
      const learnt = other.train(examples, { ...options, steps: 8, learningRate: 0.1 });
      for await (const _ of learnt);
      const trained = await learnt.adapter();
      other.unload();
      await model.adapters.add("first", trained);
      await model.adapters.use("first");
      const adapted = await answer();
      const before = seen.length;
      // Calls that are made meanwhile wait for it.
      const [data, during] = await Promise.all([model.dataset("a.jsonl", '{"text": "a b"}'), answer()]);
      const after = await answer();
      const phases = seen.slice(before);
      await model.adapters.use(null);
      const without = await answer();
      const steps = [];
      for await (const step of model.train(examples, options)) steps.push(step.step);
      model.unload();
      const late = await model.generate("a").catch((e) => e.code);
      return { plain, adapted, during, after, without, phases, records: data.records.length, steps, late };
    },
    [`${app.url}tiny/llama/model.gguf`, EXAMPLES, options],
  );
  assert.deepEqual(fetched.slice(0, 3), ["siskin_wasm", "siskin_training", "siskin_training"]);
  assert.notEqual(found.adapted, found.plain);
  assert.equal(found.during, found.adapted);
  assert.equal(found.after, found.adapted);
  assert.equal(found.without, found.plain);
  assert.ok(found.phases.includes("ready"), found.phases.join());
  assert.deepEqual([found.records, found.steps, found.late], [1, [1, 2], "unloaded"]);
  assert.deepEqual(noise, []);
  await close();
});

test("where the wasm that trains is not served, the error says so, and the model still answers", async () => {
  const { page, close } = await openPage(browser, app.url);
  const found = await page.evaluate(
    async (url) => {
      const model = await Siskin.load(url, { device: "cpu", context: 64, trainingWasmUrl: "/nothing.wasm" });
      const error = await model.dataset("a.jsonl", "{}").catch((e) => `${e.code}: ${e.message}`);
      const { ids } = await model.generate("a1 b", { maxTokens: 8 });
      return { error, n: ids.length };
    },
    `${app.url}tiny/llama/model.gguf`,
  );
  assert.match(found.error, /^internal: the wasm at .*nothing\.wasm does not start: .*`trainingWasmUrl` or `trainingWasmBytes`/);
  assert.ok(found.n > 0);
  await close();
});

test("if the model cannot be opened again to train, it still answers, and the next call tries again", async () => {
  const { page, close } = await openPage(browser, app.url);
  let opened = 0;
  await page.context().route("**/model.gguf*", (route) => (++opened === 2 ? route.abort() : route.continue()));
  const found = await page.evaluate(
    async (url) => {
      const model = await Siskin.load(url, { device: "cpu", context: 64, cache: false });
      const answer = async () => (await model.generate("a1 b", { maxTokens: 8 })).ids.join();
      const plain = await answer();
      const failed = await model.dataset("a.jsonl", '{"text": "a b"}').catch((e) => e.code);
      const after = await answer();
      const again = await model.dataset("a.jsonl", '{"text": "a b"}');
      return { plain, failed, after, records: again.records.length };
    },
    `${app.url}tiny/llama/model.gguf`,
  );
  assert.equal(found.failed, "network", JSON.stringify(found));
  assert.equal(found.after, found.plain);
  assert.deepEqual([found.records, opened], [1, 4]);
  await close();
});

test("twenty steps on WebGPU and on the CPU lower the loss as the command line does; checkpoints, adapters", async () => {
  const nativeDora = nativeLosses(3, "--dora", "--optim", "adamw_8bit");
  const { page, noise, close } = await openPage(browser, app.url);
  const native = nativeLosses(20);
  for (const device of ["cpu", "webgpu"]) {
    const found = await page.evaluate(
      async ([url, examples, device]) => {
        const model = await Siskin.load(url, { device, context: 64 });
        const options = { rank: 4, learningRate: 0.01, steps: 20, batchSize: 3, maxSeqLen: 48, validation: 0.2 };
        const plain = (await model.generate("a1 b", { maxTokens: 8 })).ids;
        const plan = await model.planTraining(examples, options);
        // Examples that are held out by themselves.
        const { validation, ...rest } = options;
        const own = await model.planTraining(examples.slice(2), { ...rest, validationData: examples.slice(0, 2) });
        const both = await model.planTraining(examples, { ...options, validationData: examples }).catch((e) => e.message);
        const ratio = await model.planTraining(examples, { ...options, warmupSteps: 1, warmupRatio: 0.1 }).catch((e) => e.message);
        const dora = [];
        for await (const step of model.train(examples, { ...options, steps: 3, useDora: true, optim: "adamw_8bit" })) dora.push(step.loss);
        const run = model.train(examples, options);
        const summary = await run.summary();
        // A measured step does not update.
        const seconds = await run.secondsPerStep();
        const steps = [];
        let checkpoint;
        for await (const step of run) {
          steps.push(step);
          if (step.step === 15) checkpoint = await run.checkpoint();
        }
        const trained = (await model.generate("a1 b", { maxTokens: 8 })).ids;
        const adapter = await run.adapter();
        // From the checkpoint on, the same losses.
        const again = [];
        for await (const step of model.train(examples, { ...options, resume: checkpoint })) again.push(step.loss);
        const stale = await run.adapter().catch((e) => e.message);
        await model.adapters.use(null);
        const without = (await model.generate("a1 b", { maxTokens: 8 })).ids;
        await model.adapters.add("mine", adapter);
        const same = await model.adapters.use("mine");
        const used = (await model.generate("a1 b", { maxTokens: 8 })).ids;
        const held = [model.adapters.list(), model.adapters.active];
        const config = JSON.stringify({ ...JSON.parse(adapter.config), base_model_name_or_path: "you/Another-7B" });
        await model.adapters.add("another's", { ...adapter, config });
        const another = await model.adapters.use("another's");
        await model.adapters.delete("another's");
        const wrong = await model.adapters.use("yours").catch((e) => e.message);
        const other = await Siskin.load(new URL("../qwen3/", url).href, { device: "cpu", context: 64 });
        await other.adapters.add("mine", adapter);
        const misfit = await other.adapters.use("mine").catch((e) => e.code);
        const unknown = await model.train(examples, { learningRat: 1 }).summary().catch((e) => [e.code, e.message]);
        const damaged = await model.train(examples, { ...options, resume: checkpoint.slice(9) }).summary().catch((e) => e.code);
        other.unload();
        model.unload();
        return { plan, own, both, ratio, dora, seconds, summary, steps, again, plain, trained, without, used, same, another, held, wrong, stale, misfit, unknown, damaged, bytes: adapter.weights.length };
      },
      [`${app.url}tiny/llama/model.gguf`, EXAMPLES, device],
    );
    const { plan, summary, steps } = found;
    assert.deepEqual({ ...plan, done: 0, heldOutExamples: summary.heldOutExamples }, summary);
    assert.ok(plan.fits && found.seconds > 0);
    assert.deepEqual([found.own.examples, found.own.heldOut], [8, 2]);
    assert.match(found.both, /`validation` and `validationData`/);
    assert.match(found.ratio, /warmup_ratio is 0\.1/);
    for (const [i, loss] of found.dora.entries()) {
      assert.ok(Math.abs(loss - nativeDora[i].loss) < 1e-2 * nativeDora[0].loss, `${device}: DoRA, step ${i + 1}: ${loss}, natively ${nativeDora[i].loss}`);
    }
    assert.deepEqual([summary.examples, summary.heldOut, summary.steps, summary.done], [8, 2, 20, 0]);
    assert.ok(summary.memory.total > 0 && summary.parameters * 4 < found.bytes + 1);
    assert.equal(steps.length, 20);
    for (const [i, step] of steps.entries()) {
      assert.ok(Math.abs(step.loss - native[i].loss) < 2e-2 * native[0].loss, `${device}: step ${i + 1}: ${step.loss}, natively ${native[i].loss}`);
    }
    assert.ok(Math.abs(steps[0].loss - native[0].loss) < 1e-3 * native[0].loss, `${device}: ${steps[0].loss}, ${native[0].loss}`);
    assert.ok(steps[19].loss < 0.5 * steps[0].loss, `${device}: ${steps[19].loss}`);
    assert.deepEqual(found.again, steps.slice(15).map((s) => s.loss), device);
    assert.notDeepEqual(found.trained, found.plain, device);
    assert.deepEqual(found.without, found.plain, device);
    assert.deepEqual(found.used, found.trained, device);
    assert.deepEqual([found.same, found.another], [{}, { otherBase: "you/Another-7B" }]);
    assert.deepEqual(found.held, [["mine"], "mine"]);
    assert.match(found.wrong, /no adapter `yours`; known adapters: mine/);
    assert.match(found.stale, /replaced by another/);
    assert.equal(found.misfit, "invalid_adapter");
    assert.equal(found.unknown[0], "invalid_request");
    assert.match(found.unknown[1], /`learningRat`/);
    assert.equal(found.damaged, "checkpoint");
  }
  assert.deepEqual(noise, []);
  await close();
});

test("the page: from examples to an adapter in use, over a pause and a closed tab", async () => {
  const { page, noise, context } = await visit(browser, site.url, { viewport: { width: 360, height: 740 } });
  const model = `${site.url}tiny/llama/model.gguf`;
  await loadModel(page, model);
  await view(page, "Train");
  const input = page.locator("section[aria-label=Examples] input[type=file]");
  const bad = '{"prompt":"x","completion":"y z"}\n{nonsense\n';
  await input.setInputFiles({ name: "bad.jsonl", mimeType: "", buffer: Buffer.from(bad) });
  await page.getByText("Record 2: not JSON").waitFor();
  await page.getByRole("button", { name: "Remove example 1" }).click();
  const lines = EXAMPLES.map((e) => JSON.stringify(e)).join("\n");
  await input.setInputFiles({ name: "good.jsonl", mimeType: "", buffer: Buffer.from(lines) });
  // An example without an answer is unusable.
  await page.getByLabel("Answer 2", { exact: true }).fill("");
  await page.getByText(/^Example 2: /).waitFor();
  await page.getByLabel("Answer 2", { exact: true }).fill("c1 d e");
  await page.getByText(/^Example 2: /).waitFor({ state: "hidden" });
  await page.getByLabel("Answer 1", { exact: true }).fill("c0 d e f");
  await page.getByText(/Coloured tokens are learned: \d+ of \d+/).waitFor();
  assert.ok((await page.locator(".pieces code.learned").count()) > 2);
  await page.getByLabel(/^Epochs/).fill("20");
  await page.getByLabel(/^Examples per step/).fill("2");
  await page.getByLabel(/^Held out/).fill("0.2");
  await page.getByLabel(/^Maximum example length/).fill("64");
  await page.getByText(/This run takes 80 steps and \d+(\.\d+)? MiB: it fits\./).waitFor();
  await page.getByText("More settings", { exact: true }).click();
  await page.getByLabel("DoRA").check();
  await page.getByLabel("8-bit optimiser").check();
  await page.getByRole("button", { name: "Estimate time" }).click();
  await page.getByText(/Estimated time: about \d+ s\./).waitFor();
  // The estimate stays until something changes.
  await page.waitForTimeout(700);
  assert.ok(await page.getByText(/Estimated time/).isVisible());
  await page.getByLabel(/^Epochs/).fill("10");
  await page.getByText(/This run takes 40 steps/).waitFor();
  assert.ok(!(await page.getByText(/Estimated time/).isVisible()));
  await page.getByLabel(/^Epochs/).fill("20");
  await page.getByText(/This run takes 80 steps/).waitFor();
  await page.getByText("Paste or save examples").click();
  const saved = page.waitForEvent("download");
  await page.getByRole("button", { name: "Save as ShareGPT" }).click();
  const shared = JSON.parse(readFileSync(await (await saved).path(), "utf8"));
  assert.deepEqual(shared[0].conversations.map((t) => t.from), ["human", "gpt"]);
  await page.getByRole("button", { name: "Start", exact: true }).click();
  await page.getByText(/Step (1[1-9]|[2-9]\d) of 80/).waitFor();
  // At once: a click that waits for the button to lie still may come after the last step.
  await page.getByRole("button", { name: "Pause" }).dispatchEvent("click");
  const paused = await page.getByText(/Paused at step \d+ of 80/).innerText();
  await page.locator(".chart canvas").waitFor();
  // The last checkpoint is damaged: the previous one is used, at most five steps earlier.
  const kept = await page.evaluate(async () => {
    const root = await navigator.storage.getDirectory();
    const folder = await root.getDirectoryHandle("siskin-training");
    const names = [];
    for await (const name of folder.keys()) if (name.startsWith("checkpoint-")) names.push(name);
    const file = await folder.getFileHandle(names.sort().at(-1));
    const writer = await file.createWritable({ keepExistingData: true });
    await writer.truncate(1000);
    await writer.close();
    return names;
  });
  assert.equal(kept.length, 2);
  await page.reload();
  await opened(page);
  // The examples are those that were edited.
  assert.equal(await page.getByLabel("Answer 1", { exact: true }).inputValue(), "c0 d e f");
  await page.getByText(/A training run of .* stopped at step \d+/).waitFor();
  const left = Number(/step (\d+)/.exec(paused)[1]);
  await page.getByText(`stopped at step ${left}.`).waitFor();
  assert.equal(Number(kept[1].slice(-7)), left);
  await page.getByRole("button", { name: "Resume" }).click();
  await page.getByText("Done: 80 steps.").waitFor();
  const cells = await page.locator("section[aria-label='Before and after'] tbody tr").first().locator("td").allInnerTexts();
  assert.ok(cells[0].startsWith("a") && cells[2] !== "…" && cells[1] !== cells[2], cells.join(" | "));
  // The adapter is used once requested.
  await view(page, "Chat");
  const plain = await say(page, cells[0]);
  assert.ok(plain.startsWith(cells[1].slice(0, 10)), `${plain} | ${cells[1]}`);
  await view(page, "Train");
  const names = [];
  page.on("download", (d) => names.push(d.suggestedFilename()));
  await page.getByRole("button", { name: "Download the adapter" }).click();
  await page.getByRole("button", { name: "Use it in Chat" }).click();
  await page.getByRole("link", { name: "Chat with it" }).click();
  await modelButton(page).click();
  await page.getByText("with the adapter “trained here”").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Conversations" }).click();
  await page.getByRole("button", { name: "New", exact: true }).click();
  const answer = await say(page, cells[0]);
  assert.ok(answer.startsWith(cells[2].slice(0, 10)), `${answer} | ${cells[2]}`);
  await view(page, "Train");
  await page.evaluate(readFileSync(join(root, "tests/browser/node_modules/axe-core/axe.min.js"), "utf8"));
  const { violations } = await page.evaluate(() => axe.run({ resultTypes: ["violations"] }));
  assert.deepEqual(violations.map((v) => `${v.id}: ${v.help} (${v.nodes.map((n) => n.target).join(", ")})`), []);
  const [scroll, width] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(scroll <= width, `${scroll} wide on a screen of ${width}`);
  assert.deepEqual(names.sort(), ["adapter_config.json", "adapter_model.safetensors"]);
  assert.deepEqual(noise, []);
  await context.close();
});

test("the page: two examples and nothing held out end with an adapter too", async () => {
  const { page, noise, context } = await visit(browser, site.url);
  await loadModel(page, `${site.url}tiny/llama/model.gguf`);
  const plain = await say(page, "a0 b");
  await view(page, "Train");
  const input = page.locator("section[aria-label=Examples] input[type=file]");
  const lines = EXAMPLES.slice(0, 2).map((e) => JSON.stringify(e)).join("\n");
  await input.setInputFiles({ name: "two.jsonl", mimeType: "", buffer: Buffer.from(lines) });
  await page.getByLabel(/^Held out/).fill("0");
  await page.getByLabel(/^Epochs/).fill("12");
  await page.getByText(/This run takes 12 steps/).waitFor();
  await page.getByRole("button", { name: "Start", exact: true }).click();
  await page.getByText("Done: 12 steps.").waitFor();
  await page.getByText("2 training examples, 0 held out").waitFor();
  const names = [];
  page.on("download", (d) => names.push(d.suggestedFilename()));
  await page.getByRole("button", { name: "Download the adapter" }).click();
  await page.getByRole("button", { name: "Use it in Chat" }).click();
  await page.getByRole("link", { name: "Chat with it" }).click();
  await page.getByRole("button", { name: "New", exact: true }).click();
  assert.notEqual(await say(page, "a0 b"), plain);
  assert.deepEqual(names.sort(), ["adapter_config.json", "adapter_model.safetensors"]);
  assert.deepEqual(noise, []);
  await context.close();
});

test("the page: what is rewarded is learned, and the answers that were drawn are shown", async () => {
  const { page, noise, context } = await visit(browser, site.url, { viewport: { width: 360, height: 740 } });
  await loadModel(page, `${site.url}tiny/llama/model.gguf`);
  await view(page, "Train");
  await page.getByLabel("What is rewarded").check();
  const input = page.locator("section[aria-label=Examples] input[type=file]");
  const lines = EXAMPLES.slice(0, 5).map((e) => JSON.stringify(e)).join("\n");
  await input.setInputFiles({ name: "five.jsonl", mimeType: "", buffer: Buffer.from(lines) });
  await page.getByLabel("An answer is good if").selectOption("it matches an expression");
  await page.getByLabel("Regular expression").fill("(");
  await page.getByText("This is not a regular expression.").waitFor();
  await page.getByLabel("Regular expression").fill("[a-e]");
  await page.getByLabel(/^Answers per question/).fill("4");
  await page.getByLabel(/^Maximum answer length/).fill("8");
  await page.getByLabel(/^Epochs/).fill("1");
  await page.getByLabel(/^Held out/).fill("0.2");
  await page.getByLabel(/^Maximum example length/).fill("64");
  await page.getByText(/This run takes 2 steps/).waitFor();
  await page.getByRole("button", { name: "Start", exact: true }).click();
  await page.getByText("Done: 2 steps.").waitFor();
  const drawn = page.locator("section[aria-label='Answers of the last step']");
  assert.equal(await drawn.locator("table").count(), 2);
  const rows = await drawn.locator("tbody tr").allInnerTexts();
  assert.equal(rows.length, 8);
  for (const row of rows) {
    const [answer, reward] = row.split("\t");
    assert.equal(Number(reward), /[a-e]/.test(answer) ? 1 : 0, row);
  }
  await page.getByText(/Mean reward \d\.\d\d; an answer has \d tokens on average\./).waitFor();
  await page.locator(".chart[aria-label^='Mean reward'] canvas").waitFor();
  await page.getByRole("button", { name: "Use it in Chat" }).waitFor();
  const [scroll, width] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(scroll <= width, `${scroll} wide on a screen of ${width}`);
  assert.deepEqual(noise, []);
  await context.close();
});

test("the page: answers that are marked or edited in Chat are learned from", async () => {
  const { page, noise, context } = await visit(browser, site.url);
  await loadModel(page, `${site.url}tiny/llama/model.gguf`);
  const own = await say(page, "a0 b");
  const answer = page.locator("article.assistant").last();
  await answer.getByRole("button", { name: "Edit the answer" }).click();
  await page.getByLabel("Edit the answer").fill("c0 d e");
  await page.getByRole("button", { name: "Keep", exact: true }).click();
  await answer.getByText("c0 d e").waitFor();
  await answer.getByRole("button", { name: "Good answer" }).click();
  await answer.getByText("Kept as an example:").waitFor();
  await answer.getByRole("button", { name: "Best version" }).click();
  await answer.getByText("Kept as the better answer:").waitFor();
  await answer.getByRole("button", { name: "Previous version" }).click();
  assert.ok((await answer.innerText()).includes(own.slice(0, 5)));
  await page.reload();
  await opened(page);
  await view(page, "Train");
  assert.equal(await page.getByLabel("Answer 1", { exact: true }).inputValue(), "c0 d e");
  await page.getByLabel("What is better").check();
  assert.equal(await page.getByLabel("Question 1", { exact: true }).inputValue(), "a0 b");
  assert.equal(await page.getByLabel("Better answer 1", { exact: true }).inputValue(), "c0 d e");
  // The page shows no control characters.
  const worse = await page.getByLabel("Worse answer 1", { exact: true }).inputValue();
  assert.ok(worse.trim().startsWith(own.slice(0, 5)), `${worse} | ${own}`);
  await page.getByLabel(/^Held out/).fill("0");
  await page.getByLabel(/^Epochs/).fill("8");
  await page.getByText(/This run takes 8 steps/).waitFor();
  await page.getByRole("button", { name: "Start", exact: true }).click();
  await page.getByText("Done: 8 steps.").waitFor();
  const margin = /the better answers lead by (-?[\d.]+)\./.exec(await page.locator("section[aria-label=Training]").innerText());
  assert.ok(Number(margin[1]) > 0, margin[0]);
  assert.deepEqual(noise, []);
  await context.close();
});
