// The engine of a loaded model. The wasm that trains is another, larger one: the model is opened again in it when
// training is first asked for.

import type { LoadRequest, Source } from "./engine.js";
import { startHost, type Calls, type Host } from "./remote.js";
import type { LoraAdapter } from "./train.js";
import type { ModelInfo, Progress, RuntimeOptions } from "./types.js";

/** How a model was opened, to open it again. */
export interface Opening {
  source: Source;
  request: LoadRequest;
  options: RuntimeOptions;
  onProgress: (progress: Progress) => void;
}

export class ModelHost implements Host {
  readonly calls: Calls;
  readonly #opening: Opening;
  #host: Host;
  #closed = false;
  /** Settles when the engine can be called; calls wait for it. */
  #change: Promise<unknown> = Promise.resolve();
  #trains: Promise<void> | undefined;
  /** The arguments of the last `setAdapter`. */
  #adapter: [LoraAdapter | null, number] = [null, 1];

  private constructor(host: Host, opening: Opening, trains: boolean) {
    this.#host = host;
    this.#opening = opening;
    if (trains) this.#trains = Promise.resolve();
    this.calls = new Proxy({} as Calls, {
      get: (_, name: keyof Calls) => async (...args: unknown[]) => {
        // To stop a call must not wait for it.
        if (name !== "stop") await this.#change;
        const found = await (this.#host.calls[name] as (...a: unknown[]) => Promise<unknown>)(...args);
        if (name === "setAdapter") this.#adapter = args as [LoraAdapter | null, number];
        return found;
      },
    });
  }

  /** Loads a model; `call` is the number that stops it. */
  static async load(
    opening: Opening,
    trains: boolean,
    load: (host: Host, opening: Opening) => Promise<ModelInfo>,
  ): Promise<[ModelHost, ModelInfo]> {
    const host = await startHost(opening.options, trains ? "training" : "chat");
    try {
      const model = await load(host, opening);
      return [new ModelHost(host, opening, trains), model];
    } catch (thrown) {
      host.close();
      throw thrown;
    }
  }

  callback<F extends (...args: never[]) => void>(f: F): F {
    return this.#host.callback(f);
  }

  close(): void {
    this.#closed = true;
    this.#host.close();
  }

  /** Makes it an engine that trains; settles when it is one. */
  train(): Promise<void> {
    this.#trains ??= this.#openForTraining();
    return this.#trains;
  }

  #openForTraining(): Promise<void> {
    const change = this.#replace();
    // Calls continue with whichever engine there is then.
    this.#change = change.catch(() => (this.#trains = undefined));
    return change;
  }

  async #replace(): Promise<void> {
    const { options } = this.#opening;
    const [before, next] = [this.#host, await startHost(options, "training")];
    try {
      await before.calls.release();
      before.close();
      await this.#open(next);
    } catch (thrown) {
      next.close();
      if (!this.#closed) await this.#open(await startHost(options, "chat"));
      throw thrown;
    }
  }

  async #open(host: Host): Promise<void> {
    const { source, request, onProgress } = this.#opening;
    this.#host = host;
    await host.calls.load(0, source, request, host.callback(onProgress));
    if (this.#adapter[0]) await host.calls.setAdapter(...this.#adapter);
    if (this.#closed) host.close();
  }
}
