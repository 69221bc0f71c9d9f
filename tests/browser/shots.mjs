// Screenshots of each view with the real model, and a film of an answer: `cargo xtask shots` puts them into
// tests/browser/shots, and the README's into web/.
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { launch } from "./chromium.mjs";
import { film } from "./film.mjs";
import { loadModel, say, serveSite, view, visit } from "./page.mjs";

const folder = fileURLToPath(new URL("shots/", import.meta.url));
const web = (name) => fileURLToPath(new URL(`../../web/${name}.png`, import.meta.url));
mkdirSync(folder, { recursive: true });
const server = await serveSite();
const browser = await launch();
for (const [scheme, size] of [
  ["light", { width: 1180, height: 820 }],
  ["dark", { width: 360, height: 740 }],
]) {
  const { page } = await visit(browser, server.url, { colorScheme: scheme, viewport: size });
  const shot = async (name) => {
    await page.evaluate(() => (document.activeElement?.blur(), scrollTo(0, 0)));
    await page.screenshot({ path: `${folder}${name}-${scheme}.png`, fullPage: true });
    console.log(`${folder}${name}-${scheme}.png`);
  };
  await page.getByRole("button", { name: /^Load SmolLM2/ }).waitFor();
  await shot("empty");
  await loadModel(page);
  await say(page, "What is the capital of France?");
  await say(page, "And which river flows through it?");
  await shot("chat");
  await view(page, "Tokens");
  await page.getByText("How a word is assembled").waitFor();
  await page.getByRole("button", { name: "␣unmistakable" }).click();
  await page.waitForTimeout(500);
  await shot("tokens");
  await view(page, "Inside");
  await page.getByRole("button", { name: "Add the most likely" }).click();
  await page.locator("main .text .new").waitFor({ timeout: 60_000 });
  await page.getByRole("button", { name: "Show the alternatives" }).click();
  await page.locator(".branch").nth(3).waitFor();
  await shot("next");
  await page.getByRole("button", { name: "Through the layers", exact: true }).click();
  await page.getByRole("region", { name: "Logit lens" }).waitFor({ timeout: 120_000 });
  await page.getByRole("button", { name: /^Measure what each part adds/ }).click();
  await page.getByRole("button", { name: /^Measure what each part adds/ }).waitFor({ timeout: 120_000 });
  await shot("layers");
  await page.goto(`${server.url}#inside?prompt=red%20green%20blue%20red%20green%20blue%20red%20green&show=heads`);
  // The strongest induction head.
  await page.locator(".chip").nth(4).click();
  // The wall is drawn over several frames.
  await page.waitForTimeout(1000);
  await shot("inside");
  await view(page, "Train");
  await page.getByRole("button", { name: "Try the sample: Pip the bird" }).click();
  await page.getByText("as the model sees it").waitFor();
  if (scheme === "light") {
    await page.getByRole("button", { name: "Estimate time" }).click();
    await page.getByText("Estimated time").waitFor({ timeout: 120_000 });
    await shot("train-before");
    await page.getByRole("button", { name: "Start", exact: true }).click();
    await page.getByText("Done: 30 steps.").waitFor({ timeout: 900_000 });
  }
  await shot("train");
  await view(page, "Model");
  await page.getByText("This browser’s GPU").waitFor();
  await page.getByRole("button", { name: "Test every kernel" }).click();
  await page.getByRole("button", { name: "Test every kernel" }).waitFor({ timeout: 120_000 });
  await shot("model");
  await page.close();
}
for (const [name, to] of [
  ["inside", "screenshot"],
  ["train", "train"],
]) {
  copyFileSync(`${folder}${name}-light.png`, web(to));
}
const { page } = await visit(browser, server.url, { colorScheme: "light", viewport: { width: 1080, height: 640 } });
await loadModel(page);
const answer = await film(page, async () => {
  await page.getByLabel("Your message").pressSequentially("Write one sentence about a small green bird.", { delay: 60 });
  await page.waitForTimeout(400);
  await page.getByRole("button", { name: "Send" }).click();
  await page.getByRole("button", { name: "Stop" }).waitFor({ state: "hidden", timeout: 180_000 });
});
writeFileSync(web("answer"), answer);
await page.screenshot({ path: web("chat") });
console.log(`${web("answer")}: ${answer.length} bytes`);
await browser.close();
server.close();
