import { copyFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import MinimizerPlugin from "minimizer-webpack-plugin";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

// The worker and the wasm are found without any configuration; these are only the page, and the form of its script.
export default {
  mode: "production",
  entry: here("../main.js"),
  output: { path: here("dist"), filename: "[name].js", chunkFilename: "[name].js", module: true, chunkFormat: "module", clean: true },
  experiments: { outputModule: true },
  // Optional: pdf.js, which siskin fetches with the first PDF, is minified already, and to do that again takes most of the time.
  optimization: { minimizer: [new MinimizerPlugin({ exclude: /siskin-pdf/ })] },
  plugins: [{ apply: ({ hooks }) => hooks.done.tap("page", () => copyFileSync(here("../index.html"), here("dist/index.html"))) }],
};
