// Libraries over models in the page.
export * as ai from "ai";
export { default as OpenAI } from "openai";
export { createSiskin } from "siskin/ai-sdk";
export { openaiFetch } from "siskin/openai";
