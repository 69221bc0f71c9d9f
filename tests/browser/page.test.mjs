// The page: every view works, is accessible, and keeps working offline.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { launch } from "./chromium.mjs";
import { loadModel, say, serveSite, view, visit } from "./page.mjs";
import { root } from "./server.mjs";

const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
let [server, browser] = [];

before(async () => {
  server = await serveSite();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  server?.close();
});

async function accessible(page, where) {
  await page.evaluate(axeSource);
  const { violations } = await page.evaluate(() => axe.run({ resultTypes: ["violations"] }));
  const found = violations.map((v) => `${where}: ${v.id}: ${v.help} (${v.nodes.map((n) => n.target).join(", ")})`);
  assert.deepEqual(found, []);
}

const fitsWidth = async (page, where) => {
  const [scroll, width] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(scroll <= width, `${where} is ${scroll} wide on a screen of ${width}`);
};

test("all four views with the real model: they work, at 360 pixels too, and axe finds nothing", async () => {
  const { page, noise, context } = await visit(browser, server.url, { viewport: { width: 360, height: 740 } });
  await page.getByText("nothing leaves the machine").waitFor();
  await accessible(page, "empty");
  await loadModel(page);
  assert.equal(await say(page, "What is the capital of France?"), "The capital of France is Paris.");
  await accessible(page, "chat");
  await fitsWidth(page, "chat");

  await view(page, "Tokens");
  await page.getByRole("textbox", { name: "Text" }).fill("Hello unmistakable");
  await page.getByText("3 tokens, 18 bytes").waitFor();
  await page.getByRole("button", { name: "␣unmistakable" }).click();
  assert.equal(await page.locator("ol.steps li").count(), 12);
  await page.getByText("<|im_start|>assistant").waitFor();
  await page.getByLabel("Address of another model").fill(`${server.url}tiny/qwen3/model.gguf`);
  await page.getByRole("button", { name: "Compare" }).click();
  await page.getByText(/\d+ tokens, 18 bytes/).nth(1).waitFor();
  await accessible(page, "tokens");
  await fitsWidth(page, "tokens");

  await view(page, "Look inside");
  await page.getByRole("button", { name: "Start" }).click();
  await page.locator(".bars button", { hasText: "␣Paris" }).click();
  await page.locator("main .text .new", { hasText: "␣Paris" }).waitFor();
  await page.getByRole("button", { name: "Look inside" }).click();
  await page.getByRole("region", { name: "Logit lens" }).waitFor();
  const canvas = page.locator("canvas");
  const box = await canvas.boundingBox();
  await canvas.hover({ position: { x: box.width - 6, y: box.height - 6 } });
  await page.getByText(/“␣Paris” attends to “␣Paris”: \d/).waitFor();
  await accessible(page, "look inside");
  await fitsWidth(page, "look inside");

  await view(page, "Model");
  await page.getByText("272 of 272").waitFor();
  await page.getByRole("button", { name: "Test every kernel" }).click();
  const kernels = page.getByText(/^(\d+) of \1 kernels agree with the CPU\.$/);
  await kernels.waitFor();
  assert.ok(parseInt(await kernels.innerText()) > 30);
  await accessible(page, "model");
  await fitsWidth(page, "model");
  assert.deepEqual(noise, []);
  await context.close();
});

test("after the first visit, page and model work offline; conversations are kept", async () => {
  const { page, noise, context } = await visit(browser, server.url);
  await page.evaluate(() => navigator.serviceWorker.ready);
  await loadModel(page, `${server.url}tiny/llama/model.gguf`);
  const said = await say(page, "hello");
  await context.setOffline(true);
  await page.reload();
  await page.getByText("hello").first().waitFor();
  assert.equal(await page.locator("article.assistant .text").innerText(), said);
  await loadModel(page, `${server.url}tiny/llama/model.gguf`);
  // The same question gets the same answer; Regenerate draws a different one.
  await page.getByRole("button", { name: "New" }).click();
  assert.equal(await say(page, "hello"), said);
  const answers = new Set([said]);
  for (let i = 0; i < 5 && answers.size < 3; i++) {
    await page.getByRole("button", { name: "Regenerate" }).click();
    await page.getByRole("button", { name: "Stop" }).waitFor({ state: "hidden" });
    answers.add(await page.locator("article.assistant .text").innerText());
  }
  assert.equal(answers.size, 3, [...answers].join(" | "));
  assert.deepEqual(noise.filter((n) => n.startsWith("uncaught")), []);
  await context.close();
});

test("a conversation can be stopped, edited, exported and deleted, by keyboard too", async () => {
  const { page, context } = await visit(browser, server.url);
  // Slow enough to be stopped.
  await loadModel(page);
  await page.getByText("System prompt and sampling").click();
  await page.getByLabel("Maximum answer length").fill("2048");
  await page.getByLabel("Your message").focus();
  await page.keyboard.type("Count from one to a thousand.");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Stop" }).click();
  await page.getByRole("button", { name: "Edit" }).click();
  await page.getByLabel("Edit your message").fill("two");
  await page.getByLabel("Maximum answer length").fill("16");
  await page.getByRole("button", { name: "Send again" }).click();
  await page.getByRole("button", { name: "Regenerate" }).waitFor();
  assert.deepEqual(await page.locator("article.user .text").allInnerTexts(), ["two"]);
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Export as JSON" }).click()]);
  const { messages } = JSON.parse(readFileSync(await download.path(), "utf8"));
  assert.deepEqual(messages.map((m) => m.role), ["user", "assistant"]);
  await page.getByRole("button", { name: "Delete two" }).click();
  await page.getByText("Say something.").waitFor();
  await context.close();
});

test("a dropped file is checked first; a file that is not a model is reported", async () => {
  const { page, noise, context } = await visit(browser, server.url);
  const input = page.locator("input[type=file]").first();
  await input.setInputFiles({ name: "junk.gguf", mimeType: "", buffer: Buffer.from("this is not a model") });
  await page.getByRole("alert").getByText("is not a GGUF file").waitFor();
  await input.setInputFiles(join(root, "tests/fixtures/tiny/qwen3/model.gguf"));
  await page.getByText(/model\.gguf fits: /).waitFor();
  await page.getByRole("button", { name: "Load" }).click();
  await page.getByText(/qwen3, .* parameters · CPU/).waitFor();
  // Checking another model does not rename the loaded one.
  const named = () => page.getByRole("region", { name: "Model selection" }).locator("strong").first().innerText();
  await page.getByRole("button", { name: "Change" }).click();
  for (const [address, seen] of [["nothing.gguf", "answered 404"], ["tiny/llama/model.gguf", "fits: "]]) {
    await page.getByLabel("Address of a model").fill(server.url + address);
    await page.getByRole("button", { name: "Check" }).click();
    await page.getByText(seen).waitFor();
    assert.equal(await named(), "model.gguf");
  }
  await input.setInputFiles({ name: "junk.gguf", mimeType: "", buffer: Buffer.from("this is not a model") });
  await page.getByRole("alert").getByText("is not a GGUF file").waitFor();
  assert.equal(await named(), "model.gguf");
  assert.deepEqual(noise, []);
  await context.close();
});
