export interface Heatmap {
  /** `[rows, cols]`, 0 to 1. */
  values: Float32Array;
  rows: number;
  cols: number;
}

/** The colours of weights from 0 to 1 in 256 steps, as words of a picture: zero is the background, one the strongest green. */
export function palette(dark: boolean): Uint32Array {
  const [from, to] = dark ? [[30, 33, 38], [143, 226, 158]] : [[255, 255, 255], [20, 82, 42]];
  return Uint32Array.from({ length: 256 }, (_, i) => {
    // The square root makes small weights visible.
    const [red, green, blue] = from!.map((f, c) => Math.round(f + Math.sqrt(i / 255) * (to![c]! - f)));
    return ((255 << 24) | (blue! << 16) | (green! << 8) | red!) >>> 0;
  });
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
  const picture = document.createElement("canvas");
  [picture.width, picture.height] = [cols, rows];
  const pixels = new ImageData(cols, rows);
  const words = new Uint32Array(pixels.data.buffer);
  const colours = palette(dark);
  for (let i = 0; i < rows * cols; i++) words[i] = colours[Math.round(255 * Math.min(values[i]!, 1))]!;
  picture.getContext("2d")?.putImageData(pixels, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(picture, NAMES, NAMES, cols * cell, rows * cell);
  for (let i = 1; gap > 0 && i < Math.max(rows, cols); i++) {
    context.clearRect(NAMES + i * cell - gap, NAMES, gap, rows * cell);
    context.clearRect(NAMES, NAMES + i * cell - gap, cols * cell, gap);
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

/** Where a square is, in per cent of the drawing. */
export function cellBox(map: Heatmap, [row, col]: readonly [number, number]): { left: number; top: number; width: number; height: number } {
  const cell = cellSize(map);
  const [across, down] = [(NAMES + map.cols * cell) / 100, (NAMES + map.rows * cell) / 100];
  return { left: (NAMES + col * cell) / across, top: (NAMES + row * cell) / down, width: cell / across, height: cell / down };
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
