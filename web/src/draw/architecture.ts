import type { ModelInfo } from "siskin";

const NS = "http://www.w3.org/2000/svg";

function node(name: string, attributes: Record<string, string | number>, text = ""): SVGElement {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  if (text) element.textContent = text;
  return element;
}

/** The names of what is drawn. */
export interface BoxNames {
  embedding: string;
  norm: string;
  attention: string;
  mlp: string;
  experts: string;
  head: string;
  vectors: (vocabulary: number, size: number) => string;
  heads: (heads: number, kvHeads: number, size: number, isNormalised: boolean) => string;
  chosen: (used: number, count: number) => string;
  logits: (size: number, vocabulary: number) => string;
  layers: (count: number) => string;
}

/** Draws a decoder: embedding, one block with its parts and repeat count, and the head. */
export function drawArchitecture(svg: SVGSVGElement, m: ModelInfo, names: BoxNames): void {
  const layer = m.tensors.filter((t) => /(^|\.)(blk|layers)\.0\./.test(t.name));
  const has = (part: RegExp) => layer.some((t) => part.test(t.name));
  type Box = { text: string; detail: string; inner?: boolean };
  const boxes: Box[] = [
    { text: names.embedding, detail: names.vectors(m.vocabSize, m.hiddenSize) },
    { text: names.norm, detail: String(m.hiddenSize), inner: true },
    { text: names.attention, detail: names.heads(m.nHeads, m.nKvHeads, m.headDim, has(/(q_norm|attn_q_norm)/)), inner: true },
    { text: names.norm, detail: String(m.hiddenSize), inner: true },
    m.experts
      ? { text: names.experts, detail: names.chosen(m.experts.used, m.experts.count), inner: true }
      : { text: names.mlp, detail: `${m.hiddenSize} → ${m.intermediateSize} → ${m.hiddenSize}`, inner: true },
    { text: names.norm, detail: String(m.hiddenSize) },
    { text: names.head, detail: names.logits(m.hiddenSize, m.vocabSize) },
  ];
  const [width, step, height] = [360, 58, 40];
  const total = boxes.length * step + 24;
  svg.setAttribute("viewBox", `0 0 ${width + 90} ${total}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${m.architecture}: ${names.layers(m.nLayers)}; ${boxes.map((b) => `${b.text} ${b.detail}`).join("; ")}`);
  const parts: SVGElement[] = [];
  const first = boxes.findIndex((b) => b.inner);
  const last = boxes.findLastIndex((b) => b.inner);
  const [top, bottom] = [first * step + 4, last * step + height + 18];
  parts.push(
    node("rect", { x: 4, y: top, width: width + 32, height: bottom - top, rx: 12, fill: "none", stroke: "currentColor", "stroke-dasharray": "5 4", opacity: 0.5 }),
    node("text", { x: width + 44, y: (top + bottom) / 2 + 6, fill: "currentColor", "font-size": 18 }, `× ${m.nLayers}`),
  );
  boxes.forEach((box, i) => {
    const y = i * step + 12;
    if (i > 0) parts.push(node("path", { d: `M ${width / 2 + 20} ${y - step + height} V ${y}`, stroke: "currentColor", opacity: 0.6 }));
    parts.push(
      node("rect", { x: 20, y, width, height, rx: 8, fill: "var(--tint, #e9f1e6)", stroke: "var(--line, #ccc)" }),
      node("text", { x: 34, y: y + 25, fill: "currentColor", "font-size": 14, "font-weight": 600 }, box.text),
      node("text", { x: width + 8, y: y + 25, fill: "currentColor", "font-size": 12, "text-anchor": "end" }, box.detail),
    );
  });
  svg.replaceChildren(...parts);
}
