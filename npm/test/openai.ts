// Compiled but never run: siskin's chat completions and embeddings can be used where OpenAI's are expected.
import type OpenAI from "openai";

import type { ChatCompletion, ChatCompletionChunk, ChatRequest, Completions } from "../src/chat.js";
import type { EmbeddingRequest, EmbeddingResponse } from "../src/embeddings.js";

/** Fails to compile unless A can be used as B. */
type Fits<A extends B, B> = A;

export type Whole = Fits<ChatCompletion, OpenAI.ChatCompletion>;
export type Vectors = Fits<EmbeddingResponse, OpenAI.CreateEmbeddingResponse>;
export type VectorRequest = Fits<Pick<OpenAI.EmbeddingCreateParams, "dimensions" | "encoding_format" | "model">, Omit<EmbeddingRequest, "input">>;
export type Chunk = Fits<ChatCompletionChunk, OpenAI.ChatCompletionChunk>;

/** The fields that both have are the same. */
type Shared = Pick<
  OpenAI.ChatCompletionCreateParams,
  "temperature" | "top_p" | "max_tokens" | "max_completion_tokens" | "stop" | "seed" | "logprobs" | "top_logprobs" | "stream" | "n"
>;
export type Request = Fits<Shared, Omit<ChatRequest, "messages">>;
export type Messages = Fits<OpenAI.ChatCompletionMessageParam[], ChatRequest["messages"]>;

/** Code written for OpenAI's client. */
export async function written(completions: Completions): Promise<string> {
  const messages = [{ role: "user" as const, content: "hi" }];
  const whole: OpenAI.ChatCompletion = await completions.create({ messages, temperature: 0.5 });
  let text = whole.choices[0]?.message.content ?? "";
  const stream = await completions.create({ messages, stream: true, stop: ["\n"] }, { signal: AbortSignal.timeout(1000) });
  for await (const chunk of stream) {
    const known: OpenAI.ChatCompletionChunk = chunk;
    text += known.choices[0]?.delta.content ?? "";
  }
  return text;
}
