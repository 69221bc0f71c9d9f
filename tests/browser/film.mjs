// A page as an animated PNG.
import { setTimeout } from "node:timers/promises";

import UPNG from "upng-js";

/** Milliseconds between frames, and for which the last one is shown. */
const FRAME = 120;
const REST = 4000;
/** Colours of the palette. */
const COLOURS = 128;

/** Records the page while `action` runs, and a little longer. */
export async function film(page, action) {
  const frames = [];
  let running = true;
  const done = action().finally(() => (running = false));
  do {
    const at = performance.now();
    const shot = await page.screenshot({ caret: "initial" });
    if (!frames.at(-1)?.shot.equals(shot)) frames.push({ shot, at });
    await setTimeout(Math.max(0, FRAME - (performance.now() - at)));
  } while (running);
  await done;
  frames.push({ shot: await page.screenshot(), at: performance.now() });
  const decoded = frames.map(({ shot }) => UPNG.decode(Uint8Array.from(shot).buffer));
  const [{ width, height }] = decoded;
  const delays = frames.map(({ at }, i) => Math.round((frames[i + 1]?.at ?? at + REST) - at));
  return Buffer.from(UPNG.encode(decoded.map((image) => UPNG.toRGBA8(image)[0]), width, height, COLOURS, delays));
}
