import { palette } from "./heatmap.js";

/** The maps of all heads as small pictures. */
export interface Wall {
  /** `[layer]` of `[heads, n, n]`; empty for a layer without attention. */
  layers: readonly Float32Array[];
  heads: number;
  n: number;
  /** The colour of a head's frame, if it has one. */
  frame: (layer: number, head: number) => string | undefined;
}

/** Pixels between two pictures, half of which are the frame's. */
const GAP = 6;
/** Layers that are drawn at a time: the page answers in between. */
const AT_ONCE = 4;
/** Pixels for the numbers of layers and heads. */
const NUMBERS = 22;

/** Where pictures are: layers from left to right where there is room for them, else from top to bottom. */
export interface Layout {
  size: number;
  isWide: boolean;
  width: number;
  height: number;
}

export function layOut({ layers, heads }: Pick<Wall, "layers" | "heads">, room: number): Layout {
  const isWide = (room - NUMBERS) / layers.length >= 26;
  const [across, down] = isWide ? [layers.length, heads] : [heads, layers.length];
  const size = Math.max(16, Math.min(56, Math.floor((room - NUMBERS) / across) - GAP));
  return { size, isWide, width: NUMBERS + across * (size + GAP), height: NUMBERS + down * (size + GAP) };
}

const place = ({ size, isWide }: Layout, layer: number, head: number): [number, number] => {
  const [across, down] = isWide ? [layer, head] : [head, layer];
  return [NUMBERS + across * (size + GAP) + GAP / 2, NUMBERS + down * (size + GAP) + GAP / 2];
};

/** Draws the wall, a few layers at a time; the result stops it. */
export function drawWall(canvas: HTMLCanvasElement, wall: Wall, layout: Layout): () => void {
  const { layers, heads, n, frame } = wall;
  const scale = devicePixelRatio || 1;
  canvas.width = layout.width * scale;
  canvas.height = layout.height * scale;
  canvas.style.width = `${layout.width}px`;
  canvas.style.height = `${layout.height}px`;
  const context = canvas.getContext("2d");
  if (!context) return () => {};
  context.scale(scale, scale);
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const colours = palette(dark);
  context.fillStyle = getComputedStyle(canvas).color;
  context.font = "10px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (let layer = 0; layer < layers.length; layer++) {
    const [x, y] = place(layout, layer, 0);
    if (layout.isWide) context.fillText(String(layer + 1), x + layout.size / 2, NUMBERS / 2);
    else context.fillText(String(layer + 1), NUMBERS / 2, y + layout.size / 2);
  }
  for (let head = 0; head < heads; head++) {
    const [x, y] = place(layout, 0, head);
    if (layout.isWide) context.fillText(String(head + 1), NUMBERS / 2, y + layout.size / 2);
    else context.fillText(String(head + 1), x + layout.size / 2, NUMBERS / 2);
  }
  // Of the squares that share a pixel, the strongest is shown: an average would be too faint.
  const side = Math.min(n, layout.size);
  const small = document.createElement("canvas");
  small.width = small.height = side;
  const pixels = new ImageData(side, side);
  const words = new Uint32Array(pixels.data.buffer);
  const most = new Float32Array(side * side);
  const one = (maps: Float32Array, layer: number, head: number) => {
    most.fill(0);
    for (let row = 0, i = head * n * n; row < n; row++) {
      const start = Math.floor((row * side) / n) * side;
      for (let col = 0; col < n; col++, i++) {
        const place = start + Math.floor((col * side) / n);
        if (maps[i]! > most[place]!) most[place] = maps[i]!;
      }
    }
    for (let i = 0; i < most.length; i++) words[i] = colours[Math.round(255 * Math.min(most[i]!, 1))]!;
    small.getContext("2d")!.putImageData(pixels, 0, 0);
    const [x, y] = place(layout, layer, head);
    const own = frame(layer, head);
    context.fillStyle = own ?? plain;
    const width = own ? 2 : 1;
    context.fillRect(x - width, y - width, layout.size + 2 * width, layout.size + 2 * width);
    context.imageSmoothingEnabled = false;
    context.drawImage(small, x, y, layout.size, layout.size);
  };
  const plain = getComputedStyle(canvas).borderTopColor;
  let next = 0;
  let request = 0;
  const some = () => {
    for (let i = 0; i < AT_ONCE && next < layers.length; i++, next++) {
      const maps = layers[next]!;
      if (maps.length > 0) for (let head = 0; head < heads; head++) one(maps, next, head);
    }
    if (next < layers.length) request = requestAnimationFrame(some);
  };
  some();
  return () => cancelAnimationFrame(request);
}

/** The layer and the head under the pointer, from 0. */
export function headAt(wall: Pick<Wall, "layers" | "heads">, layout: Layout, x: number, y: number): [number, number] | undefined {
  const [across, down] = [x, y].map((v) => Math.floor((v - NUMBERS) / (layout.size + GAP))) as [number, number];
  const [layer, head] = layout.isWide ? [across, down] : [down, across];
  return layer >= 0 && layer < wall.layers.length && head >= 0 && head < wall.heads ? [layer, head] : undefined;
}

/** Where the frame of the chosen picture is. */
export function boxOf(layout: Layout, layer: number, head: number): { x: number; y: number; size: number } {
  const [x, y] = place(layout, layer, head);
  return { x: x - GAP / 2, y: y - GAP / 2, size: layout.size + GAP };
}
