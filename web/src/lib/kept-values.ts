// Small values that outlive a tab. A browser that stores nothing keeps them for the visit.

const visit = new Map<string, string>();

export function read<T>(name: string): T | undefined {
  const key = `siskin.${name}`;
  try {
    const text = localStorage.getItem(key) ?? visit.get(key);
    return text === undefined || text === null ? undefined : (JSON.parse(text) as T);
  } catch {
    return undefined;
  }
}

/** Returns whether the value outlives the tab. */
export function write(name: string, value: unknown): boolean {
  const key = `siskin.${name}`;
  const text = JSON.stringify(value);
  try {
    localStorage.setItem(key, text);
    return true;
  } catch {
    visit.set(key, text);
    return false;
  }
}

export function drop(name: string): void {
  visit.delete(`siskin.${name}`);
  try {
    localStorage.removeItem(`siskin.${name}`);
  } catch {
    // Nothing is stored here.
  }
}
