// The last conversation's keys and values, so that it continues at once after a reload.

import type { Siskin } from "siskin";

import { KeptFiles } from "./kept.js";

const stored = new KeptFiles("siskin-sequence");
const FILE = "last.safetensors";

export async function keepSequence(siskin: Siskin): Promise<void> {
  try {
    await stored.keep(FILE, (await siskin.save()) as Uint8Array<ArrayBuffer>);
  } catch {
    // The model was unloaded meanwhile.
  }
}

/** Drops the file if it is of another model. */
export async function restoreSequence(siskin: Siskin): Promise<void> {
  const file = await stored.kept(FILE);
  if (!file) return;
  try {
    await siskin.restore(new Uint8Array(await file.arrayBuffer()));
  } catch {
    await stored.forget();
  }
}
