// Requests in OpenAI's shapes, which the wasm answers.

import { SiskinError, aborted } from "./errors.js";
import { check } from "./options.js";

/** Routes of OpenAI's API. */
export type Route = "/v1/chat/completions" | "/v1/completions" | "/v1/responses";

export interface RequestOptions {
  signal?: AbortSignal | null;
}

/** What requests need from a model. */
export interface Exchanger {
  readonly name: string;
  /**
   * Answers a request, which is JSON, under a name for the model. Of a stream, each event's JSON is told as it comes;
   * otherwise, resolves to the JSON of the answer.
   */
  exchange(route: Route, name: string, body: string, onReply: (data: string) => void, signal: AbortSignal): Promise<string | undefined>;
}

/** What is streamed. Leaving the loop, or calling `controller.abort()`, stops it. */
export interface ReplyStream<T> extends AsyncIterable<T> {
  controller: AbortController;
}

/** As JSON, without losing anything: JSON would leave out functions, and write numbers that are not finite as null. */
function serialise(request: object): string {
  return JSON.stringify(request, (key, value: unknown) => {
    const isLost = typeof value === "function" || typeof value === "symbol" || (typeof value === "number" && !Number.isFinite(value));
    if (isLost) throw new SiskinError("invalid_request", `\`${key}\` is ${String(value)}, which JSON does not have`);
    return value;
  });
}

/** Answers a request: an object, or a stream of them. */
export async function ask<Chunk, Whole>(model: Exchanger, route: Route, request: object, options: RequestOptions): Promise<ReplyStream<Chunk> | Whole> {
  check("create", options);
  if (typeof request !== "object" || request === null) throw new SiskinError("invalid_request", "a request must be an object");
  const body = serialise(request);
  const { model: asked, stream } = request as { model?: unknown; stream?: unknown };
  const name = typeof asked === "string" ? asked : model.name;
  const controller = new AbortController();
  const { signal } = options;
  if (signal?.aborted) throw aborted();
  signal?.addEventListener("abort", () => controller.abort(), { signal: controller.signal });
  if (!stream) {
    try {
      return JSON.parse((await model.exchange(route, name, body, () => {}, controller.signal))!) as Whole;
    } finally {
      controller.abort();
    }
  }
  const events = await streamed(model, route, name, body, controller);
  async function* chunks(): AsyncGenerator<Chunk> {
    // What says that an answer has failed is thrown, too.
    for await (const data of events) if (data !== "[DONE]" && !isError(data)) yield JSON.parse(data) as Chunk;
  }
  return { controller, [Symbol.asyncIterator]: chunks };
}

/** Whether an event says that an answer has failed. */
export const isError = (data: string): boolean => data.startsWith('{"error":');

/** The data of a stream's events; settles when the answer begins. */
export async function streamed(
  model: Exchanger,
  route: Route,
  name: string,
  body: string,
  controller: AbortController,
): Promise<AsyncGenerator<string>> {
  const queue: string[] = [];
  let ended = false;
  let failure: unknown;
  let wake = () => {};
  const woken = () => new Promise<void>((resolve) => (wake = resolve));
  let next = woken();
  const end = (thrown?: unknown) => {
    // A stream stopped by its reader simply ends, as OpenAI's does.
    const isStopped = controller.signal.aborted && thrown !== undefined && SiskinError.from(thrown).code === "aborted";
    [ended, failure] = [true, isStopped ? undefined : thrown];
    wake();
  };
  const onReply = (data: string) => {
    queue.push(data);
    wake();
  };
  model.exchange(route, name, body, onReply, controller.signal).then(() => end(), end);
  await next;
  if (failure !== undefined) throw failure;
  async function* events(): AsyncGenerator<string> {
    try {
      for (;;) {
        next = woken();
        while (queue.length > 0 && !controller.signal.aborted) yield queue.shift()!;
        if (failure !== undefined) throw failure;
        if (ended || controller.signal.aborted) return;
        await next;
      }
    } finally {
      controller.abort();
    }
  }
  return events();
}
