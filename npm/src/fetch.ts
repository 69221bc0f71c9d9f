// OpenAI's HTTP API without HTTP: what `fetch` would return if a server answered.

import type { Embeddings } from "./embeddings.js";
import { SiskinError } from "./errors.js";
import { isError, streamed, type Exchanger, type Route } from "./exchange.js";

/** A model that answers. */
export interface Answering {
  readonly exchanger: Exchanger;
  readonly embeddings: Embeddings;
}

const ROUTES: readonly string[] = ["/v1/chat/completions", "/v1/completions", "/v1/responses"] satisfies Route[];

const json = (value: unknown, status = 200) => Response.json(value, { status });

const refused = (status: number, message: string, code: string | null = null) =>
  json({ error: { message, type: status < 500 ? "invalid_request_error" : "server_error", param: null, code } }, status);

function failed(thrown: unknown): Response {
  const { code, message } = SiskinError.from(thrown);
  if (code === "aborted") throw new DOMException(message, "AbortError");
  if (code === "prompt_too_long") return refused(400, message, "context_length_exceeded");
  return refused(code === "invalid_request" || code === "chat_template" ? 400 : 500, message);
}

async function textOf(input: RequestInfo | URL, init: RequestInit | undefined): Promise<string> {
  if (typeof init?.body === "string") return init.body;
  return init?.body != null || !(input instanceof Request) ? new Response(init?.body).text() : input.text();
}

/** Server-sent events, as they come. */
function events(areNamed: boolean, data: AsyncGenerator<string>): Response {
  const encoder = new TextEncoder();
  const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
    async pull(controller) {
      try {
        const { done, value } = await data.next();
        if (done) return controller.close();
        const kind = areNamed ? `event: ${(JSON.parse(value) as { type: string }).type}\n` : "";
        controller.enqueue(encoder.encode(`${kind}data: ${value}\n\n`));
        // The client throws it.
        if (isError(value)) controller.close();
      } catch (thrown) {
        controller.error(thrown);
      }
    },
    async cancel() {
      await data.return(undefined);
    },
  });
  return new Response(body, { headers: { "content-type": "text/event-stream" } });
}

/**
 * A `fetch` that some models answer, whatever the host of the address: `/v1/chat/completions`, `/v1/completions`,
 * `/v1/responses`, `/v1/embeddings` and `/v1/models`. Requests that name none of the models go to the first.
 */
export function createFetch(...models: Answering[]): typeof fetch {
  const [first] = models;
  if (!first) throw new SiskinError("invalid_request", "there is no model to answer");
  return async (input, init) => {
    const method = init?.method ?? (input instanceof Request ? input.method : "GET");
    const { pathname } = new URL(input instanceof Request ? input.url : String(input), "http://siskin.invalid");
    const path = pathname.replace(/^.*(?=\/v1\/)/, "");
    if (method === "GET" && path === "/v1/models") {
      const data = models.map(({ exchanger }) => ({ id: exchanger.name, object: "model", created: 0, owned_by: "siskin" }));
      return json({ object: "list", data });
    }
    if (method !== "POST" || !(ROUTES.includes(path) || path === "/v1/embeddings")) {
      return refused(404, `\`${method} ${pathname}\` is not supported`);
    }
    const signal = init?.signal ?? (input instanceof Request ? input.signal : undefined);
    signal?.throwIfAborted();
    const controller = new AbortController();
    signal?.addEventListener("abort", () => controller.abort(), { signal: controller.signal });
    try {
      const body = await textOf(input, init);
      let request: { model?: unknown; stream?: unknown };
      try {
        request = JSON.parse(body);
      } catch (thrown) {
        return refused(400, `the body is not JSON: ${(thrown as Error).message}`);
      }
      const { exchanger, embeddings } = models.find((m) => m.exchanger.name === request?.model) ?? first;
      if (path === "/v1/embeddings") return json(await embeddings.create(request as never));
      const name = exchanger.name;
      if (request?.stream !== true) {
        const whole = await exchanger.exchange(path as Route, name, body, () => {}, controller.signal);
        return new Response(whole, { headers: { "content-type": "application/json" } });
      }
      const data = await streamed(exchanger, path as Route, name, body, controller);
      return events(path === "/v1/responses", data);
    } catch (thrown) {
      return failed(thrown);
    }
  };
}
