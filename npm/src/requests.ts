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
  #waiting: Asked[] = [];
  readonly #running = new Map<number, Asked>();
  #runs = false;

  /** `inTurn` calls back with the session when nobody else uses it, `othersWait` says whether somebody wants to. */
  constructor(
    private readonly inTurn: (work: (session: Session) => Promise<void>) => Promise<void>,
    private readonly othersWait: () => boolean,
  ) {}

  /** Answers a prompt, beside those that are being answered. */
  ask(prompt: Uint32Array, request: string, signal: AbortSignal, listen: Listener): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ prompt, request, signal, listen, resolve, reject });
      if (!this.#runs) void this.#run();
    });
  }

  async #run(): Promise<void> {
    this.#runs = true;
    while (this.#waiting.length > 0) {
      try {
        await this.inTurn((session) => this.#answer(session));
      } catch (thrown) {
        for (const asked of [...this.#running.values(), ...this.#waiting]) asked.reject(thrown);
        this.#running.clear();
        this.#waiting = [];
      }
    }
    this.#runs = false;
  }

  /** Steps until all have been answered. While somebody else waits for the session, no more are taken on. */
  async #answer(session: Session): Promise<void> {
    const tell = (id: number, kind: string, ...args: unknown[]) => this.#tell(id, kind, args);
    let breath = performance.now();
    do {
      if (this.#running.size === 0 || !this.othersWait()) this.#submit(session);
      for (const [id, { signal }] of this.#running) if (signal.aborted) session.cancel(id, tell);
      if (this.#running.size === 0) return;
      await session.step(tell);
      if (performance.now() - breath < BREATH) continue;
      await breathe();
      breath = performance.now();
    } while (this.#running.size > 0 || (this.#waiting.length > 0 && !this.othersWait()));
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
