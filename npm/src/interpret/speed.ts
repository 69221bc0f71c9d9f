// What a model reads from memory for each token that it writes.

import type { Info, ModelInfo } from "../types.js";

const INPUT = /^(?:token_embd|(?:model\.|transformer\.)?(?:embed_tokens|wte|embed_in))\.weight$/;
const OUTPUT = /^(?:output|lm_head|embed_out)\.weight$/;

/** Bytes that are read to write one token after so many others. */
export function bytesPerToken({ model, memory, context }: Pick<Info, "model" | "memory" | "context">, tokens: number): { weights: number; cache: number } {
  const input = model.tensors.find((t) => INPUT.test(t.name));
  // Of an embedding, one row is read; but most small models use the same matrix for their output, which is read whole.
  const unread = input && model.tensors.some((t) => OUTPUT.test(t.name)) ? input.bytes : 0;
  const active = model.experts ? model.experts.activeParameters / model.parameters : 1;
  return { weights: (memory.weights - unread) * active, cache: (memory.kvCache / context) * tokens };
}

/** What a tensor belongs to. */
export type TensorRole = "embedding" | "attention" | "mlp" | "other";

const ROLES: readonly (readonly [RegExp, TensorRole])[] = [
  [/(^|\.)(token_embd|position_embd|token_types|embed_tokens|wte|wpe|embed_in|embed_out|word_embeddings|output|lm_head)\./, "embedding"],
  [/norm/, "other"],
  [/(^|\.)(attn|self_attn|attention)|_attn|ssm_|linear_attn|mixer|shortconv/, "attention"],
  [/(^|\.)(ffn|mlp|feed_forward|experts?|block_sparse_moe)|ffn_/, "mlp"],
];

/** The bytes of a model's weights, as its file has them, by what they belong to. */
export function weightsByRole({ tensors }: Pick<ModelInfo, "tensors">): Record<TensorRole, number> {
  const bytes: Record<TensorRole, number> = { embedding: 0, attention: 0, mlp: 0, other: 0 };
  for (const tensor of tensors) bytes[ROLES.find(([pattern]) => pattern.test(tensor.name))?.[1] ?? "other"] += tensor.bytes;
  return bytes;
}
