// What Node does in its own way. Its entry points set this before anything is called; in a browser it stays unset.

import type { Endpoint } from "comlink";

import type { Purpose } from "./bindings.js";
import type { ByteSource } from "./source.js";
import type { RuntimeOptions } from "./types.js";

/** A thread that runs an engine. */
export interface Thread {
  endpoint: Endpoint;
  terminate(): void;
}

export interface Platform {
  /** The address of a file or a folder (ending in `/`) on disc; undefined if the text is another kind of address. */
  address(text: string): string | undefined;
  /** A file to read by range. Undefined if it does not exist but `mayLack`; with a SHA-256, only if the file has it. */
  open(url: string, mayLack: boolean, sha256?: string): Promise<ByteSource | undefined>;
  /** Called before an engine starts on the calling thread. */
  prepare(): void;
  /** Called before a PDF is read, which happens on the calling thread. */
  preparePdf(): Promise<void>;
  /** Starts a thread; `onFailure` is called when it dies. */
  startWorker(purpose: Purpose, onFailure: (why: string) => void, options: RuntimeOptions): Thread;
}

let current: Platform | undefined;

export const platform = (): Platform | undefined => current;

export const setPlatform = (own: Platform): void => {
  current = own;
};

/** The platform, if it has a file at this address. */
export const platformOf = (url: string): Platform | undefined => (url.startsWith("file:") ? current : undefined);
