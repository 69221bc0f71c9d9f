// Cuts documents into passages: at headings, then between paragraphs, then between sentences, then between tokens.

/** A paragraph, or a heading, of a text. */
export interface Block {
  start: number;
  end: number;
  /** Of a heading: 1 is the outermost. */
  level?: number;
  title?: string;
  page?: number;
}

/** A document's text, and the blocks that it has, in order. */
export interface Extracted {
  text: string;
  blocks: Block[];
}

/** A passage's place in the text, in UTF-16 code units. */
export interface Cut {
  start: number;
  end: number;
  heading?: string;
  page?: number;
}

/** Where each token begins, ascending, in UTF-16 code units. */
export type TokenStarts = ArrayLike<number>;

/** How many tokens begin before a place. */
function before(tokens: TokenStarts, place: number): number {
  let [low, high] = [0, tokens.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (tokens[middle]! < place) low = middle + 1;
    else high = middle;
  }
  return low;
}

interface Range {
  start: number;
  end: number;
}

class Cutter {
  readonly #text: string;
  readonly #tokens: TokenStarts;
  readonly #most: number;
  readonly #sentences = new Intl.Segmenter(undefined, { granularity: "sentence" });

  constructor(text: string, tokens: TokenStarts, most: number) {
    this.#text = text;
    this.#tokens = tokens;
    this.#most = most;
  }

  fits(start: number, end: number): boolean {
    return this.#size(start, end) <= this.#most;
  }

  #size(start: number, end: number): number {
    return before(this.#tokens, end) - before(this.#tokens, start);
  }

  /** Ranges that fit, of one that does not. Each begins with the last sentence of the one before, unless that is long. */
  split(start: number, end: number): Range[] {
    const units = this.#units(start, end);
    const ranges: Range[] = [];
    let from = start;
    let last: Range | undefined;
    for (const unit of units) {
      if (last && !this.fits(from, unit.end)) {
        ranges.push({ start: from, end: last.end });
        const isShort = 4 * this.#size(last.start, last.end) <= this.#most;
        from = isShort && this.fits(last.start, unit.end) ? last.start : unit.start;
      }
      last = unit;
    }
    return [...ranges, { start: from, end }];
  }

  /** Sentences, and pieces of those that do not fit. */
  *#units(start: number, end: number): Generator<Range> {
    for (const { index, segment } of this.#sentences.segment(this.#text.slice(start, end))) {
      let from = start + index;
      const sentenceEnd = from + segment.length;
      while (!this.fits(from, sentenceEnd)) {
        const to = Math.min(this.#lastCut(from), sentenceEnd);
        yield { start: from, end: to };
        from = to;
      }
      yield { start: from, end: sentenceEnd };
    }
  }

  /** The end of the longest piece that fits: between words, if there is such a place in its second half. */
  #lastCut(from: number): number {
    const first = before(this.#tokens, from);
    for (let i = first + this.#most; i > first + this.#most / 2; i--) {
      const place = this.#tokens[i]!;
      if (/\s/.test(this.#text.slice(place - 1, place + 1))) return place;
    }
    // Several tokens can begin at one place.
    for (let i = first + this.#most; i < this.#tokens.length; i++) if (this.#tokens[i]! > from) return this.#tokens[i]!;
    return Infinity;
  }
}

/** The passages of a document, of at most this many tokens each. */
export function cut({ text, blocks }: Extracted, tokens: TokenStarts, most: number): Cut[] {
  const cutter = new Cutter(text, tokens, most);
  const cuts: Cut[] = [];
  let path: { level: number; title: string }[] = [];
  /** The passage that grows; of a heading alone, what follows becomes part of it, however long it is. */
  let open: (Range & { page?: number; isHeading: boolean }) | undefined;
  const close = ({ start, end, page }: Range & { page?: number }) => {
    const inside = text.slice(start, end);
    const from = start + inside.length - inside.trimStart().length;
    const to = start + inside.trimEnd().length;
    const heading = path.map(({ title }) => title).filter(Boolean).join(" > ");
    if (to > from) cuts.push({ start: from, end: to, ...(heading && { heading }), ...(page !== undefined && { page }) });
  };
  for (const { start, end, page, level, title = "" } of blocks) {
    const isHeading = level !== undefined;
    if (open && !open.isHeading && (isHeading || open.page !== page || !cutter.fits(open.start, end))) {
      close(open);
      open = undefined;
    }
    if (level !== undefined) path = [...path.filter((above) => above.level < level), { level, title }];
    const ranges = cutter.fits(open?.start ?? start, end) ? [{ start: open?.start ?? start, end }] : cutter.split(open?.start ?? start, end);
    const last = ranges.pop()!;
    for (const range of ranges) close({ ...range, page });
    open = { ...last, page, isHeading };
  }
  if (open) close(open);
  return cuts;
}
