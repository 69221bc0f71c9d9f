export interface Bar {
  label: string;
  /** 0 to 1. */
  value: number;
  title?: string;
}

/** Draws bars as buttons in the given order; `onPick` receives the index of the chosen one. */
export function drawBars(element: HTMLElement, bars: readonly Bar[], onPick?: (index: number) => void): void {
  element.classList.add("bars");
  const most = Math.max(...bars.map((b) => b.value), 1e-9);
  element.replaceChildren(
    ...bars.map((bar, i) => {
      const button = document.createElement("button");
      button.type = "button";
      const label = document.createElement("code");
      label.textContent = bar.label;
      const track = document.createElement("span");
      const fill = document.createElement("span");
      fill.className = "bar";
      fill.style.cssText = `display: block; width: ${(100 * bar.value) / most}%`;
      track.append(fill);
      const value = document.createElement("span");
      value.className = "value";
      value.textContent = bar.value >= 0.001 ? `${(100 * bar.value).toFixed(1)} %` : bar.value.toExponential(0);
      button.append(label, track, value);
      if (bar.title) button.title = bar.title;
      if (onPick) button.onclick = () => onPick(i);
      else button.disabled = true;
      return button;
    }),
  );
}
