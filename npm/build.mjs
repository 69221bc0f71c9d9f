// Bundles the package into dist/: index.js, the two workers, shared.js (imported by all three), the bindings of both wasm
// files, types, and the wasm files. `cargo xtask npm` puts the bindings and the wasm into src/wasm/ first.
import { copyFileSync, readdirSync, rmSync } from "node:fs";
import { execFileSync } from "node:child_process";
import { build } from "esbuild";

rmSync("dist", { recursive: true, force: true });
const common = { outdir: "dist", bundle: true, format: "esm", target: "es2022", minify: true, logLevel: "warning" };
// Files of their own, each of which is imported where its wasm runs.
const bindings = ["siskin_wasm", "siskin_training"];
await build({ ...common, entryPoints: bindings.map((name) => `src/wasm/${name}.js`) });
const apart = {
  name: "bindings",
  setup: ({ onResolve }) => onResolve({ filter: /\/wasm\/\w+\.js$/ }, ({ path }) => ({ path: path.replace("/wasm/", "/"), external: true })),
};
await build({
  ...common,
  entryPoints: ["src/index.ts", "src/worker.ts", "src/training-worker.ts"],
  splitting: true,
  chunkNames: "shared",
  plugins: [apart],
});
execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "tsconfig.json"], { stdio: "inherit" });
for (const name of bindings) copyFileSync(`src/wasm/${name}_bg.wasm`, `dist/${name}_bg.wasm`);
// Internal modules are not declared: the types of the bindings need a newer TypeScript than the package's own.
const declared = ["index", "siskin", "chat", "embeddings", "errors", "store", "train", "types"];
for (const file of readdirSync("dist").filter((f) => f.endsWith(".d.ts"))) {
  if (!declared.includes(file.slice(0, -".d.ts".length))) rmSync(`dist/${file}`);
}
