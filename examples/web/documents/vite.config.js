// The dev server bundles packages beforehand, which loses siskin's worker.
export default { optimizeDeps: { exclude: ["siskin"] } };
