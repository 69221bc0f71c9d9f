// A worker's side.

import { expose, type Endpoint } from "comlink";

import { asBindings } from "./bindings.js";
import { carryErrors } from "./carry-errors.js";
import { Engine } from "./engine.js";
import * as grammar from "./wasm/siskin_grammar.js";

/** Runs an engine in this worker; Node's threads have an endpoint of their own. */
export function serve(wasm: Parameters<typeof asBindings>[0], endpoint?: Endpoint): void {
  carryErrors();
  // Not imported when it is needed: bundlers do not split workers.
  expose(new Engine(asBindings(wasm), async () => grammar), endpoint);
  // In Node, they end the thread.
  if (endpoint) return;
  // Unhandled rejections become worker errors, which the page receives.
  addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    reportError(event.reason);
  });
}
