// The worker is an entry of its own, at the root, so that it serves the whole origin.
export default {
  optimizeDeps: { exclude: ["siskin"] },
  build: {
    rollupOptions: {
      input: ["index.html", "worker.ts"],
      output: { entryFileNames: ({ name }) => (name === "worker" ? "worker.js" : "assets/[name]-[hash].js") },
    },
  },
};
