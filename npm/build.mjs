// Bundles the package into dist/: its entries, the workers, the shared-*.js that they have in common (each class exists once),
// the bindings of the wasm files, pdf.js, types, the wasm files, and the licences of others' code. `cargo xtask npm` puts the
// bindings and the wasm into src/wasm/ first.
import { copyFileSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { execFileSync } from "node:child_process";
import { build } from "esbuild";

rmSync("dist", { recursive: true, force: true });
const common = { outdir: "dist", bundle: true, format: "esm", target: "es2022", logLevel: "warning" };
// Files of their own, each of which is imported where its wasm runs.
const bindings = ["siskin_wasm", "siskin_training", "siskin_grammar"];
await build({ ...common, minify: true, entryPoints: bindings.map((name) => `src/wasm/${name}.js`) });
// In Node, pdf.js would look for a package that draws, warn that there is none, and set `navigator`. Text needs none of it.
const absent = `const navigator = globalThis.navigator ?? { language: "en", platform: "", userAgent: "" };
const DOMMatrix = globalThis.DOMMatrix ?? class {};
`;
const changes = [
  [/^const isNodeJS = .*;$/m, "const isNodeJS = false;"],
  // Its worker is always given; bundlers cannot tell what this is.
  [/await import\([^()]*this\.workerSrc\)/, "{}"],
];
const text = {
  name: "text-only",
  setup: ({ onLoad }) =>
    onLoad({ filter: /legacy[\\/]build[\\/]pdf\.mjs$/ }, ({ path }) => {
      let source = readFileSync(path, "utf8");
      for (const [from, to] of changes) {
        if (!from.test(source)) throw new Error(`${path} does not have ${from} any more`);
        source = source.replace(from, to);
      }
      return { contents: absent + source };
    }),
};
const pdf = await build({ ...common, minify: true, metafile: true, entryPoints: ["src/pdfjs.ts"], plugins: [text] });
copyFileSync("node_modules/pdfjs-dist/legacy/build/pdf.worker.min.mjs", "dist/pdf-worker.js");
/** Modules that are files of their own already. */
const APART = /\/(wasm\/\w+|pdfjs|pdf-worker)\.js$/;
const apart = {
  name: "apart",
  setup: ({ onResolve }) => onResolve({ filter: APART }, ({ path }) => ({ path: path.replace(/^.*\//, "./"), external: true })),
};
/** Entries of their own, beside `index`. */
const clients = ["interpret", "openai", "ai-sdk", "prompt-api", "chat-store", "react", "svelte", "vue"];
const names = ["index", "node", "worker", "training-worker", "node-worker", "documents/document-index", ...clients];
const bundled = await build({
  ...common,
  metafile: true,
  entryPoints: names.map((name) => `src/${name}.ts`),
  entryNames: "[name]",
  // Not the white space: Node shows the line of an error. (`lineLimit` splits addresses, which bundlers then do not find.)
  minifySyntax: true,
  minifyIdentifiers: true,
  splitting: true,
  chunkNames: "shared-[hash]",
  // What decodes Markdown's entities would need a document.
  conditions: ["worker"],
  external: ["node:*", "@ai-sdk/openai-compatible", "react", "svelte", "vue"],
  // Of Comlink's adapter for Node.
  resolveExtensions: [".ts", ".js", ".mjs"],
  plugins: [apart],
});
for (const name of ["prompt-api", "chat-store"]) {
  writeFileSync(`dist/${name}-node.js`, `import "./node.js";\nexport * from "./${name}.js";\n`);
}

/** The packages whose code is bundled, and their licences. */
const outputs = [bundled, pdf].flatMap(({ metafile }) => Object.values(metafile.outputs));
const inputs = outputs.flatMap(({ inputs }) => Object.keys(inputs).filter((path) => inputs[path].bytesInOutput > 0));
const packages = new Set(inputs.flatMap((path) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0] ?? []));
const notices = [...packages].sort().map((folder) => {
  const { name, version, license } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
  const file = readdirSync(folder).find((f) => /^licen[cs]e/i.test(f));
  if (!file) throw new Error(`${name} has no licence file`);
  return `${name} ${version} (${license})\n\n${readFileSync(`${folder}/${file}`, "utf8").trim()}\n`;
});
writeFileSync("dist/THIRD-PARTY.txt", `Parts of this folder are the code of others:\n\n${notices.join(`\n${"-".repeat(80)}\n\n`)}`);

execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "tsconfig.json"], { stdio: "inherit" });
for (const name of bindings) copyFileSync(`src/wasm/${name}_bg.wasm`, `dist/${name}_bg.wasm`);
// Internal modules are not declared: the types of the bindings need a newer TypeScript than the package's own.
const declared = [
  "index", "siskin", "chat", "documents", "exchange", "run-tools", "text-completions", "responses", "embeddings", "errors", "store",
  "train", "rewards", "types", "loaded", "interpret", "openai", "ai-sdk", "prompt-api", "prompt-types", "chat-store", "react", "svelte", "vue",
];
rmSync("dist/documents", { recursive: true });
for (const file of readdirSync("dist").filter((f) => f.endsWith(".d.ts"))) {
  if (!declared.includes(file.slice(0, -".d.ts".length))) rmSync(`dist/${file}`);
}
