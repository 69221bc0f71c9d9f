import type { Bindings } from "./bindings.js";
import { download, verify, type DownloadOptions } from "./download.js";
import { SiskinError } from "./errors.js";
import { platform, platformOf } from "./platform.js";
import { BlobSource, RangeSource, get, type ByteSource } from "./source.js";
import { find, remove } from "./store.js";
import type { Files } from "./wasm/siskin_training.js";

/** The files of a Hugging Face folder, other than the weights, that the wasm reads; all but the first two are optional. */
const SIDE_FILES = [
  "config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "generation_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "chat_template.json",
  "chat_template.jinja",
  "additional_chat_templates/tool_use.jinja",
];
/** Of a folder of sentence-transformers, which the first of them names. */
const SENTENCE_FILES = ["modules.json", "1_Pooling/config.json", "sentence_bert_config.json", "config_sentence_transformers.json"];
const INDEX = "model.safetensors.index.json";

/** The hub by default. */
export const HUB = "https://huggingface.co";

/** The absolute address of a reference. */
export function address(source: string | URL, hub: string, base: string | undefined): string {
  const text = String(source);
  if (!text.startsWith("hf:")) {
    const onDisc = platform()?.address(text);
    if (onDisc !== undefined) return onDisc;
    try {
      return new URL(text, base).href;
    } catch {
      const relative = base === undefined ? " (there is no page here to resolve it against)" : "";
      throw new SiskinError("invalid_request", `${text} is not an address${relative}`);
    }
  }
  const match = text.match(/^hf:([\w.-]+)\/([\w.-]+)(?:@([\w.-]+))?(?:\/(.+))?$/);
  if (!match) {
    throw new SiskinError("invalid_request", `${text} is not a hub reference; use hf:owner/repo or hf:owner/repo/file.gguf`);
  }
  const [, owner, repo, revision = "main", file = ""] = match;
  return new URL(`${owner}/${repo}/resolve/${revision}/${file}`, hub.endsWith("/") ? hub : `${hub}/`).href;
}

/** Opens the bytes at one address. */
type Open = (url: string, mayLack: boolean, magic?: string) => Promise<ByteSource | undefined>;

/** Downloads and caches the files of a model, and reads its headers. */
export async function openWhole(wasm: Bindings, source: string | Blob | readonly File[], options: DownloadOptions): Promise<Files> {
  const { sha256, hash } = options;
  const isFolder = typeof source === "string" ? source.endsWith("/") : !(source instanceof Blob);
  const isSplit = typeof source === "string" && partsOf(source).length > 1;
  if (sha256 && (isFolder || isSplit)) {
    throw new SiskinError("invalid_request", `\`sha256\` is for a single file; a ${isFolder ? "folder" : "split model"} has several`);
  }
  if (sha256 && source instanceof Blob) await verify("the file", source, sha256, hash);
  const fetched: string[] = [];
  try {
    return await open(wasm, source, async (url, mayLack, magic) => {
      const disc = platformOf(url);
      if (disc) return disc.open(url, mayLack, sha256);
      const file = await download(url, { ...options, mayLack, magic });
      fetched.push(url);
      return file && new BlobSource(url, file);
    });
  } catch (thrown) {
    // A file that is not a model is not cached: the server may have an intact one next time.
    if (SiskinError.from(thrown).code === "invalid_model") await Promise.all(fetched.map(remove));
    throw thrown;
  }
}

/** Reads only the headers of a model, if its server supports range requests. */
export function openHeaders(wasm: Bindings, source: string | Blob | readonly File[], signal?: AbortSignal): Promise<Files> {
  return open(wasm, source, async (url, mayLack) => {
    const disc = platformOf(url);
    if (disc) return disc.open(url, mayLack);
    const kept = await find(url);
    if (kept) return mayLack && kept.file.size === 0 ? undefined : new BlobSource(url, kept.file);
    // An address may have a suffix after the name, or no recognisable name: only files known to be small are fetched whole.
    if (!/\.(json|jinja)$/.test(new URL(url).pathname)) return RangeSource.open(url, signal);
    const response = await get(url, { signal, mayLack });
    return response.status === 404 ? undefined : new BlobSource(url, await response.blob());
  });
}

async function open(wasm: Bindings, source: string | Blob | readonly File[], byUrl: Open): Promise<Files> {
  if (source instanceof Blob) return wasm.Files.gguf([new BlobSource(source instanceof File ? source.name : "the file", source)]);
  if (typeof source === "string") {
    if (source.endsWith("/")) return folder(wasm, source, (name, mayLack) => byUrl(source + name, mayLack));
    const parts: ByteSource[] = [];
    for (const url of partsOf(source)) parts.push((await byUrl(url, false, "GGUF"))!);
    return wasm.Files.gguf(parts);
  }
  const gguf = source.filter((f) => f.name.endsWith(".gguf"));
  if (gguf.length > 0) return wasm.Files.gguf(gguf.map((f) => new BlobSource(f.name, f)));
  return folder(wasm, "the folder", async (name) => {
    const file = within(source, name);
    return file && new BlobSource(name, file);
  });
}

/** A folder's file by its path within it: the one that is the least deep. Files that come without paths have bare names. */
function within(files: readonly File[], name: string): File | undefined {
  const path = (f: File) => f.webkitRelativePath || f.name;
  const found = files.filter((f) => path(f) === name || path(f).endsWith(`/${name}`));
  const [first] = found.sort((a, b) => path(a).length - path(b).length);
  const own = name.split("/").at(-1);
  return first ?? (["config.json", "model.safetensors"].includes(own!) && own !== name ? undefined : files.find((f) => f.name === own));
}

/** The addresses of all parts of a split GGUF file, derived from that of any part: `…-00001-of-00003.gguf`. */
export function partsOf(address: string): string[] {
  const match = address.match(/^(.*-)\d{5}-of-(\d{5})(\.gguf(?:[?#].*)?)$/);
  if (!match || Number(match[2]) === 0) return [address];
  const [, before, count, after] = match;
  const part = (i: number) => `${before}${String(i + 1).padStart(5, "0")}-of-${count}${after}`;
  return Array.from({ length: Number(count) }, (_, i) => part(i));
}

async function folder(
  wasm: Bindings,
  name: string,
  file: (name: string, mayLack: boolean) => Promise<ByteSource | undefined>,
): Promise<Files> {
  const text = async (f: ByteSource) => new TextDecoder().decode(await f.read(0, f.size));
  const side: Record<string, string> = {};
  for (const [i, sideName] of SIDE_FILES.entries()) {
    const found = await file(sideName, i >= 2);
    if (found) side[sideName] = await text(found);
  }
  for (const sideName of SENTENCE_FILES) {
    const found = await file(sideName, true);
    if (found) side[sideName] = await text(found);
    else if (sideName === SENTENCE_FILES[0]) break;
  }
  const dense: string[] = JSON.parse(wasm.denseFolders(JSON.stringify(side)));
  for (const path of dense) {
    const found = await file(`${path}/config.json`, true);
    if (found) side[`${path}/config.json`] = await text(found);
  }
  const index = await file(INDEX, true);
  const names: string[] = index ? JSON.parse(wasm.shardNames(INDEX, await text(index))) : ["model.safetensors"];
  const weights: ByteSource[] = [];
  for (const weightsName of [...names, ...dense.map((path) => `${path}/model.safetensors`)]) {
    const found = await file(weightsName, false);
    if (!found) throw new SiskinError("invalid_model", `${name} has neither ${weightsName} nor a GGUF file`);
    weights.push(found);
  }
  return wasm.Files.folder(name, weights, JSON.stringify(side));
}
