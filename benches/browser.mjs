// siskin in Chromium compared with wllama (llama.cpp in WebAssembly): the same file, browser and prompt, in one run.
//   cargo xtask browser-bench
// Options after `--`: --prompt N (128), --tokens N (32), --runs N (3), --skip-gpu, --json
import { join } from "node:path";
import { parseArgs } from "node:util";

import { launch, openPage } from "../tests/browser/chromium.mjs";
import { root, serve } from "../tests/browser/server.mjs";

const { values: args } = parseArgs({
  options: {
    prompt: { type: "string", default: "128" },
    tokens: { type: "string", default: "32" },
    runs: { type: "string", default: "3" },
    "skip-gpu": { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});
const [prompt, tokens, runs] = [args.prompt, args.tokens, args.runs].map(Number);
const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];
const server = await serve({
  "": join(root, "tests/browser/dist"),
  models: join(root, "models"),
  wllama: join(root, "benches/node_modules/@wllama/wllama/esm"),
});
const model = `${server.url}models/smollm2-135m-instruct.gguf`;
const browser = await launch();

/** Each run begins with another word, so that no cache helps. */
const words = Array.from({ length: prompt }, (_, i) => ["sun", "moon", "star", "tree", "bird"][(i * 7) % 5]);
const prompts = Array.from({ length: runs }, (_, i) => [`${i + 1}`, ...words.slice(2)].join(" "));

async function siskin(device) {
  const { page, close } = await openPage(browser, server.url);
  const found = await page.evaluate(
    async ([model, device, prompts, maxTokens]) => {
      const load = () => Siskin.load(model, { device, context: 1024 });
      const cold = performance.now();
      (await load()).unload();
      const start = performance.now();
      const siskin = await load();
      const loaded = performance.now();
      const answer = { messages: [{ role: "user", content: "hi" }], max_tokens: 1 };
      await siskin.chat.completions.create(answer);
      const first = performance.now();
      const results = [];
      for (const prompt of prompts) results.push(await siskin.generate(prompt, { maxTokens, ignoreEnd: true }));
      const { profile, deviceName, memory } = await siskin.info();
      return {
        profile, deviceName, memory,
        coldSeconds: (start - cold) / 1000,
        warmSeconds: (loaded - start) / 1000,
        firstTokenSeconds: (first - start) / 1000,
        counts: await siskin.decodeCounts(),
        prefill: results.map((r) => (r.promptTokens - r.cachedTokens) / r.prefillSeconds),
        decode: results.map((r) => (r.ids.length - 1) / r.decodeSeconds),
      };
    },
    [model, device, prompts, tokens + 1],
  );
  await close();
  return { ...found, prefill: median(found.prefill), decode: median(found.decode) };
}

async function wllama() {
  const { page, close } = await openPage(browser, server.url);
  const found = await page.evaluate(
    async ([base, model, prompts, max_tokens]) => {
      const { Wllama } = await import(`${base}wllama/index.js`);
      const silent = { debug() {}, log() {}, warn() {}, error() {} };
      const wllama = new Wllama({ default: `${base}wllama/wasm/wllama.wasm` }, { logger: silent });
      const blob = await (await fetch(model)).blob();
      await wllama.loadModel([blob], { n_ctx: 1024, n_threads: 1, n_gpu_layers: 0 });
      const results = [];
      for (const prompt of prompts) {
        const times = [];
        const start = performance.now();
        const stream = await wllama.createCompletion({
          prompt, max_tokens, temperature: 0, stream: true, ignore_eos: true,
        });
        let timings;
        for await (const chunk of stream) {
          times.push(performance.now());
          timings = chunk.timings ?? timings;
        }
        results.push({ timings, first: times[0] - start, decode: ((times.length - 1) * 1000) / (times.at(-1) - times[0]) });
      }
      return { threads: wllama.getNumThreads(), results };
    },
    [server.url, model, prompts, tokens + 1],
  );
  await close();
  return found;
}

const out = { cpu: await siskin("cpu") };
if (!args["skip-gpu"]) out.webgpu = await siskin("webgpu");
try {
  const { results, threads } = await wllama();
  out.wllama = {
    threads,
    // Its own timings if it reports them; otherwise wall-clock time over about as many tokens.
    prefill: median(results.map((r) => r.timings?.prompt_per_second ?? (prompt * 1000) / r.first)),
    decode: median(results.map((r) => r.timings?.predicted_per_second ?? r.decode)),
  };
} catch (thrown) {
  console.error(`wllama did not run: ${thrown.message}`);
  process.exitCode = 1;
}
await browser.close();
server.close();
if (args.json) {
  console.log(JSON.stringify(out, null, 2));
} else {
  console.log("tokens per second           prefill   decode");
  for (const [name, r] of Object.entries(out)) {
    const label = name === "wllama" ? `wllama, ${r.threads} thread` : `siskin ${name} (${r.profile})`;
    console.log(`${label.padEnd(26)} ${r.prefill.toFixed(1).padStart(8)} ${r.decode.toFixed(2).padStart(8)}`);
  }
  for (const name of ["cpu", "webgpu"]) {
    const r = out[name];
    if (r) console.log(`siskin ${name}: loaded in ${r.warmSeconds.toFixed(2)} s when cached, first token after ${r.firstTokenSeconds.toFixed(2)} s`);
    if (r?.counts) console.log(`  decode step: ${JSON.stringify(r.counts)}`);
  }
}
