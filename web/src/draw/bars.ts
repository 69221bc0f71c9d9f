export interface Bar {
  label: string;
  /** 0 to 1. */
  value: number;
  /** The value in words. */
  text: string;
  title?: string;
  /** Whether it is excluded. */
  isCut?: boolean;
  /** The names of lines that are drawn below it. */
  lines?: readonly string[];
}

/** Draws bars as buttons in the given order; `onPick` receives the index of the chosen one. */
export function drawBars(element: HTMLElement, bars: readonly Bar[], onPick?: (index: number) => void): void {
  element.classList.add("bars");
  const most = Math.max(...bars.map((b) => b.value), 1e-9);
  const parts: HTMLElement[] = [];
  for (const [i, bar] of bars.entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.classList.toggle("cut", !!bar.isCut);
    const label = document.createElement("code");
    label.textContent = bar.label;
    const track = document.createElement("span");
    const fill = document.createElement("span");
    fill.className = "bar";
    fill.style.cssText = `display: block; width: ${(100 * bar.value) / most}%`;
    track.append(fill);
    const value = document.createElement("span");
    value.className = "value";
    value.textContent = bar.text;
    button.append(label, track, value);
    if (bar.title) button.title = bar.title;
    if (onPick) button.onclick = () => onPick(i);
    else button.disabled = true;
    parts.push(button);
    if (!bar.lines?.length) continue;
    const line = document.createElement("div");
    line.className = "line";
    line.textContent = bar.lines.join(", ");
    parts.push(line);
  }
  element.replaceChildren(...parts);
}
