// The command line's answers: the browser must give the same.
import { execFileSync } from "node:child_process";
import { join } from "node:path";

import { root } from "./server.mjs";

const siskin = join(root, "target/release/siskin");

/** Greedy ids and text after plain text. */
export function nativeRun(model, prompt, tokens, more = []) {
  const args = ["run", model, prompt, "--raw", "--json", "--max-tokens", String(tokens), "--device", "cpu", ...more];
  return JSON.parse(execFileSync(siskin, args, { cwd: root, encoding: "utf8" }));
}

/** Tokens of plain text. */
export function nativeTokens(model, text) {
  return JSON.parse(execFileSync(siskin, ["tokenize", model, text, "--json"], { cwd: root, encoding: "utf8" }));
}

/** Embeddings of texts, in OpenAI's shape. */
export function nativeEmbed(model, texts) {
  const args = ["embed", model, ...texts, "--json", "--device", "cpu"];
  return JSON.parse(execFileSync(siskin, args, { cwd: root, encoding: "utf8" }));
}

/** Texts sorted by their scores for a query. */
export function nativeRerank(model, query, texts) {
  const args = ["rerank", model, query, ...texts, "--json", "--device", "cpu"];
  return JSON.parse(execFileSync(siskin, args, { cwd: root, encoding: "utf8" }));
}
