// The page: every view works, is accessible, and keeps working offline.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { accessible, fitsWidth } from "./accessible.mjs";
import { launch } from "./chromium.mjs";
import { loadModel, opened, say, serveSite, settings, view, visit } from "./page.mjs";
import { root } from "./server.mjs";

let [server, browser] = [];

before(async () => {
  server = await serveSite();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  server?.close();
});

test("all views with the real model: they work, at 360 pixels too, and axe finds nothing", async () => {
  const { page, noise, context } = await visit(browser, server.url, { viewport: { width: 360, height: 740 } });
  await page.getByText("nothing leaves the device").waitFor();
  await page.getByRole("button", { name: "Load SmolLM2 135M Instruct" }).waitFor();
  await accessible(page, "empty");
  await fitsWidth(page, "empty");
  await loadModel(page);
  await page.getByRole("button", { name: "What is the capital of France?" }).click();
  await page.getByRole("button", { name: "Regenerate" }).waitFor();
  assert.equal(await page.locator("article.assistant .text").innerText(), "The capital of France is Paris.");
  await accessible(page, "chat");
  await fitsWidth(page, "chat");
  await settings(page, () => accessible(page, "settings"));

  // A link says what a view shows.
  await page.goto(`${server.url}#tokens?text=Hello%20unmistakable%20🐦`);
  await page.getByText("6 tokens, 23 bytes").waitFor();
  await page.getByRole("button", { name: "␣unmistakable" }).click();
  assert.equal(await page.locator("ol.steps li").count(), 12);
  // A token that is part of a character has its bytes.
  assert.deepEqual(await page.locator(".group .piece").allInnerTexts(), ["␣F0 9F15107", "90234", "A6116"]);
  await page.getByText("<|im_start|>assistant").waitFor();
  await page.getByLabel("Address of another model").fill(`${server.url}tiny/qwen3/model.gguf`);
  await page.getByRole("button", { name: "Compare" }).click();
  await page.getByText(/\d+ tokens, 23 bytes/).nth(1).waitFor();
  await accessible(page, "tokens");
  await fitsWidth(page, "tokens");

  // A lesson, by a link: each step shows what it is about.
  await page.goto(`${server.url}#tokens?lesson=next`);
  const lesson = page.getByRole("complementary", { name: "How a model writes" });
  await lesson.getByText("1 of 6").waitFor();
  await page.locator(".bars button", { hasText: "␣Paris" }).waitFor();
  await lesson.getByRole("button", { name: "Next" }).click();
  await lesson.getByRole("button", { name: "A plan of the whole answer." }).click();
  await lesson.getByText(/^Not quite\. Each token is computed/).waitFor();
  await lesson.getByRole("button", { name: /^Nothing but the text/ }).click();
  await lesson.getByText(/^Right\./).waitFor();
  await accessible(page, "lesson");
  await fitsWidth(page, "lesson");
  await lesson.getByRole("button", { name: "Close" }).click();

  await page.goto(`${server.url}#inside?prompt=The%20capital%20of%20France%20is&show=next`);
  await page.locator(".bars button", { hasText: "␣Paris" }).click();
  await page.locator("main .text .new", { hasText: "␣Paris" }).waitFor();
  await page.getByLabel(/^Top k/).fill("3");
  await page.getByText("3 of 49152 tokens are left").waitFor();
  assert.equal(await page.locator(".bars .cut").count(), 9);
  await page.getByLabel(/^Temperature/).fill("0");
  await page.getByText("Temperature 0 always chooses the first.").waitFor();
  await page.getByRole("button", { name: "Add the most likely" }).click();
  await page.getByRole("row", { name: /^2 / }).waitFor();
  await page.getByRole("button", { name: "Show the alternatives" }).click();
  await page.locator(".branch").nth(3).waitFor();
  await page.locator(".branch").first().click();
  await page.locator(".branch").nth(7).waitFor();
  await page.getByText(/^The most likely of the longest branches/).waitFor();
  await page.getByRole("button", { name: "Remove the last" }).click();
  await page.getByRole("row", { name: /^2 / }).waitFor({ state: "detached" });
  await accessible(page, "next token");
  await fitsWidth(page, "next token");

  await page.getByRole("button", { name: "Attention", exact: true }).click();
  const large = page.getByRole("img", { name: "Attention of layer 1, head 1" });
  const box = await large.boundingBox();
  await large.hover({ position: { x: box.width - 6, y: box.height - 6 } });
  await page.getByText(/“␣Paris” attends to “␣Paris”: \d/).waitFor();
  await large.focus();
  await page.keyboard.press("ArrowLeft");
  await page.getByText(/“␣Paris” attends to “␣is”: \d/).waitFor();
  // The strongest induction head of this model.
  await page.getByRole("button", { name: /^19\.7 9\d/ }).click();
  await page.getByRole("heading", { name: "Layer 19, head 7: Induction" }).waitFor();
  await page.getByRole("img", { name: /^Attention of all heads/ }).focus();
  await page.keyboard.press("ArrowUp");
  await page.getByRole("heading", { name: "Layer 18, head 7" }).waitFor();
  await accessible(page, "attention");
  await fitsWidth(page, "attention");

  await page.goto(`${server.url}#inside?prompt=The%20capital%20of%20France%20is&show=layers&layer=2`);
  await page.getByRole("region", { name: "Logit lens" }).waitFor();
  assert.equal(await page.locator(".lens tbody tr").count(), 30);
  assert.equal(await page.locator(".lens tr.chosen th").innerText(), "2");
  // The last MLP writes the answer.
  await page.getByRole("button", { name: "Switch off the MLP of layer 30" }).click();
  await page.getByText(/^Without the MLP of layer 30, “␣Paris” goes from 77\.\d % to \d/).waitFor();
  await page.getByRole("button", { name: "Switch all on" }).click();
  await accessible(page, "layers");
  await fitsWidth(page, "layers");

  await page.getByRole("button", { name: "Surprise", exact: true }).click();
  await page.getByRole("textbox", { name: "Text", exact: true }).fill("Paris is the capital of bananas");
  await page.getByRole("button", { name: "Measure", exact: true }).click();
  await page.getByText(/^On average over \d+ tokens: \d/).waitFor();
  await page.getByRole("button", { name: "␣capital", exact: true }).click();
  await page.getByText(/^“␣capital”: \d+\.\d bits/).waitFor();
  await accessible(page, "surprise");
  await fitsWidth(page, "surprise");

  await page.getByRole("button", { name: "Texts as points" }).click();
  await page.getByRole("listitem").getByRole("button", { name: "The cat sleeps on the warm roof." }).click();
  await page.getByText("Nearest to “The cat sleeps on the warm roof.”: “A kitten is napping in the sun.”").waitFor();
  await accessible(page, "points");
  await fitsWidth(page, "points");

  await view(page, "Model");
  await page.getByText("272 of 272").waitFor();
  await page.getByRole("row", { name: /^q8_0 4\d MiB/ }).waitFor();
  const memory = await page.getByRole("row", { name: /^Total/ }).getByRole("cell").innerText();
  await page.getByRole("button", { name: /^Model:/ }).filter({ hasText: memory }).waitFor({ state: "attached" });
  await page.getByRole("button", { name: "Test every kernel" }).click();
  const kernels = page.getByText(/^(\d+) of \1 kernels agree with the CPU\.$/);
  await kernels.waitFor();
  assert.ok(parseInt(await kernels.innerText()) > 30);
  await accessible(page, "model");
  await fitsWidth(page, "model");
  assert.deepEqual(noise, []);
  await context.close();
});

const RICH = [
  "**bold** and <img src=x onerror=alert(1)> for $5 or $6",
  "```js\nconst a = 1;\n```",
  "| a | b |\n|---|--:|\n| 1 | 2 |",
  "So $e^{i\\pi} = -1$, and\n\n$$\\frac{1}{3}$$",
].join("\n\n");

test("after the first visit, page and model work offline, without a question; conversations are kept", async () => {
  const { page, noise, context } = await visit(browser, server.url, { colorScheme: "dark" });
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.evaluate(() => navigator.serviceWorker.ready);
  await loadModel(page, `${server.url}tiny/llama/model.gguf`);
  const said = await say(page, "hello");
  // Markdown of another page's conversation; what draws it is fetched now, and kept.
  const drawn = [];
  page.on("request", (request) => drawn.push(...(request.url().match(/katex[^/]*\.js/) ?? [])));
  assert.deepEqual(drawn, []);
  await page.getByText("Import and export").click();
  const messages = [{ role: "user", content: "all" }, { role: "assistant", content: RICH }];
  await page.getByLabel("Import …").setInputFiles({ name: "rich.json", mimeType: "", buffer: Buffer.from(JSON.stringify({ messages })) });
  await page.locator(".katex-display").waitFor();
  await page.locator(".hljs-keyword", { hasText: "const" }).waitFor();
  assert.equal(drawn.length, 1);
  const first = page.locator("article.assistant .markdown > div").first();
  assert.equal(await first.innerText(), "bold and <img src=x onerror=alert(1)> for $5 or $6");
  assert.deepEqual(await page.locator("article.assistant td").allInnerTexts(), ["1", "2"]);
  assert.equal(await page.locator("article.assistant .katex").count(), 2);
  await page.locator(".code").getByRole("button", { name: "Copy" }).click();
  await page.getByText("Copied").waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "const a = 1;");
  await accessible(page, "markdown");

  // A file that was edited: turns that are each other's parents.
  const circle = [{ id: "x", parent: "y", role: "user", content: "round" }, { id: "y", parent: "x", role: "assistant", content: "and round" }];
  const file = JSON.stringify({ chats: [{ title: "circle", turns: circle, leaf: "y", changed: 1 }] });
  await page.getByLabel("Import …").setInputFiles({ name: "circle.json", mimeType: "", buffer: Buffer.from(file) });
  await page.locator("article.assistant").getByText("and round").waitFor();
  await page.getByLabel("Import …").setInputFiles({ name: "none.json", mimeType: "", buffer: Buffer.from("{}") });
  await page.getByRole("alert").getByText("none.json has no conversation").waitFor();
  // Conversations of an earlier version.
  await page.evaluate(() => {
    const old = [{ id: "old", title: "an older one", system: "", turns: [{ role: "user", content: "an older one" }] }];
    localStorage.setItem("siskin.chats", JSON.stringify(old));
  });

  await context.setOffline(true);
  await page.reload();
  await opened(page);
  await page.getByRole("button", { name: "an older one", exact: true }).click();
  await page.locator("article.user").getByText("an older one").waitFor();
  await page.getByRole("button", { name: "all", exact: true }).click();
  await page.locator(".katex-display").waitFor();
  await page.getByLabel("Search conversations").fill("HELLO");
  assert.equal(await page.locator("aside li").count(), 1);
  await page.getByRole("button", { name: "hello", exact: true }).click();
  assert.equal(await page.locator("article.assistant .text").innerText(), said);
  // The same question gets the same answer; Regenerate draws a different one, beside it.
  await page.getByRole("button", { name: "New", exact: true }).click();
  assert.equal(await say(page, "hello"), said);
  const answers = new Set([said]);
  let versions = 1;
  for (let i = 0; i < 5 && answers.size < 3; i++, versions++) {
    await page.getByRole("button", { name: "Regenerate" }).click();
    await page.getByRole("button", { name: "Stop" }).waitFor({ state: "hidden" });
    answers.add(await page.locator("article.assistant .text").innerText());
  }
  assert.equal(answers.size, 3, [...answers].join(" | "));
  for (let i = versions; i > 1; i--) {
    await page.getByText(`${i} of ${versions}`).waitFor();
    await page.getByRole("button", { name: "Previous version" }).click();
  }
  assert.equal(await page.locator("article.assistant .text").innerText(), said);
  assert.deepEqual(noise.filter((n) => n.startsWith("uncaught")), []);
  await context.close();
});

test("a conversation: stopped, edited, continued, as JSON, exported and deleted, by keyboard too", async () => {
  const { page, context } = await visit(browser, server.url);
  // Slow enough to be stopped.
  await loadModel(page);
  await settings(page, (panel) => panel.getByLabel("Maximum answer length").fill("2048"));
  await page.getByLabel("Your message").focus();
  await page.keyboard.type("Count from one to a thousand.");
  await page.keyboard.press("Enter");
  await page.locator("article.assistant .text").filter({ hasText: /\w/ }).waitFor();
  // It goes on while another view and another conversation are shown.
  await view(page, "Model");
  await page.getByText("272 of 272").waitFor();
  await view(page, "Chat");
  await page.getByRole("button", { name: "New", exact: true }).click();
  await page.getByText("Ask something").waitFor();
  await page.getByRole("button", { name: /^Count from one/ }).click();
  await page.getByRole("button", { name: "Stop" }).click();
  await page.getByRole("button", { name: "Edit", exact: true }).click();
  await page.getByLabel("Edit your message").fill("Count to ten.");
  await settings(page, (panel) => panel.getByLabel("Maximum answer length").fill("16"));
  await page.getByRole("button", { name: "Send again" }).click();
  await page.getByText("ended at the maximum length").waitFor();
  assert.deepEqual(await page.locator("article.user .text").allInnerTexts(), ["Count to ten."]);
  await page.locator("article.user").getByText("2 of 2").waitFor();
  const answer = () => page.locator("article.assistant .text").innerText();
  const cut = await answer();
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByText(/^(1[7-9]|2\d|3[0-2]) tokens/).waitFor();
  assert.ok((await answer()).startsWith(cut) && (await answer()).length > cut.length, await answer());

  await settings(page, async (panel) => {
    await panel.getByLabel("Maximum answer length").fill("64");
    await panel.getByLabel("JSON schema").fill("{");
    await panel.getByText("This is not JSON").waitFor();
    await panel.getByLabel("JSON schema").fill('{"type":"object","properties":{"city":{"type":"string","maxLength":20}},"required":["city"],"additionalProperties":false}');
  });
  assert.deepEqual(Object.keys(JSON.parse(await say(page, "Which city is the capital of France?"))), ["city"]);

  await page.getByText("Import and export").click();
  const exported = async (name) => {
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name }).click()]);
    return readFileSync(await download.path(), "utf8");
  };
  const { messages } = JSON.parse(await exported("Export as JSON"));
  assert.deepEqual(messages.map((m) => m.role), ["user", "assistant", "user", "assistant"]);
  assert.match(await exported("Export as Markdown"), /^# Count from one[^]*\*\*You\*\*\n\nCount to ten\./);
  await page.getByRole("button", { name: "Delete Count from one to a thousand." }).click();
  await page.getByText("Ask something").waitFor();
  await context.close();
});

test("a file is checked before it is opened; what cannot be opened is reported, with what to do", async () => {
  const { page, noise, context } = await visit(browser, server.url);
  await context.route("https://huggingface.co/**", (route) => route.abort());
  await page.getByLabel(/Llama 3\.2 1B/).check();
  await page.getByRole("button", { name: /^Load Llama/ }).click();
  await page.getByRole("alert").getByText("huggingface.co cannot be reached from here").waitFor();
  await page.getByText("More ways to open a model").click();
  const input = page.getByLabel("Open a file or folder …");
  const junk = { name: "junk.gguf", mimeType: "", buffer: Buffer.from("this is not a model") };
  await input.setInputFiles(junk);
  await page.getByRole("alert").getByText("is not a GGUF file").waitFor();
  // More than any device has.
  await page.getByLabel("Context, in tokens").fill("100000000");
  await input.setInputFiles(join(root, "tests/fixtures/tiny/qwen3/model.gguf"));
  await page.getByText("does not fit: ").waitFor();
  await page.getByRole("button", { name: /^Open it with a context of/ }).click();
  await opened(page);
  // A file that is dropped anywhere; a model that fails leaves the open one.
  const named = () => page.getByRole("button", { name: /^Model:/ }).locator("b").innerText();
  const dropped = await page.evaluateHandle(() => {
    const data = new DataTransfer();
    data.items.add(new File(["this is not a model"], "junk.gguf"));
    return data;
  });
  await page.dispatchEvent("main", "drop", { dataTransfer: dropped });
  await page.getByRole("dialog").getByRole("alert").getByText("is not a GGUF file").waitFor();
  assert.equal(await named(), "model.gguf");
  await page.getByRole("dialog").getByText("More ways to open a model").click();
  await page.getByLabel("Address of a model").fill(`${server.url}nothing.gguf`);
  await page.getByRole("button", { name: "Open", exact: true }).click();
  await page.getByText("answered 404").waitFor();
  assert.equal(await named(), "model.gguf");
  assert.deepEqual(noise.filter((n) => !n.includes("ERR_FAILED")), []);
  await context.close();
});

test("a model that is no longer kept, or closed the tab when it was opened, is not opened again without a question", async () => {
  const { page, context } = await visit(browser, server.url);
  await loadModel(page, `${server.url}tiny/llama/model.gguf`);
  await page.evaluate(() => localStorage.setItem("siskin.opening", "true"));
  await page.reload();
  await page.getByRole("alert").getByText("The last visit ended while model.gguf was being opened").waitFor();
  await page.reload();
  await opened(page);
  await page.getByRole("button", { name: /^Model:/ }).click();
  await page.getByText("Kept in this browser", { exact: true }).click();
  const remove = page.getByRole("button", { name: "Delete model.gguf from this browser" });
  await remove.click();
  // A reload would otherwise overtake it.
  await remove.waitFor({ state: "detached" });
  await page.reload();
  await page.getByRole("alert").getByText("model.gguf is no longer kept in this browser").waitFor();
  await context.close();
});

test("the page is in the browser's language, or in the one that is chosen", async () => {
  const { page, noise, context } = await visit(browser, server.url, { locale: "de-DE", colorScheme: "dark", viewport: { width: 360, height: 740 } });
  await page.getByRole("heading", { name: "Ein Sprachmodell, das in diesem Tab läuft" }).waitFor();
  await page.getByText("Weitere Wege, ein Modell zu öffnen").click();
  await page.getByLabel("Adresse eines Modells").fill(`${server.url}tiny/llama/model.gguf`);
  await page.getByRole("button", { name: "Öffnen", exact: true }).click();
  await page.getByText("Fragen Sie etwas").waitFor();
  for (const [name, seen] of [
    ["Chat", "Fragen Sie etwas"],
    ["Tokens", "Wie ein Wort zusammengesetzt wird"],
    ["Einblick", "Wählen Sie eines, um damit fortzufahren"],
    ["Training", "Wie oft jedes Beispiel gesehen wird"],
    ["Modell", "Gewichte nach Typ"],
  ]) {
    await view(page, name);
    await page.getByText(seen).waitFor();
    await fitsWidth(page, name);
    await accessible(page, name);
  }
  await page.getByRole("button", { name: /^Modell:/ }).click();
  await page.getByRole("combobox", { name: "Sprache" }).selectOption("English");
  await page.keyboard.press("Escape");
  await page.getByText("Weights by type").waitFor();
  assert.equal(await page.evaluate(() => document.documentElement.lang), "en");
  await page.reload();
  await page.getByText("Weights by type").waitFor();
  assert.deepEqual(noise, []);
  await context.close();
});
