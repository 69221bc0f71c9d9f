// Bundles the package into dist/: index.js, worker.js, shared.js (what both import), types, and the wasm.
// `cargo xtask npm` puts the glue and the wasm into src/wasm/ first.
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
// What the package is built of inside is not declared: the glue's types ask for more of TypeScript than its own do.
const declared = ["index", "siskin", "chat", "errors", "store", "train", "types"];
for (const file of readdirSync("dist").filter((f) => f.endsWith(".d.ts"))) {
  if (!declared.includes(file.slice(0, -".d.ts".length))) rmSync(`dist/${file}`);
}
