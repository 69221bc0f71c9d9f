// Responses in OpenAI's shapes, without what needs storage: https://platform.openai.com/docs/api-reference/responses

import { ask, type Exchanger, type ReplyStream, type RequestOptions } from "./exchange.js";

export interface ResponseRequest {
  model?: string;
  /** A text, or items: messages, calls of tools and their results, reasoning. */
  input: string | readonly object[];
  instructions?: string | null;
  stream?: boolean | null;
  temperature?: number | null;
  top_p?: number | null;
  max_output_tokens?: number | null;
  top_logprobs?: number | null;
  include?: string[] | null;
  text?: { format?: object } | null;
  /** Functions; what describes them stands beside their type. */
  tools?: readonly object[] | null;
  tool_choice?: "auto" | "none" | "required" | { type: "function"; name: string } | null;
  parallel_tool_calls?: boolean | null;
  metadata?: Record<string, string> | null;
  seed?: number | null;
}

export interface ResponseCall {
  id: string;
  type: "function_call";
  status: "in_progress" | "completed";
  call_id: string;
  name: string;
  /** JSON, as text. */
  arguments: string;
}

export interface ResponseReasoning {
  id: string;
  type: "reasoning";
  status: string;
  summary: [];
  content: { type: "reasoning_text"; text: string }[];
}

export interface ResponseMessage {
  id: string;
  type: "message";
  role: "assistant";
  status: "in_progress" | "completed" | "incomplete";
  content: { type: "output_text"; text: string; annotations: []; logprobs: object[] }[];
}

export interface ResponseAnswer {
  id: string;
  object: "response";
  created_at: number;
  model: string;
  status: "in_progress" | "completed" | "incomplete" | "failed";
  output: (ResponseMessage | ResponseCall | ResponseReasoning)[];
  usage: { input_tokens: number; output_tokens: number; total_tokens: number } | null;
  [field: string]: unknown;
}

/** An event of a streamed response. */
export interface ResponseEvent {
  type: string;
  sequence_number: number;
  /** Of `response.output_text.delta`. */
  delta?: string;
  /** Of `response.completed` and others. */
  response?: ResponseAnswer;
  [field: string]: unknown;
}

/** Responses of one model. */
export class Responses {
  constructor(private readonly model: Exchanger) {}

  create(request: ResponseRequest & { stream: true }, options?: RequestOptions): Promise<ReplyStream<ResponseEvent>>;
  create(request: ResponseRequest & { stream?: false | null }, options?: RequestOptions): Promise<ResponseAnswer>;
  create(request: ResponseRequest, options?: RequestOptions): Promise<ReplyStream<ResponseEvent> | ResponseAnswer>;
  create(request: ResponseRequest, options: RequestOptions = {}): Promise<ReplyStream<ResponseEvent> | ResponseAnswer> {
    return ask(this.model, "/v1/responses", request, options);
  }
}
