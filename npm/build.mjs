// Bundles the package into dist/: index.js, worker.js, shared.js (imported by both), types, and the wasm.
// `cargo xtask npm` puts the bindings and the wasm into src/wasm/ first.
import { copyFileSync, readdirSync, rmSync } from "node:fs";
import { execFileSync } from "node:child_process";
import { build } from "esbuild";

rmSync("dist", { recursive: true, force: true });
await build({
  entryPoints: ["src/index.ts", "src/worker.ts"],
  outdir: "dist",
  bundle: true,
  splitting: true,
  chunkNames: "shared",
  format: "esm",
  target: "es2022",
  minify: true,
  logLevel: "warning",
});
execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "tsconfig.json"], { stdio: "inherit" });
copyFileSync("src/wasm/siskin_wasm_bg.wasm", "dist/siskin_wasm_bg.wasm");
// Internal modules are not declared: the types of the bindings need a newer TypeScript than the package's own.
const declared = ["index", "siskin", "chat", "embeddings", "errors", "store", "train", "types"];
for (const file of readdirSync("dist").filter((f) => f.endsWith(".d.ts"))) {
  if (!declared.includes(file.slice(0, -".d.ts".length))) rmSync(`dist/${file}`);
}
