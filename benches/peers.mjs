// siskin's shaders compared with llama.cpp's (node-llama-cpp), on Vulkan: the same file and machine, in one run. On the CPU,
// node-llama-cpp's own loop would be most of what is measured: see cpu_table.py.
//   cargo xtask model && cargo build --release && npm install --no-save --prefix benches && node benches/peers.mjs
// Options: --prompt N (64), --tokens N (8), --runs N (1), --json
import { execFileSync } from "node:child_process";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
// llama.cpp ignores drivers that run on the CPU unless they are named.
process.env.GGML_VK_VISIBLE_DEVICES ??= "0";
const { getLlama } = await import("node-llama-cpp");

const { values: args } = parseArgs({
  options: {
    prompt: { type: "string", default: "64" },
    tokens: { type: "string", default: "8" },
    runs: { type: "string", default: "1" },
    json: { type: "boolean", default: false },
  },
});
const root = fileURLToPath(new URL("..", import.meta.url));
const model = `${root}models/smollm2-135m-instruct.gguf`;
const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];

async function llamaCpp(gpu, prompt, tokens, runs) {
  const llama = await getLlama({ gpu, build: "never", maxThreads: availableParallelism(), logLevel: "error" });
  const loaded = await llama.loadModel({ modelPath: model, gpuLayers: gpu ? "max" : 0 });
  const context = await loaded.createContext({ contextSize: 1024, threads: availableParallelism(), batchSize: 512 });
  const sequence = context.getSequence();
  const ids = Array.from({ length: prompt }, (_, i) => (i * 7919 + 17) % 49152);
  const [prefill, decode] = [[], []];
  for (let run = 0; run < runs; run++) {
    await sequence.clearHistory();
    const start = performance.now();
    await sequence.evaluateWithoutGeneratingNewTokens(ids);
    prefill.push((prompt * 1000) / (performance.now() - start));
    let [n, first] = [0, 0];
    for await (const _ of sequence.evaluate([5], { temperature: 0 })) {
      if (n++ === 0) first = performance.now();
      if (n > tokens) break;
    }
    decode.push((tokens * 1000) / (performance.now() - first));
  }
  const names = gpu ? (await llama.getGpuDeviceNames()).join() : "CPU";
  await llama.dispose();
  return { names, prefill: median(prefill), decode: median(decode) };
}

function siskin(device, prompt, tokens, runs) {
  const out = execFileSync(
    `${root}target/release/siskin`,
    ["bench", model, "-p", prompt, "-n", tokens, "--runs", runs, "--ctx", 1024, "--device", device, "--json"].map(String),
    { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] },
  );
  const json = JSON.parse(out);
  return { prefill: json.prefill_tok_s, decode: json.decode_tok_s, device: json.device };
}

const [prompt, tokens, runs] = [args.prompt, args.tokens, args.runs].map(Number);
const rows = [];
const compare = async (name, gpu, device, p, n, r) => {
  const theirs = await llamaCpp(gpu, p, n, r);
  const ours = siskin(device, p, n, r);
  for (const what of ["prefill", "decode"]) {
    rows.push({
      device: `${name} (${theirs.names})`, what, tokens: what === "prefill" ? p : n,
      siskin: ours[what], "llama.cpp": theirs[what], ratio: ours[what] / theirs[what],
    });
  }
};
// With a software driver llama.cpp takes seconds per token: few tokens must suffice.
await compare("Vulkan", "vulkan", "gpu", prompt, tokens, runs);
if (args.json) {
  console.log(JSON.stringify(rows));
} else {
  console.table(rows.map((r) => ({ ...r, siskin: r.siskin.toFixed(2), "llama.cpp": r["llama.cpp"].toFixed(2), ratio: r.ratio.toFixed(2) })));
}
process.exit(0);
