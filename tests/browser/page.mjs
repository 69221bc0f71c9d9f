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

/** The button that names the open model. */
export const modelButton = (page) => page.getByRole("button", { name: /^Model:/ });

/** Waits until a model is open in the page. */
export const opened = (page) => modelButton(page).filter({ hasText: /CPU|WebGPU/ }).waitFor({ state: "attached" });

/** Opens the default model, or the one at an address: on the first screen, or in the panel of the model that is open. */
export async function loadModel(page, address) {
  const isOpen = (await modelButton(page).filter({ hasText: /CPU|WebGPU/ }).count()) > 0;
  if (isOpen) await modelButton(page).click();
  const place = isOpen ? page.getByRole("dialog") : page.getByRole("main");
  if (address) {
    await place.getByText("More ways to open a model").click();
    await place.getByLabel("Address of a model").fill(address);
    await place.getByRole("button", { name: "Open", exact: true }).click();
  } else {
    await place.getByRole("button", { name: /^(Load|Open) SmolLM2 135M/ }).click();
  }
  if (isOpen) await place.waitFor({ state: "hidden" });
  await opened(page);
}

export const view = (page, name) => page.getByRole("navigation").getByRole("link", { name }).click();

/** Sends a message and waits for the complete answer. */
export async function say(page, text) {
  await page.getByLabel("Your message").fill(text);
  await page.getByRole("button", { name: "Send" }).click();
  await page.getByRole("button", { name: "Stop" }).waitFor({ state: "hidden" });
  return page.locator("article.assistant .text").last().innerText();
}

/** Opens the chat's settings, works in them, and closes them. */
export async function settings(page, work) {
  await page.getByRole("button", { name: "Settings" }).click();
  await work(page.getByRole("dialog"));
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "hidden" });
}
