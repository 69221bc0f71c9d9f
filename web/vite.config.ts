import { fileURLToPath } from "node:url";

import { svelte } from "@sveltejs/vite-plugin-svelte";
import sirv from "sirv";
import { defineConfig, type Plugin, type PreviewServer, type ViteDevServer } from "vite";
import { VitePWA } from "vite-plugin-pwa";

/** Serves downloaded models, which are not part of the build, under /models/. */
function models(): Plugin {
  const folder = fileURLToPath(new URL("../models/", import.meta.url));
  const serve = (server: ViteDevServer | PreviewServer) => {
    server.middlewares.use("/models/", sirv(folder, { dev: true, etag: true }));
  };
  return { name: "models", configureServer: serve, configurePreviewServer: serve };
}

/** Leaves KaTeX's fonts in one format, which every browser with WebAssembly reads. */
const oneFormat: Plugin = {
  name: "katex-fonts",
  enforce: "pre",
  transform(code, id) {
    if (id.endsWith("katex.min.css")) return code.replaceAll(/,url\([^)]+\) format\("(woff|truetype)"\)/g, "");
    return undefined;
  },
};

export default defineConfig({
  base: "./",
  // The server's policy allows no fonts in the style sheet itself.
  build: { target: "es2022", assetsInlineLimit: (file) => (file.endsWith(".woff2") ? false : undefined) },
  worker: { format: "es" },
  // Pre-bundling would lose its worker and wasm, which are separate files.
  optimizeDeps: { exclude: ["siskin"] },
  plugins: [
    svelte(),
    models(),
    oneFormat,
    VitePWA({
      registerType: "autoUpdate",
      includeAssets: ["icon.svg"],
      manifest: {
        name: "siskin",
        short_name: "siskin",
        description: "Run language models in this tab: chat, look inside, fine-tune. Nothing leaves the machine.",
        theme_color: "#2f6b3c",
        background_color: "#fbfaf6",
        display: "standalone",
        icons: [{ src: "icon.svg", sizes: "any", type: "image/svg+xml", purpose: "any" }],
      },
      workbox: {
        globPatterns: ["**/*.{js,css,html,svg,wasm,jsonl}"],
        // Mathematics and what reads PDFs are fetched when they are first needed, and kept from then on.
        globIgnores: ["**/katex*", "**/pdf*"],
        runtimeCaching: [
          { urlPattern: /\/assets\/katex/i, handler: "CacheFirst", options: { cacheName: "mathematics" } },
          { urlPattern: /\/assets\/pdf/, handler: "CacheFirst", options: { cacheName: "pdf" } },
        ],
        maximumFileSizeToCacheInBytes: 8 << 20,
        // siskin itself caches models; the others are answered by `siskin serve`.
        navigateFallbackDenylist: [/\/models\//, /^\/(v1|health|metrics)\b/],
      },
    }),
  ],
});
