// Unknown options are refused by name: a misspelt one would otherwise have no effect.

import { SiskinError } from "./errors.js";
import { WASM_OPTIONS } from "./wasm-files.js";
import type { CacheType, LoadOptions } from "./types.js";

const RUNTIME = ["worker", "workerUrl", "trainingWorkerUrl", "pdfWorkerUrl", ...Object.values(WASM_OPTIONS).flat(), "hub"];

/** The options of each call. */
const KNOWN = {
  load: [...RUNTIME, "device", "profile", "context", "cacheType", "draft", "onProgress", "onDeviceLost", "signal", "cache", "sha256", "training"],
  fits: [...RUNTIME, "device", "context", "cacheType", "memory", "signal"],
  inspect: [...RUNTIME, "signal"],
  fit: ["device", "context", "cacheType", "memory"],
  gpu: RUNTIME,
  selfTest: [...RUNTIME, "profile"],
  "cache.delete": ["hub"],
  "generate's listeners": ["onEvent", "signal"],
  nextLogits: ["adapter"],
  trace: ["attention", "topK", "logitLens"],
  previewExample: ["lossOn", "maxSeqLen"],
  "adapters.use": ["scale"],
  train: [
    "rank", "loraAlpha", "useRslora", "useDora", "targetModules", "loraDropout", "optim", "learningRate", "schedule",
    "warmupSteps", "warmupRatio", "numCycles", "numDecaySteps", "minLrRate", "adamBeta1", "adamBeta2", "adamEpsilon",
    "weightDecay", "maxGradNorm", "epochs", "steps", "batchSize", "maxSeqLen", "chunkOverlap", "packing", "lossOn", "validation",
    "validationData", "evalEvery", "earlyStoppingPatience", "loadBestModelAtEnd", "gradientCheckpointing", "seed", "objective",
    "beta", "lossType", "labelSmoothing", "simpoGamma", "cpoAlpha", "desirableWeight", "undesirableWeight",
    "numGenerations", "maxCompletionLength", "numIterations", "epsilon", "epsilonHigh", "scaleRewards", "importanceSamplingLevel",
    "maskTruncatedCompletions",
  ],
  render: ["addGenerationPrompt"],
  create: ["signal"],
  "documents.open": ["embedder"],
  "documents.add": ["onProgress", "signal"],
  "documents.search": ["limit"],
} as const;

const CACHE_TYPES: readonly unknown[] = ["f32", "f16", "q8_0", "q4_0"] satisfies CacheType[];

/** How keys and values are cached, with defaults. */
export function cacheTypes(given: LoadOptions["cacheType"] = "f16"): { keys: CacheType; values: CacheType } {
  const { keys = "f16", values = "f16", ...more } = typeof given === "object" && given !== null ? given : { keys: given, values: given };
  const [unknown] = Object.keys(more);
  if (unknown !== undefined) {
    throw new SiskinError("invalid_request", `\`cacheType\` has no field \`${unknown}\`; it has: keys, values`);
  }
  for (const type of [keys, values]) {
    if (!CACHE_TYPES.includes(type)) {
      throw new SiskinError("invalid_request", `there is no cache type \`${String(type)}\`; use ${CACHE_TYPES.join(", ")}`);
    }
  }
  return { keys, values };
}

export function check(call: keyof typeof KNOWN, options: object & { context?: unknown; cacheType?: unknown; memory?: unknown }): void {
  const known: readonly string[] = KNOWN[call];
  const wrong = Object.keys(options).find((key) => !known.includes(key));
  if (wrong !== undefined) {
    throw new SiskinError("invalid_request", `${call} has no option \`${wrong}\`; it has: ${known.join(", ")}`);
  }
  cacheTypes(options.cacheType as LoadOptions["cacheType"]);
  for (const key of ["context", "memory"] as const) {
    const value = options[key];
    if (value !== undefined && !(Number.isSafeInteger(value) && (value as number) > 0)) {
      throw new SiskinError("invalid_request", `\`${key}\` is ${String(value)}; it must be a positive integer`);
    }
  }
}
