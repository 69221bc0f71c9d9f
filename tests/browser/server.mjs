// Serves the built app and models, as well or as badly as a test requires.
import { createReadStream, readFileSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../..", import.meta.url));

const TYPES = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".css": "text/css",
  ".wasm": "application/wasm",
  ".json": "application/json",
  ".svg": "image/svg+xml",
  ".webmanifest": "application/manifest+json",
};

/** Folders by the first part of the path; the empty one serves the rest. */
export async function serve(folders) {
  /** Faults of a path, or of all paths in a folder: `{ gone, status, html, cutAfter, noRange, etag, noCors, append, times }`. */
  const faults = new Map();
  const requests = [];
  let headers = {};
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
    const fault = faults.get(path) ?? faults.get(path.slice(0, path.lastIndexOf("/") + 1)) ?? {};
    if (fault.times !== undefined && --fault.times === 0) faults.delete(path);
    requests.push({ path, range: request.headers.range });
    if (fault.gone) return void request.socket.destroy();
    if (fault.status) return void response.writeHead(fault.status).end();
    if (fault.html) return void response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html>");
    const [, first, ...rest] = path.split("/");
    const [folder, inside] = first in folders ? [folders[first], rest.join("/")] : [folders[""], path];
    let file = join(folder, normalize(inside));
    let size;
    try {
      if (statSync(file).isDirectory()) file = join(file, "index.html");
      size = statSync(file).size;
    } catch {
      return void response.writeHead(404).end();
    }
    const etag = fault.etag ?? `"${size}-${statSync(file).mtimeMs}"`;
    const out = { "content-type": TYPES[extname(file)] ?? "application/octet-stream", etag, ...headers };
    if (!fault.noCors) out["access-control-allow-origin"] = "*";
    out["access-control-expose-headers"] = "etag, content-range";
    if (fault.append) return void response.writeHead(200, out).end(readFileSync(file, "utf8") + fault.append);
    if (!fault.noRange) out["accept-ranges"] = "bytes";
    const range = !fault.noRange && request.headers.range?.match(/^bytes=(\d+)-(\d*)$/);
    const matches = !request.headers["if-range"] || request.headers["if-range"] === etag;
    let [start, end] = [0, size - 1];
    if (range && matches) {
      start = Number(range[1]);
      end = range[2] ? Math.min(Number(range[2]), size - 1) : size - 1;
      if (start >= size) return void response.writeHead(416, { ...out, "content-range": `bytes */${size}` }).end();
      response.writeHead(206, { ...out, "content-range": `bytes ${start}-${end}/${size}`, "content-length": end - start + 1 });
    } else {
      response.writeHead(200, { ...out, "content-length": size });
    }
    if (fault.cutAfter !== undefined && fault.cutAfter < end - start + 1) {
      const stream = createReadStream(file, { start, end: start + fault.cutAfter - 1 });
      // An error discards a stream's buffer: on a busy machine the page needs this long to read what was sent before it.
      stream.on("end", () => setTimeout(() => response.destroy(), 250));
      return void stream.pipe(response, { end: false });
    }
    if (size === 0) return void response.end();
    createReadStream(file, { start, end }).pipe(response);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return {
    url: `http://localhost:${server.address().port}/`,
    /** The same files from another origin. */
    otherOrigin: `http://127.0.0.1:${server.address().port}/`,
    faults,
    requests,
    setHeaders: (more) => (headers = more),
    close: () => server.close(),
  };
}
