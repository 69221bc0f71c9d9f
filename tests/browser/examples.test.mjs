// The examples, built as they are, answer in Chromium or in Node.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { build } from "vite";

import { PATIENCE, launch } from "./chromium.mjs";
import { root, serve } from "./server.mjs";

const ANSWER = "The capital of France is Paris.";
const sources = join(root, "examples/web");
// Below the tests' packages, where Node finds them.
const folder = join(root, "tests/browser/dist-examples");
const model = join(root, "models/smollm2-135m-instruct.gguf");
let browser;

before(async () => {
  rmSync(folder, { recursive: true, force: true });
  cpSync(sources, folder, { recursive: true });
  browser = await launch();
});
after(() => browser?.close());

/** Opens an example's page, presses its button, and waits for what it shows; `isOffline` is after a visit, without a server. */
async function ask(name, built, shown, isOffline = false) {
  const server = await serve({ "": built, "model.gguf": model });
  const page = await (await browser.newContext()).newPage();
  const noise = [];
  page.on("console", (m) => noise.push(m.text()));
  page.on("pageerror", (e) => noise.push(e.message));
  page.setDefaultTimeout(PATIENCE);
  try {
    await page.goto(server.url);
    const button = page.locator("button:enabled", { hasText: "Ask" });
    if (isOffline) {
      await button.waitFor();
      for (const folder of ["/", "/assets/"]) server.faults.set(folder, { gone: true });
      await page.reload();
    }
    await button.click();
    await page.getByText(shown).first().waitFor();
    // Examples have no icon.
    assert.deepEqual(noise.filter((n) => !n.includes(isOffline ? "net::ERR" : "404")), [], name);
  } finally {
    await page.context().close();
    server.close();
  }
}

test("plain: no build step, a strict Content-Security-Policy and Trusted Types", async () => {
  cpSync(join(root, "npm/dist"), join(folder, "plain/siskin"), { recursive: true });
  await ask("plain", join(folder, "plain"), ANSWER);
});

for (const [name, shown, isOffline] of [
  ["vite", ANSWER],
  ["react", `assistant: ${ANSWER}`],
  ["tools", "It is ten o'clock in Paris."],
  ["service-worker", ANSWER],
  ["documents", /^The ferry .*nine/],
  ["pwa", ANSWER, true],
]) {
  test(`${name}: built by Vite as it is`, async () => {
    const cwd = process.cwd();
    process.chdir(join(folder, name));
    await build({ root: join(folder, name), logLevel: "error" });
    process.chdir(cwd);
    await ask(name, join(folder, name, "dist"), shown, isOffline);
  });
}

test("node: JSON that fits a schema", () => {
  const printed = execFileSync(process.execPath, [join(folder, "node/answer.mjs"), model], { encoding: "utf8" });
  assert.match(printed, /^\{ answer: .*, isCertain: (true|false) \}\n$/s);
});
