export interface Heatmap {
  /** `[rows, cols]`, 0 to 1. */
  values: Float32Array;
  rows: number;
  cols: number;
}

/** The colour of a weight: nothing is the paper's, one is the deepest green. */
function colour(value: number, dark: boolean): [number, number, number] {
  // The square root shows small weights.
  const v = Math.sqrt(Math.min(Math.max(value, 0), 1));
  const [from, to] = dark ? [[30, 33, 38], [143, 226, 158]] : [[255, 255, 255], [20, 82, 42]];
  return [0, 1, 2].map((i) => Math.round(from![i]! + v * (to![i]! - from![i]!))) as [number, number, number];
}

/** Draws a matrix, a square a value. */
export function drawHeatmap(canvas: HTMLCanvasElement, { values, rows, cols }: Heatmap): void {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const cell = Math.max(4, Math.min(28, Math.floor(560 / Math.max(rows, cols))));
  canvas.width = cols * cell;
  canvas.height = rows * cell;
  const context = canvas.getContext("2d");
  if (!context) return;
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) {
      context.fillStyle = `rgb(${colour(values[row * cols + col] ?? 0, dark).join(" ")})`;
      context.fillRect(col * cell, row * cell, cell - (cell > 8 ? 1 : 0), cell - (cell > 8 ? 1 : 0));
    }
  }
}

/** The row and column under the pointer. */
export function cellAt(canvas: HTMLCanvasElement, { rows, cols }: Heatmap, event: MouseEvent): [number, number] | undefined {
  const box = canvas.getBoundingClientRect();
  const col = Math.floor(((event.clientX - box.left) / box.width) * cols);
  const row = Math.floor(((event.clientY - box.top) / box.height) * rows);
  return row >= 0 && row < rows && col >= 0 && col < cols ? [row, col] : undefined;
}
