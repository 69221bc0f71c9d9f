// The models that the first screen offers.

import { Siskin } from "siskin";

import catalogue from "../catalogue.json";
import { read, write } from "./kept-values.js";
import { model, type Choice } from "./model.svelte.js";
import { server } from "./server.svelte.js";

export interface Offer {
  name: string;
  where: "server" | "kept" | "site" | "hub";
  /** Undefined for a model of the server. */
  choice?: Choice;
  bytes?: number;
  /** Bytes of weights and cache. */
  memory?: number;
}

interface Entry extends Choice {
  source: string;
  bytes: number;
  cacheBytesPerToken: number;
}

const ENTRIES: readonly Entry[] = catalogue;
/** The context in which a model is opened, in tokens. */
const CONTEXT = 4096;
const MOST = 3;
const PACE = "pace";
/** A split file is opened by its first part. */
const LATER_PART = /-(?!00001)\d{5}-of-\d{5}\.gguf$/;

const isOnHub = ({ source }: Entry) => source.startsWith("hf:");
const memoryOf = (entry: Entry) => entry.bytes + CONTEXT * entry.cacheBytesPerToken;

/** Half of the memory that the browser reports; undefined if it reports none. */
export function available(): number | undefined {
  const { deviceMemory } = navigator as { deviceMemory?: number };
  return deviceMemory === undefined ? undefined : (deviceMemory * 2 ** 30) / 2;
}

const fits = (entry: Entry) => memoryOf(entry) <= (available() ?? Infinity);

/** Whether the page's own origin has a file: a page in its place, which some servers answer with, is none. */
async function isServed(address: string): Promise<boolean> {
  try {
    const answer = await fetch(address, { method: "HEAD" });
    return answer.ok && !answer.headers.get("content-type")?.startsWith("text/html");
  } catch {
    return false;
  }
}

class Offers {
  /** What the browser keeps, by address, with its size. */
  kept = $state.raw<ReadonlyMap<string, number>>(new Map());
  /** The catalogue's models that this origin serves, by address. */
  served = $state.raw<ReadonlySet<string>>(new Set());
  /** False until both are known. */
  ready = $state(false);

  async look(): Promise<void> {
    const own = ENTRIES.filter((entry) => !isOnHub(entry)).map((entry) => model.address(entry.source));
    const [cached, answers] = await Promise.all([Siskin.cache.list().catch(() => []), Promise.all(own.map(isServed))]);
    this.kept = new Map(cached.filter(({ complete }) => complete).map(({ url, size }) => [url, size]));
    this.served = new Set(own.filter((_, i) => answers[i]));
    this.ready = true;
  }

  /** The server's models, those that the browser keeps, those of this origin, then those of the hub that fit. */
  get all(): Offer[] {
    const remote: Offer[] = server.names.map((name) => ({ name, where: "server" }));
    const known = ENTRIES.map((entry): Offer => {
      const address = model.address(entry.source);
      const where = this.kept.has(address) ? "kept" : this.served.has(address) ? "site" : "hub";
      return { name: entry.name, where, choice: entry, bytes: entry.bytes, memory: memoryOf(entry) };
    });
    const shown = known.filter((offer, i) => offer.where !== "hub" || (isOnHub(ENTRIES[i]!) && fits(ENTRIES[i]!)));
    const addresses = new Set(ENTRIES.map((entry) => model.address(entry.source)));
    const others = [...this.kept].filter(([url]) => url.endsWith(".gguf") && !LATER_PART.test(url) && !addresses.has(url));
    const kept = others.map(([url, bytes]): Offer => {
      const name = decodeURIComponent(url.split("/").at(-1)!).replace(/\.gguf$/, "");
      return { name, where: "kept", choice: { source: url, name }, bytes };
    });
    const local = shown.filter(({ where }) => where !== "hub");
    const hub = shown.filter(({ where }) => where === "hub");
    // The smallest one is of use only where nothing smaller is at hand.
    const room = Math.max(MOST - remote.length - local.length - kept.length, 0);
    return [...remote, ...local, ...kept, ...(room > 0 ? hub.slice(-room) : [])];
  }

  /** How many of the hub's models are too large for this device. */
  get tooLarge(): number {
    return ENTRIES.filter((entry) => isOnHub(entry) && !fits(entry)).length;
  }

  async remove(address: string): Promise<void> {
    await Siskin.cache.delete(address);
    await this.look();
  }
}

export const offers = new Offers();

/** Weight bytes per second that answers have read on this device. */
let pace = $state(read<number>(PACE));

/** Notes how fast an answer was. */
export function notePace(weights: number, tokensPerSecond: number): void {
  pace = weights * tokensPerSecond;
  write(PACE, pace);
}

/** Tokens per second that a model of this size would reach here: each token reads all weights. */
export const expectedRate = (bytes: number): number | undefined => (pace === undefined ? undefined : pace / bytes);
