import { cpSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const siskin = dirname(createRequire(import.meta.url).resolve("siskin/package.json"));

await build({
  entryPoints: [here("../main.js")],
  outdir: here("dist"),
  bundle: true,
  minify: true,
  format: "esm",
  // What siskin imports when it is needed stays apart.
  splitting: true,
  chunkNames: "app-[hash]",
});
// esbuild does not bundle workers: siskin's own files are copied next to the output, where the script looks for them.
cpSync(`${siskin}/dist`, here("dist"), { recursive: true, filter: (file) => !file.endsWith(".d.ts") });
cpSync(here("../index.html"), here("dist/index.html"));
