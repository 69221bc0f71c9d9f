// The package's entry in Node.

import { node } from "./node-platform.js";
import { setPlatform } from "./platform.js";

setPlatform(node);

export * from "./index.js";
