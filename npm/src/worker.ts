import { expose } from "comlink";

import { Engine } from "./engine.js";
import { carryErrors } from "./remote.js";

carryErrors();
expose(new Engine());
