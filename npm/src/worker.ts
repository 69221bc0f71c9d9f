// The worker of a model that answers.

import { serve } from "./wire.js";
import * as wasm from "./wasm/siskin_wasm.js";

serve(wasm);
