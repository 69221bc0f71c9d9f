// Bundles the package into dist/: index.js, worker.js, what they share, types, and the wasm.
// `cargo xtask npm` puts the glue and the wasm into src/wasm/ first.
import { copyFileSync, mkdirSync, rmSync } from "node:fs";
import { execFileSync } from "node:child_process";
import { build } from "esbuild";

rmSync("dist", { recursive: true, force: true });
await build({
  entryPoints: ["src/index.ts", "src/worker.ts"],
  outdir: "dist",
  bundle: true,
  splitting: true,
  format: "esm",
  target: "es2022",
  minify: true,
  logLevel: "warning",
});
execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "tsconfig.json"], { stdio: "inherit" });
copyFileSync("src/wasm/siskin_wasm_bg.wasm", "dist/siskin_wasm_bg.wasm");
// The declarations name the glue's types.
mkdirSync("dist/wasm", { recursive: true });
copyFileSync("src/wasm/siskin_wasm.d.ts", "dist/wasm/siskin_wasm.d.ts");
rmSync("dist/worker.d.ts");
