// The page as a user operates it.
import { join } from "node:path";

import { PATIENCE } from "./chromium.mjs";
import { root, serve } from "./server.mjs";

export const serveSite = () =>
  serve({ "": join(root, "web/dist"), models: join(root, "models"), tiny: join(root, "tests/fixtures/tiny") });

/** Opens the page with a fresh profile; `noise` collects unexpected messages. */
export async function visit(browser, url, options = {}) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const noise = [];
  page.on("console", (m) => m.type() === "error" && !m.text().includes("404") && noise.push(m.text()));
  page.on("pageerror", (e) => noise.push(`uncaught: ${e.message}`));
  await page.goto(url);
  return { page, context, noise };
}

/** Checks and loads the default model, or the one at an address. */
export async function loadModel(page, address) {
  if (address) {
    await page.getByLabel("Address of a model").fill(address);
    await page.getByRole("button", { name: "Check" }).click();
  } else {
    await page.getByRole("button", { name: /SmolLM2 135M/ }).click();
  }
  await page.getByRole("button", { name: /^Load/ }).click();
  await page.getByRole("button", { name: "Change" }).waitFor();
}

export const view = (page, name) => page.getByRole("navigation").getByRole("link", { name }).click();

/** Sends a message and waits for the complete answer. */
export async function say(page, text) {
  await page.getByLabel("Your message").fill(text);
  await page.getByRole("button", { name: "Send" }).click();
  await page.getByRole("button", { name: "Stop" }).waitFor({ state: "hidden" });
  return page.locator("article.assistant .text").last().innerText();
}
