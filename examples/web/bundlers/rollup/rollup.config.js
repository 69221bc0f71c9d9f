import { cpSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { nodeResolve } from "@rollup/plugin-node-resolve";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const siskin = dirname(createRequire(import.meta.url).resolve("siskin/package.json"));

// Rollup does not bundle workers: siskin's own files are copied next to the output, where the script looks for them.
const copies = {
  name: "copies",
  writeBundle() {
    cpSync(`${siskin}/dist`, here("dist"), { recursive: true, filter: (file) => !file.endsWith(".d.ts") });
    cpSync(here("../index.html"), here("dist/index.html"));
  },
};

export default {
  input: here("../main.js"),
  output: { dir: here("dist"), chunkFileNames: "app-[hash].js" },
  plugins: [nodeResolve({ browser: true }), copies],
};
