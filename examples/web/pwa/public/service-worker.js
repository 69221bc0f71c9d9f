// Keeps what the page fetches, and answers with it when there is no network. The model is kept by siskin itself.
addEventListener("install", () => skipWaiting());
addEventListener("activate", (event) => event.waitUntil(clients.claim()));
addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method === "GET" && new URL(url).origin === location.origin && !url.endsWith(".gguf")) event.respondWith(answer(event.request));
});

async function answer(request) {
  const cache = await caches.open("app");
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(request, response.clone());
    return response;
  } catch (thrown) {
    const kept = await cache.match(request);
    if (kept) return kept;
    throw thrown;
  }
}
