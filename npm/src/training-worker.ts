// The worker of a model that trains.

import { serve } from "./wire.js";
import * as wasm from "./wasm/siskin_training.js";

serve(wasm);
