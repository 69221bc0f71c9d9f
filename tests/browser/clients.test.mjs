// The packed package's clients in a built app: hooks of React, Vue and Svelte, and the Prompt API, over one loaded model.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { launch, openPage } from "./chromium.mjs";
import { root, serve } from "./server.mjs";

const ANSWER = "The capital of France is Paris.";
let server, browser, opened;

before(async () => {
  server = await serve({ "": join(root, "tests/browser/dist"), tiny: join(root, "tests/fixtures/tiny"), models: join(root, "models") });
  browser = await launch();
  opened = await openPage(browser, server.url);
  await opened.page.evaluate(async () => {
    Object.assign(window, await clients());
    for (const id of ["react", "vue"]) document.body.append(Object.assign(document.createElement("div"), { id }));
  });
});
after(async () => {
  await browser?.close();
  server?.close();
});

/** Asks through the page, and waits for the answer. */
async function ask(id) {
  const place = opened.page.locator(`#${id}`);
  await place.getByText("ready", { exact: true }).waitFor();
  await place.getByRole("button", { name: "Ask" }).click();
  await place.getByText("answering", { exact: true }).waitFor();
  await place.getByText("ready", { exact: true }).waitFor();
  return place.getByRole("listitem").allInnerTexts();
}
const TURNS = ["user: What is the capital of France?", `assistant: ${ANSWER}`];

test("React: a model is loaded, answers, and can be stopped; Vue and Svelte answer with the same one", async () => {
  const { page, noise } = opened;
  await page.evaluate((url) => {
    window.removeReact = inReact(url, document.getElementById("react"));
  }, `${server.url}models/smollm2-135m-instruct.gguf`);
  assert.deepEqual(await ask("react"), TURNS);
  const place = page.locator("#react");
  await place.getByRole("button", { name: "Ask" }).click();
  await place.getByRole("button", { name: "Stop" }).click();
  await place.getByText("ready", { exact: true }).waitFor();
  assert.equal((await place.getByRole("listitem").allInnerTexts())[2], TURNS[0]);

  await page.evaluate(() => {
    window.removeVue = inVue(model, document.getElementById("vue"));
  });
  assert.deepEqual(await ask("vue"), TURNS);
  const states = await page.evaluate(() => inSvelte(model));
  assert.deepEqual([states[0], states.at(-1)], [["ready", ""], ["ready", ANSWER]]);
  assert.ok(states.filter(([status]) => status === "answering").length > 3);

  // What does not own the model leaves it loaded; what does frees it.
  const left = await page.evaluate(async () => {
    removeVue();
    const loaded = window.model;
    const { context } = await loaded.info();
    removeReact();
    return [context, await loaded.info().then(() => "", (e) => e instanceof SiskinError && e.code)];
  });
  assert.deepEqual(left, [512, "unloaded"]);
  assert.deepEqual(noise, []);
});

test("the Prompt API: from the download to an answer", async () => {
  const { page, noise } = opened;
  const found = await page.evaluate(async (url) => {
    // This Chromium has the class, but no model for it.
    await install(url, { device: "cpu", context: 128 });
    const availabilities = [await LanguageModel.availability()];
    const events = [];
    const creating = LanguageModel.create({
      samplingMode: "most-predictable",
      monitor: (m) => m.addEventListener("downloadprogress", (e) => events.push([e.constructor.name, e.loaded, e.total])),
    });
    const session = await creating;
    availabilities.push(await LanguageModel.availability());
    const signal = AbortSignal.timeout(200);
    let text = "";
    const end = await session.promptStreaming("hi", { signal }).pipeTo(new WritableStream({ write: (chunk) => (text += chunk) })).catch((e) => e.name);
    const quota = await session.prompt("word ".repeat(200)).catch((e) => [e instanceof DOMException, e.name, e.quota]);
    LanguageModel.unload();
    availabilities.push(await LanguageModel.availability());
    return { availabilities, events, text, end, quota };
  }, `${server.url}tiny/llama/model.gguf`);
  assert.deepEqual(found.availabilities, ["downloadable", "available", "available"]);
  assert.deepEqual([found.events[0], found.events.at(-1)], [["ProgressEvent", 0, 1], ["ProgressEvent", 1, 1]]);
  assert.ok(found.text.length > 0, "it streamed");
  assert.deepEqual(found.quota, [true, "QuotaExceededError", 128]);
  const ofItsOwn = /^warning: .*(LanguageModel API request|text session)/;
  assert.deepEqual(noise.filter((line) => !ofItsOwn.test(line)), []);
});
