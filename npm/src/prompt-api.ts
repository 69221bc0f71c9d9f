// Chrome's Prompt API over a model of the page's choice: https://webmachinelearning.github.io/prompt-api/

import type { LoadedModel } from "./loaded.js";
import { createError, domError, quotaExceeded, unlessAborted } from "./prompt-errors.js";
import { PARAMS, canonicalize, checkOptions, convert, samplingOf, whyUnsupported } from "./prompt-input.js";
import { Shared } from "./prompt-model.js";
import { Session, tokensOf } from "./prompt-session.js";
import type {
  LanguageModelCreateOptions,
  LanguageModelFactory,
  LanguageModelLoadOptions,
  LanguageModelMonitor,
} from "./prompt-types.js";
import type { ModelSource } from "./types.js";

export type * from "./prompt-types.js";

class Monitor extends EventTarget implements LanguageModelMonitor {
  ondownloadprogress: LanguageModelMonitor["ondownloadprogress"] = null;
  #last = -1;

  constructor() {
    super();
    this.addEventListener("downloadprogress", (event) => this.ondownloadprogress?.call(this, event));
  }

  /** Tells a fraction if it is larger than those before. */
  tell(loaded: number): void {
    if (!(loaded > this.#last)) return;
    this.#last = loaded;
    const fields = { loaded, total: 1, lengthComputable: true };
    const event =
      typeof ProgressEvent === "undefined"
        ? Object.assign(new Event("downloadprogress"), fields)
        : new ProgressEvent("downloadprogress", fields);
    this.dispatchEvent(event);
  }
}

const nextTask = () => new Promise<void>((done) => setTimeout(done));

/**
 * `LanguageModel` over a model: one that is loaded, or one to load when the first session is created. All sessions share it.
 * `options` are those of `Siskin.load`.
 */
export function languageModel(source: ModelSource | LoadedModel, options: LanguageModelLoadOptions = {}): LanguageModelFactory {
  const shared = new Shared(source, options);
  // Pages may call the functions without the class.
  const create = async (given: LanguageModelCreateOptions = {}) => {
    const { signal, monitor: onMonitor, initialPrompts = [] } = given;
    checkOptions(given);
    const initial = [...initialPrompts].length > 0 ? canonicalize(convert(initialPrompts), false) : [];
    if (initial.at(-1)?.prefix) throw domError("NotSupportedError", "`prefix` is for messages that are answered");
    const sampling = samplingOf(given);
    signal?.throwIfAborted();
    const why = whyUnsupported(given);
    if (why) throw domError("NotSupportedError", why);
    const monitor = new Monitor();
    onMonitor?.(monitor);
    const tell = (fraction: number) => {
      if (!signal?.aborted) monitor.tell(fraction);
    };
    tell(0);
    const open = async () => {
      try {
        const [model, contextWindow] = await shared.use(signal, tell);
        const usage = await tokensOf(model, initial);
        return { model, contextWindow, usage };
      } catch (thrown) {
        throw createError(thrown);
      }
    };
    const opened = await unlessAborted(signal, open());
    tell(1);
    // A listener may abort at the last event, too.
    await nextTask();
    signal?.throwIfAborted();
    const { contextWindow, usage } = opened;
    if (usage > contextWindow) throw quotaExceeded(usage, contextWindow);
    const session = new LanguageModel({ ...opened, sampling, messages: initial, initial: initial.length });
    signal?.addEventListener("abort", () => session.end(signal.reason), { once: true });
    return session;
  };

  class LanguageModel extends Session {
    static readonly create = create;

    static async availability(given: LanguageModelCreateOptions = {}) {
      checkOptions(given);
      try {
        samplingOf(given);
      } catch {
        return "unavailable" as const;
      }
      return whyUnsupported(given) ? ("unavailable" as const) : shared.availability();
    }

    static readonly params = async () => ({ ...PARAMS });

    static readonly unload = () => shared.unload();
  }
  return LanguageModel;
}

/** Sets `globalThis.LanguageModel`, unless the browser has one with a model of its own; returns the one that is there then. */
export async function install(
  source: ModelSource | LoadedModel,
  options: LanguageModelLoadOptions = {},
): Promise<LanguageModelFactory> {
  const scope = globalThis as { LanguageModel?: LanguageModelFactory };
  // Some browsers have the class, but no model for it.
  const own = await scope.LanguageModel?.availability().catch(() => "unavailable");
  if (scope.LanguageModel && own !== "unavailable") return scope.LanguageModel;
  const made = languageModel(source, options);
  Object.defineProperty(scope, "LanguageModel", { value: made, configurable: true, writable: true });
  return made;
}
