import { Siskin } from "siskin";
import { answerRequests } from "siskin/openai";

// A service worker has no workers of its own.
addEventListener("fetch", answerRequests(() => Siskin.load("/model.gguf", { worker: false })));
addEventListener("activate", (event) => (event as ExtendableEvent).waitUntil((self as unknown as ServiceWorkerGlobalScope).clients.claim()));
