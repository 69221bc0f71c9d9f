// Answers side by side: the prompts that the session answers, and the loop that steps it.

import { aborted } from "./errors.js";
import { BREATH, breathe } from "./pace.js";
import type { Generated } from "./types.js";
import type { CompiledGrammar } from "./wasm/siskin_grammar.js";
import type { Exchange, Session } from "./wasm/siskin_training.js";

/** What happens to a request: `prefill, done, total`; `token, id, text, logprob`; `rest, text`; `lost`; `reply, JSON`. */
type Listener = (kind: string, ...args: unknown[]) => void;

interface Asked {
  /** Submits it to the session; returns its number there. */
  submit: (session: Session) => number;
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

  /** Answers a request, beside those that are being answered; resolves to the answer as JSON. */
  ask(submit: (session: Session) => number, signal: AbortSignal, listen: Listener): Promise<string> {
    return new Promise((resolve, reject) => {
      const othersWait = this.waiting() > (this.#isQueued ? 1 : 0);
      (this.#runs && othersWait ? this.#later : this.#waiting).push({ submit, signal, listen, resolve, reject });
      if (!this.#runs) void this.#run();
    });
  }

  /** Answers a request in OpenAI's shape; resolves to what is sent back if it is not streamed. */
  async exchange(
    exchange: Exchange,
    grammar: CompiledGrammar | undefined,
    signal: AbortSignal,
    onReply: (data: string) => void,
    onLost: () => void,
  ): Promise<string | undefined> {
    // A worker's callbacks are sent separately from its results: the last one must arrive first.
    let last: unknown;
    const listen = (kind: string, ...args: unknown[]) => {
      if (kind === "reply") last = onReply(args[0] as string);
      if (kind === "lost") onLost();
    };
    const n = exchange.answers;
    // If one of several answers fails, the others stop.
    const stop = new AbortController();
    const answers = Array.from({ length: n }, (_, index) => {
      const submit = (session: Session) => {
        const request = session.submitExchange(exchange, index, grammar as never);
        if (index === n - 1) for (const data of exchange.begin()) last = onReply(data);
        return request;
      };
      return this.ask(submit, AbortSignal.any([signal, stop.signal]), listen);
    });
    try {
      const ended = await Promise.all(answers);
      if (ended.some((json) => (JSON.parse(json) as Generated).finishReason === "cancelled")) throw aborted();
    } catch (thrown) {
      stop.abort();
      await Promise.allSettled(answers);
      throw thrown;
    }
    await last;
    return exchange.whole();
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
        this.#running.set(asked.submit(session), asked);
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
