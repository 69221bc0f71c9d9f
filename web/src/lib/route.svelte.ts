// The view and its parameters, from the address: `#tokens?text=Hello`.

function parse(hash: string): { view: string; given: URLSearchParams } {
  const [view = "", ...rest] = hash.slice(1).split("?");
  return { view, given: new URLSearchParams(rest.join("?")) };
}

class Route {
  #now = $state.raw(parse(location.hash));

  constructor() {
    addEventListener("hashchange", () => (this.#now = parse(location.hash)));
  }

  get view(): string {
    return this.#now.view;
  }

  /** The parameters of a view, if it is the one that the address names. */
  given(view: string): URLSearchParams | undefined {
    return this.#now.view === view ? this.#now.given : undefined;
  }
}

export const route = new Route();

/** An address that opens a view in this state. */
export function link(view: string, values: Record<string, string | number>): string {
  const given = new URLSearchParams(Object.entries(values).map(([key, value]) => [key, String(value)]));
  return `${location.href.split("#")[0]}#${view}?${given}`;
}
