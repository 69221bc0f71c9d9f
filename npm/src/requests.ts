// Answers side by side: the prompts that the session answers, and the loop that steps it.

import { aborted } from "./errors.js";
import { BREATH, breathe } from "./pace.js";
import type { Session } from "./wasm/siskin_training.js";

/** What happens to a request: `prefill, done, total`; `token, id, text, logprob`; `rest, text`; `lost`. */
type Listener = (kind: string, ...args: unknown[]) => void;

interface Asked {
  prompt: Uint32Array;
  /** The wasm's request, as JSON. */
  request: string;
  signal: AbortSignal;
  listen: Listener;
  /** With the answer as JSON. */
  resolve: (answer: string) => void;
  reject: (thrown: unknown) => void;
}

export class Requests {
  /** To be answered in this turn, or in the next one if there is none. */
  #waiting: Asked[] = [];
  /** Asked after others have begun to wait for the session: they come first. */
  #later: Asked[] = [];
  readonly #running = new Map<number, Asked>();
  #runs = false;
  /** Whether the turn has not begun. */
  #isQueued = false;

  /** `inTurn` calls back with the session when nobody else uses it; `waiting` is how many calls wait for that. */
  constructor(
    private readonly inTurn: (work: (session: Session) => Promise<void>) => Promise<void>,
    private readonly waiting: () => number,
  ) {}

  /** Answers a prompt, beside those that are being answered. */
  ask(prompt: Uint32Array, request: string, signal: AbortSignal, listen: Listener): Promise<string> {
    return new Promise((resolve, reject) => {
      const othersWait = this.waiting() > (this.#isQueued ? 1 : 0);
      (this.#runs && othersWait ? this.#later : this.#waiting).push({ prompt, request, signal, listen, resolve, reject });
      if (!this.#runs) void this.#run();
    });
  }

  async #run(): Promise<void> {
    this.#runs = true;
    while (this.#waiting.length > 0) {
      try {
        this.#isQueued = true;
        await this.inTurn((session) => this.#answer(session));
      } catch (thrown) {
        for (const asked of [...this.#running.values(), ...this.#waiting]) asked.reject(thrown);
        this.#running.clear();
        this.#waiting = [];
      } finally {
        this.#isQueued = false;
      }
      this.#waiting.push(...this.#later.splice(0));
    }
    this.#runs = false;
  }

  /** Steps until all have been answered. */
  async #answer(session: Session): Promise<void> {
    this.#isQueued = false;
    const tell = (id: number, kind: string, ...args: unknown[]) => this.#tell(id, kind, args);
    let breath = performance.now();
    for (;;) {
      this.#submit(session);
      for (const [id, { signal }] of this.#running) if (signal.aborted) session.cancel(id, tell);
      if (this.#running.size === 0) return;
      await session.step(tell);
      if (performance.now() - breath < BREATH) continue;
      await breathe();
      breath = performance.now();
    }
  }

  #submit(session: Session): void {
    const all = this.#waiting;
    this.#waiting = [];
    for (const asked of all) {
      try {
        if (asked.signal.aborted) throw aborted();
        this.#running.set(session.submit(asked.prompt, asked.request), asked);
      } catch (thrown) {
        asked.reject(thrown);
      }
    }
  }

  #tell(id: number, kind: string, args: unknown[]): void {
    const asked = this.#running.get(id);
    if (!asked) return;
    if (kind === "done" || kind === "failed") this.#running.delete(id);
    if (kind === "done") asked.resolve(args[0] as string);
    else if (kind === "failed") asked.reject(args[0]);
    else asked.listen(kind, ...args);
  }
}
