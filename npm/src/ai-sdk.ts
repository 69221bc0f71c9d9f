// `siskin/ai-sdk`: a provider for the Vercel AI SDK, https://ai-sdk.dev

import { createOpenAICompatible, type OpenAICompatibleProvider } from "@ai-sdk/openai-compatible";

import { openaiFetch } from "./openai.js";
import type { Siskin } from "./siskin.js";

/** A provider of models in the page: `generateText({ model: createSiskin(siskin)("any name"), prompt })`. */
export const createSiskin = (...models: Siskin[]): OpenAICompatibleProvider =>
  createOpenAICompatible({
    name: "siskin",
    // Nothing is sent anywhere.
    baseURL: "https://siskin.invalid/v1",
    fetch: openaiFetch(...models),
    includeUsage: true,
    supportsStructuredOutputs: true,
  });
