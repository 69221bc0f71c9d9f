import { expose } from "comlink";

import { Engine } from "./engine.js";
import { carryErrors } from "./wire.js";

carryErrors();
expose(new Engine());

// Unhandled rejections become worker errors, which the page receives.
addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  reportError(event.reason);
});
