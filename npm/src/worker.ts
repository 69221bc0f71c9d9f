import { expose } from "comlink";

import { Engine } from "./engine.js";
import { carryErrors } from "./wire.js";

carryErrors();
expose(new Engine());

// What nobody waits for is an error of the worker, which its page hears of.
addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  reportError(event.reason);
});
