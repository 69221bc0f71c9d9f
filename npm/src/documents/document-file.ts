// A document with its passages and vectors as one file: a checksum, a header, vectors.

import type { DocumentType } from "../documents.js";
import type { Cut } from "./passages.js";

/** What made an index's vectors. */
export interface EmbedderIdentity {
  name: string;
  architecture: string;
  parameters: number;
  pooling: string;
}

export interface DocumentHeader {
  name: string;
  type: DocumentType;
  /** The size of the source. */
  bytes: number;
  /** Of the source, in hexadecimal. */
  sha256: string;
  embedder: EmbedderIdentity;
  /** Values of each vector. */
  columns: number;
  text: string;
  passages: Cut[];
}

export interface DocumentFile {
  header: DocumentHeader;
  /** One of each passage, one after another. */
  vectors: Float32Array;
}

/** SHA-256, in hexadecimal. */
export type Hash = (bytes: Uint8Array) => string;

/** The first bytes of a file of this form. */
const MAGIC = "siskin document 1\n";
/** The digits of a checksum of all that follows, and the length of the header. */
const HEADER_AT = MAGIC.length + 64 + 10;

const ascii = (bytes: Uint8Array) => String.fromCharCode(...bytes);

export function encodeDocument({ header, vectors }: DocumentFile, hash: Hash): Uint8Array<ArrayBuffer> {
  const encoder = new TextEncoder();
  const text = encoder.encode(JSON.stringify(header));
  // Vectors begin at a multiple of 4.
  const vectorsAt = Math.ceil((HEADER_AT + text.length) / 4) * 4;
  const file = new Uint8Array(vectorsAt + vectors.byteLength);
  file.set(encoder.encode(String(text.length).padStart(10)), HEADER_AT - 10);
  file.set(text, HEADER_AT);
  // Machines that run WebAssembly are little-endian.
  file.set(new Uint8Array(vectors.buffer, vectors.byteOffset, vectors.byteLength), vectorsAt);
  file.set(encoder.encode(MAGIC + hash(file.subarray(HEADER_AT - 10))));
  return file;
}

/** Throws an error that says what is wrong with the file. */
export function decodeDocument(file: Uint8Array<ArrayBuffer>, hash: Hash): DocumentFile {
  if (file.length < HEADER_AT) throw new Error("its file is cut short");
  if (ascii(file.subarray(0, MAGIC.length)) !== MAGIC) throw new Error("its file is not one of this version of siskin");
  if (ascii(file.subarray(MAGIC.length, MAGIC.length + 64)) !== hash(file.subarray(HEADER_AT - 10))) {
    throw new Error("its file is damaged: its checksum is another");
  }
  const length = Number(ascii(file.subarray(HEADER_AT - 10, HEADER_AT)));
  const header = JSON.parse(new TextDecoder().decode(file.subarray(HEADER_AT, HEADER_AT + length))) as DocumentHeader;
  const vectorsAt = Math.ceil((HEADER_AT + length) / 4) * 4;
  const vectors = new Float32Array(file.buffer, file.byteOffset + vectorsAt, (file.length - vectorsAt) / 4);
  if (vectors.length !== header.columns * header.passages.length) throw new Error("its file does not have a vector for each passage");
  return { header, vectors };
}
