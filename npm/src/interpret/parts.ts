// Parts of a model, switched off: an adapter whose magnitudes are zero multiplies what a projection computes by zero (DoRA).

import { SiskinError } from "../errors.js";
import type { Siskin } from "../siskin.js";
import type { LoraAdapter } from "../train.js";
import type { Bytes, ModelInfo } from "../types.js";

/** What a layer adds to the residual stream. */
export interface Part {
  /** From 0. */
  layer: number;
  kind: "attention" | "mlp";
}

/** The last projection of a part: by its name in an adapter, and the shape of its weight. */
interface Projection extends Part {
  module: string;
  shape: readonly number[];
}

/** Names of these projections' weights in GGUF files and in Hugging Face folders. */
const NAMES = [
  [/^(?:blk\.(\d+)\.attn_output|model\.layers\.(\d+)\.self_attn\.o_proj)\.weight$/, "attention", "self_attn.o_proj"],
  [/^(?:blk\.(\d+)\.ffn_down|model\.layers\.(\d+)\.mlp\.down_proj)\.weight$/, "mlp", "mlp.down_proj"],
] as const;

/** Those of models that were asked for before. */
const known = new WeakMap<object, Projection[]>();

function projections(model: Pick<ModelInfo, "nLayers" | "tensors">): Projection[] {
  const found = known.get(model) ?? find(model);
  known.set(model, found);
  return found;
}

function find(model: Pick<ModelInfo, "nLayers" | "tensors">): Projection[] {
  const names = new Set(model.tensors.map((t) => t.name));
  const found = new Map<string, Projection>();
  for (const { name, shape } of model.tensors) {
    for (const [pattern, kind, module] of NAMES) {
      const match = pattern.exec(name);
      if (!match) continue;
      if (names.has(name.replace(/weight$/, "bias"))) {
        throw new SiskinError("invalid_request", `\`${name}\` has a bias, which an adapter cannot switch off`);
      }
      const layer = Number(match[1] ?? match[2]);
      found.set(`${layer} ${kind}`, { layer, kind, shape, module: `model.layers.${layer}.${module}` });
    }
  }
  return Array.from({ length: model.nLayers }, (_, layer) => ["attention", "mlp"].map((kind) => [layer, kind] as const))
    .flat()
    .map(([layer, kind]) => {
      const part = found.get(`${layer} ${kind}`);
      if (part) return part;
      const what = kind === "attention" ? "attention" : "MLP";
      throw new SiskinError("invalid_request", `layer ${layer + 1} of this model has no ${what} that can be switched off by itself`);
    });
}

/** A model's parts, in the order in which they run. Throws if they cannot be switched off one by one. */
export function partsOf(model: Pick<ModelInfo, "nLayers" | "tensors">): Part[] {
  return projections(model).map(({ layer, kind }) => ({ layer, kind }));
}

/** Tensors of 32-bit floats, each with one value throughout, as the contents of a safetensors file. */
function safetensors(tensors: readonly [name: string, shape: readonly number[]][]): Bytes {
  const entries: Record<string, object> = {};
  let bytes = 0;
  for (const [name, shape] of tensors) {
    const end = bytes + 4 * shape.reduce((a, b) => a * b, 1);
    entries[name] = { dtype: "F32", shape, data_offsets: [bytes, end] };
    bytes = end;
  }
  const json = JSON.stringify(entries);
  // Tensors begin at a multiple of 8 bytes.
  const header = new TextEncoder().encode(json.padEnd(Math.ceil(json.length / 8) * 8));
  const file = new Uint8Array(8 + header.length + bytes);
  new DataView(file.buffer).setBigUint64(0, BigInt(header.length), true);
  file.set(header, 8);
  return file;
}

/** An adapter that switches these parts off: what they add to the residual stream is zero. */
export function ablation(model: Pick<ModelInfo, "nLayers" | "tensors">, off: readonly Part[]): LoraAdapter {
  const all = projections(model);
  const chosen = off.map(({ layer, kind }) => {
    const found = all.find((p) => p.layer === layer && p.kind === kind);
    if (!found) throw new SiskinError("invalid_request", `the model has no part \`${kind}\` in a layer ${layer}; it has ${model.nLayers} layers`);
    return found;
  });
  const tensors = chosen.flatMap(({ module, shape: [rows = 0, columns = 0] }): [string, number[]][] => [
    [`base_model.model.${module}.lora_A.weight`, [1, columns]],
    [`base_model.model.${module}.lora_B.weight`, [rows, 1]],
    [`base_model.model.${module}.lora_magnitude_vector`, [rows]],
  ]);
  const targets = [...new Set(chosen.map(({ module }) => module.split(".").at(-1)!))];
  const config = { peft_type: "LORA", r: 1, lora_alpha: 1, use_dora: true, target_modules: targets };
  return { config: JSON.stringify(config), weights: safetensors(tensors) };
}

/** Logits for the token after a prompt, computed without some parts, and without any other adapter. */
export function logitsWithout(siskin: Siskin, prompt: string | ArrayLike<number>, off: readonly Part[]): Promise<Float32Array> {
  return siskin.nextLogits(prompt, { adapter: off.length > 0 ? ablation(siskin.model, off) : null });
}

/** The logits for the token after a prompt, if the model ended there. */
export interface LensOfPart {
  /** Undefined: the embedding, before the first layer. */
  part: Part | undefined;
  logits: Float32Array;
}

/**
 * The logit lens after each part, at the prompt's last token: the logits if all later parts added nothing. Differences
 * between two of them are what a part adds to a token. The model runs once for each.
 */
export async function* lensByPart(siskin: Siskin, prompt: string | ArrayLike<number>): AsyncGenerator<LensOfPart> {
  const parts = partsOf(siskin.model);
  const ids = typeof prompt === "string" ? (await siskin.tokenizer.encode(prompt)).map((t) => t.id) : prompt;
  for (let done = 0; done <= parts.length; done++) {
    yield { part: parts[done - 1], logits: await logitsWithout(siskin, ids, parts.slice(done)) };
  }
}
