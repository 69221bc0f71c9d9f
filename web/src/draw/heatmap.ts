export interface Heatmap {
  /** `[rows, cols]`, 0 to 1. */
  values: Float32Array;
  rows: number;
  cols: number;
}

/** The colour of a weight: zero is the background, one is the darkest green. */
function colour(value: number, dark: boolean): string {
  // The square root makes small weights visible.
  const v = Math.sqrt(Math.min(Math.max(value, 0), 1));
  const [from, to] = dark ? [[30, 33, 38], [143, 226, 158]] : [[255, 255, 255], [20, 82, 42]];
  return `rgb(${from!.map((f, i) => Math.round(f + v * (to![i]! - f))).join(" ")})`;
}

/** Pixels for the names of rows and columns. */
const NAMES = 84;
const cellSize = ({ rows, cols }: Heatmap) => Math.max(4, Math.min(44, Math.floor(440 / Math.max(rows, cols))));

/** Draws a matrix, one square per value, with the names of its rows and columns where they are legible. */
export function drawHeatmap(canvas: HTMLCanvasElement, map: Heatmap, names: readonly string[] = []): void {
  const { values, rows, cols } = map;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const cell = cellSize(map);
  const gap = cell > 8 ? 1 : 0;
  canvas.width = NAMES + cols * cell;
  canvas.height = NAMES + rows * cell;
  const context = canvas.getContext("2d");
  if (!context) return;
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) {
      context.fillStyle = colour(values[row * cols + col] ?? 0, dark);
      context.fillRect(NAMES + col * cell, NAMES + row * cell, cell - gap, cell - gap);
    }
  }
  if (cell < 10) return;
  context.fillStyle = getComputedStyle(canvas).color;
  context.font = "12px ui-monospace, Consolas, monospace";
  context.textBaseline = "middle";
  for (let row = 0; row < rows; row++) {
    context.textAlign = "right";
    context.fillText(names[row] ?? "", NAMES - 5, NAMES + (row + 0.5) * cell, NAMES - 6);
  }
  context.textAlign = "left";
  for (let col = 0; col < cols; col++) {
    context.save();
    context.translate(NAMES + (col + 0.5) * cell, NAMES - 5);
    context.rotate(-Math.PI / 2);
    context.fillText(names[col] ?? "", 0, 0, NAMES - 6);
    context.restore();
  }
}

/** The row and column under the pointer. */
export function cellAt(canvas: HTMLCanvasElement, map: Heatmap, event: MouseEvent): [number, number] | undefined {
  const box = canvas.getBoundingClientRect();
  const at = (position: number, side: number, pixels: number) =>
    Math.floor(((position / side) * pixels - NAMES) / cellSize(map));
  const col = at(event.clientX - box.left, box.width, canvas.width);
  const row = at(event.clientY - box.top, box.height, canvas.height);
  return row >= 0 && row < map.rows && col >= 0 && col < map.cols ? [row, col] : undefined;
}
