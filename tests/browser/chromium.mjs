// Chromium with WebGPU on SwiftShader, and a page that records unexpected messages.
import { chromium } from "playwright-core";

const options = (more = []) => ({
  timeout: PATIENCE,
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--no-sandbox",
    "--no-first-run",
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    ...more,
  ],
});

/** Milliseconds: other tests may keep the machine busy. */
export const PATIENCE = 300_000;

export const launch = (more) => chromium.launch(options(more));

/** A browser with its own profile, in this folder. */
export const launchProfile = (folder) => chromium.launchPersistentContext(folder, options());

/** A page with a fresh profile. `noise` collects messages, of which a quiet package has none. */
export async function openPage(browser, url, options = {}) {
  const context = options.context ?? (await browser.newContext(options));
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const noise = [];
  page.on("console", (m) => noise.push(`${m.type()}: ${m.text()}`));
  page.on("pageerror", (e) => noise.push(`uncaught: ${e.message}`));
  await page.goto(url);
  await page.waitForFunction("window.ready");
  return { page, context, noise, close: () => context.close() };
}
