// How often long-running work yields to the event loop and reports progress.

import type { Progress } from "./types.js";

/** Interval in milliseconds at which the event loop runs at least once, to stop and to draw. */
export const BREATH = 12;

/** Yields to the event loop. */
export const breathe = () =>
  new Promise<void>((done) => {
    const { port1, port2 } = new MessageChannel();
    port2.onmessage = () => {
      port1.close();
      done();
    };
    port1.postMessage(0);
  });

/** Adds the rate, and drops updates that follow too quickly to be visible. */
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
