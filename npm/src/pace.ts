// How often what runs beside a page lets it breathe, and tells how far it is.

import type { Progress } from "./types.js";

/** A page hears of a stop, and draws, at least this often, in milliseconds. */
export const BREATH = 12;

/** Lets what waits in the event loop run. */
export const breathe = () =>
  new Promise<void>((done) => {
    const { port1, port2 } = new MessageChannel();
    port2.onmessage = () => {
      port1.close();
      done();
    };
    port1.postMessage(0);
  });

/** Adds the rate, and leaves out what follows too fast to be seen. */
export function progressReporter(onProgress: (p: Progress) => void) {
  let [phase, start, begun, last] = ["" as Progress["phase"] | "", 0, 0, 0];
  return (now: Progress["phase"], loaded: number, total: number) => {
    const time = performance.now();
    if (now !== phase) [phase, start, begun, last] = [now, time, loaded, 0];
    else if (time - last < 50 && loaded !== total) return;
    last = time;
    const seconds = (time - start) / 1000;
    onProgress({ phase: now, loaded, total, rate: seconds > 0 ? (loaded - begun) / seconds : 0 });
  };
}
