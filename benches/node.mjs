// Tokens per second of processor time, of the package in Node on the CPU, which other work on the machine changes least.
//   node benches/node.mjs MODEL [DIST]
// DIST is a build of the package (npm/dist).
import { resolve } from "node:path";

const [model, dist = new URL("../npm/dist", import.meta.url).pathname] = process.argv.slice(2);
if (!model) throw new Error("usage: node benches/node.mjs MODEL [DIST]");
const { Siskin } = await import(`${resolve(dist)}/node.js`);
const TOKENS = 32;

const siskin = await Siskin.load(resolve(model), { device: "cpu", context: 1024 });
/** Seconds of processor time, and what was answered. */
async function timed(content, tokens) {
  const before = process.cpuUsage().user;
  const { usage } = await siskin.chat.completions.create({ messages: [{ role: "user", content }], max_tokens: tokens });
  return { seconds: (process.cpuUsage().user - before) / 1e6, usage };
}

const rates = [];
for (let run = 0; run < 5; run++) {
  // The prompt is in the cache then.
  await timed("Tell a story", 1);
  const { seconds, usage } = await timed("Tell a story", 1 + TOKENS);
  rates.push((usage.completion_tokens - 1) / seconds);
}
const { seconds, usage } = await timed("The siskin is a small bird of the finch family. ".repeat(24), 1);
const prefill = usage.prompt_tokens / seconds;
console.log(`prefill ${prefill.toFixed(1)}, decode ${Math.max(...rates).toFixed(1)} tokens per second of processor time`);
await siskin.unload();
