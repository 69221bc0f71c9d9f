// The thread of a model in Node, which answers or trains.

import nodeEndpoint from "comlink/dist/esm/node-adapter";
import { parentPort, workerData } from "node:worker_threads";

import type { Purpose } from "./bindings.js";
import { node } from "./node-platform.js";
import { setPlatform } from "./platform.js";
import { serve } from "./wire.js";

setPlatform(node);
const isTraining = (workerData as Purpose) === "training";
serve(await (isTraining ? import("./wasm/siskin_training.js") : import("./wasm/siskin_wasm.js")), nodeEndpoint(parentPort!));
