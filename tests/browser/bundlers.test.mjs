// The package in bundlers, by the configurations in examples/web/bundlers, and what they built in Chromium.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";

import { PATIENCE, launch } from "./chromium.mjs";
import { nativeRun } from "./native.mjs";
import { root, serve } from "./server.mjs";

// Below the tests' packages, where Node finds them.
const folder = join(root, "tests/browser/dist-bundlers");
const model = join(root, "tests/fixtures/tiny/llama/model.gguf");
const wanted = nativeRun(model, "Once upon a time", 20, ["--ctx", "64"]).text;
let browser;

before(async () => {
  rmSync(folder, { recursive: true, force: true });
  cpSync(join(root, "examples/web/bundlers"), folder, { recursive: true });
  browser = await launch();
});
after(() => browser?.close());

/** Runs webpack, or what has its interface. */
async function pack(bundler, config) {
  const { default: options } = await import(pathToFileURL(join(folder, config)));
  const stats = await new Promise((resolve, reject) => bundler(options, (error, done) => (error ? reject(error) : resolve(done))));
  assert.ok(!stats.hasErrors(), stats.toString({ all: false, errors: true }));
  // That the wasm is large is known.
  const warnings = stats.toJson({ all: false, warnings: true }).warnings.filter(({ message }) => !/size limit|performance/.test(message));
  assert.deepEqual(warnings, []);
}
const run = (...args) => execFileSync(process.execPath, args, { cwd: folder, stdio: ["ignore", "ignore", "inherit"] });

const BUILDS = {
  webpack: async () => pack((await import("webpack")).default, "webpack/webpack.config.js"),
  rspack: async () => pack((await import("@rspack/core")).rspack, "rspack/rspack.config.js"),
  rollup: () => run(join(root, "tests/browser/node_modules/rollup/dist/bin/rollup"), "--silent", "--config", "rollup/rollup.config.js"),
  esbuild: () => run("esbuild/build.mjs"),
};

for (const [name, build] of Object.entries(BUILDS)) {
  test(`${name}: the page, the worker and the wasm are built, and answer`, async () => {
    const began = performance.now();
    await build();
    console.log(`${name}: ${((performance.now() - began) / 1000).toFixed(1)} s`);
    const built = join(folder, name, "dist");
    const files = readdirSync(built, { recursive: true });
    assert.ok(files.includes("index.html") && files.includes("main.js"), files.join());
    assert.ok(files.some((file) => file.endsWith(".wasm")), files.join());
    const server = await serve({ "": built, "model.gguf": model });
    const page = await (await browser.newContext()).newPage();
    const noise = [];
    page.on("console", (m) => noise.push(m.text()));
    page.on("pageerror", (e) => noise.push(e.message));
    page.setDefaultTimeout(PATIENCE);
    try {
      const worker = page.waitForEvent("worker");
      await page.goto(server.url);
      await page.locator("button:enabled").click();
      await page.waitForFunction((text) => document.querySelector("output").value === text, wanted);
      assert.match((await worker).url(), /\.js$/);
      // Examples have no icon.
      assert.deepEqual(noise.filter((n) => !n.includes("404")), []);
    } finally {
      await page.context().close();
      server.close();
    }
  });
}
