import { createReadStream, statSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig, type Plugin } from "vite";
import { VitePWA } from "vite-plugin-pwa";

/** Serves what `cargo xtask model` fetched, which is no part of the build, under /models/. */
function models(): Plugin {
  const folder = fileURLToPath(new URL("../models/", import.meta.url));
  type Server = { middlewares: { use: (path: string, f: (q: import("node:http").IncomingMessage, r: import("node:http").ServerResponse, next: () => void) => void) => void } };
  const serve = (server: Server) =>
    server.middlewares.use("/models/", (request, response, next) => {
      const name = request.url?.match(/^\/([\w.-]+\.gguf)$/)?.[1];
      const size = name && statSync(folder + name, { throwIfNoEntry: false })?.size;
      if (!name || !size) return next();
      const range = request.headers.range?.match(/^bytes=(\d+)-(\d*)$/);
      const start = Number(range?.[1] ?? 0);
      const end = Math.min(Number(range?.[2] || size - 1), size - 1);
      response.writeHead(range ? 206 : 200, {
        "content-type": "application/octet-stream",
        "content-length": end - start + 1,
        "accept-ranges": "bytes",
        etag: `"${size}"`,
        ...(range && { "content-range": `bytes ${start}-${end}/${size}` }),
      });
      createReadStream(folder + name, { start, end }).pipe(response);
    });
  return { name: "models", configureServer: serve, configurePreviewServer: serve };
}

export default defineConfig({
  base: "./",
  build: { target: "es2022" },
  worker: { format: "es" },
  // Its worker and wasm stand beside it: bundled in advance they would be lost.
  optimizeDeps: { exclude: ["siskin"] },
  plugins: [
    svelte(),
    models(),
    VitePWA({
      registerType: "autoUpdate",
      includeAssets: ["icon.svg"],
      manifest: {
        name: "siskin",
        short_name: "siskin",
        description: "Language models in this tab: chat with one, look inside it. Nothing leaves the machine.",
        theme_color: "#2f6b3c",
        background_color: "#fbfaf6",
        display: "standalone",
        icons: [{ src: "icon.svg", sizes: "any", type: "image/svg+xml", purpose: "any" }],
      },
      workbox: {
        globPatterns: ["**/*.{js,css,html,svg,wasm}"],
        maximumFileSizeToCacheInBytes: 8 << 20,
        // Models are kept by siskin itself.
        navigateFallbackDenylist: [/\/models\//],
      },
    }),
  ],
});
