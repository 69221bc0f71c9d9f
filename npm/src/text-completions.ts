// Text completions in OpenAI's shapes: https://platform.openai.com/docs/api-reference/completions

import type { CommonRequest, Details, Usage } from "./chat.js";
import { ask, type Exchanger, type ReplyStream, type RequestOptions } from "./exchange.js";

export interface TextRequest extends CommonRequest {
  /** A text, its tokens, or a list of either. */
  prompt: string | string[] | number[] | number[][];
  /** How many answers are generated, of which the `n` likeliest are returned. */
  best_of?: number | null;
  /** Log-probabilities of so many of the most likely tokens. */
  logprobs?: number | null;
}

export interface TextLogprobs {
  tokens: string[];
  token_logprobs: number[];
  top_logprobs: Record<string, number>[];
  text_offset: number[];
}

/** The answer, or a part of it that is streamed. */
export interface TextCompletion {
  id: string;
  object: "text_completion";
  created: number;
  model: string;
  choices: { index: number; text: string; finish_reason: "stop" | "length" | null; logprobs?: TextLogprobs | null }[];
  usage?: Usage;
  /** In the last part of an answer. */
  siskin?: Details;
}

/** Text completions of one model: no chat template. */
export class TextCompletions {
  constructor(private readonly model: Exchanger) {}

  create(request: TextRequest & { stream: true }, options?: RequestOptions): Promise<ReplyStream<TextCompletion>>;
  create(request: TextRequest & { stream?: false | null }, options?: RequestOptions): Promise<TextCompletion>;
  create(request: TextRequest, options?: RequestOptions): Promise<ReplyStream<TextCompletion> | TextCompletion>;
  create(request: TextRequest, options: RequestOptions = {}): Promise<ReplyStream<TextCompletion> | TextCompletion> {
    return ask(this.model, "/v1/completions", request, options);
  }
}
