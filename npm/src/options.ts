// Unknown options are refused by name: a misspelt one would otherwise have no effect.

import { SiskinError } from "./errors.js";

const RUNTIME = ["worker", "wasmUrl", "wasmBytes", "trainingWasmUrl", "trainingWasmBytes", "hub"];

/** The options of each call. */
const KNOWN = {
  load: [...RUNTIME, "device", "profile", "context", "onProgress", "onDeviceLost", "signal", "cache", "sha256", "training"],
  fits: [...RUNTIME, "device", "context", "memory", "signal"],
  inspect: [...RUNTIME, "signal"],
  fit: ["device", "context", "memory"],
  gpu: RUNTIME,
  selfTest: [...RUNTIME, "profile"],
  "cache.delete": ["hub"],
  "generate's listeners": ["onEvent", "signal"],
  trace: ["attention", "topK", "logitLens"],
  previewExample: ["lossOn", "maxSeqLen"],
  "adapters.use": ["scale"],
  train: [
    "rank", "loraAlpha", "useRslora", "useDora", "targetModules", "loraDropout", "optim", "learningRate", "schedule",
    "warmupSteps", "weightDecay", "maxGradNorm", "epochs", "steps", "batchSize", "maxSeqLen", "packing", "lossOn",
    "validation", "evalEvery", "gradientCheckpointing", "seed",
  ],
  render: ["addGenerationPrompt"],
  create: ["signal"],
} as const;

export function check(call: keyof typeof KNOWN, options: object & { context?: unknown; memory?: unknown }): void {
  const known: readonly string[] = KNOWN[call];
  const wrong = Object.keys(options).find((key) => !known.includes(key));
  if (wrong !== undefined) {
    throw new SiskinError("invalid_request", `${call} has no option \`${wrong}\`; it has: ${known.join(", ")}`);
  }
  for (const key of ["context", "memory"] as const) {
    const value = options[key];
    if (value !== undefined && !(Number.isSafeInteger(value) && (value as number) > 0)) {
      throw new SiskinError("invalid_request", `\`${key}\` is ${String(value)}; it must be a positive integer`);
    }
  }
}
