// `siskin/openai`: OpenAI's client, and any library that takes a `fetch`, over models in the page.

import { createFetch } from "./fetch.js";
import type { Siskin } from "./siskin.js";

/**
 * A `fetch` that models in the page answer, for `new OpenAI({ fetch: openaiFetch(siskin), apiKey: "-" })`. Requests say by
 * `model` which of several answers; one that names none of them goes to the first.
 */
export const openaiFetch = (...models: Siskin[]): typeof fetch => createFetch(...models);

/**
 * Answers a page's requests in a service worker, for `addEventListener("fetch", answerRequests(() => model))`: those to
 * `/v1/…` of its own origin. The model is loaded when the first of them comes.
 */
export function answerRequests(load: () => Promise<Siskin>): (event: Event) => void {
  let answer: Promise<typeof fetch> | undefined;
  return (event) => {
    const { request, respondWith } = event as unknown as { request: Request; respondWith: (answer: Promise<Response>) => void };
    const { origin, pathname } = new URL(request.url);
    if (origin !== location.origin || !pathname.startsWith("/v1/")) return;
    answer ??= load().then((model) => openaiFetch(model));
    // A later request tries again.
    answer.catch(() => (answer = undefined));
    respondWith.call(event, answer.then((answer) => answer(request)));
  };
}
