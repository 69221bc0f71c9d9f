import uPlot from "uplot";

import "uplot/dist/uPlot.min.css";

export interface Series {
  label: string;
  color: string;
  /** Uses the right-hand scale. */
  right?: boolean;
  /** Points instead of a line, for sparse values. */
  points?: boolean;
  /** By step; null if there is none. */
  values: (number | null)[];
}

/** Distances between axis marks: there is nothing between two steps. */
const MARKS = [1, 2, 5].flatMap((n) => [n, n * 10, n * 100, n * 1000]).sort((a, b) => a - b);

/** Draws the series that have values, by step; calling it again for the same element redraws the chart. */
export function drawChart(element: HTMLElement, steps: number[], all: readonly Series[], names: { bottom: string; left: string; right: string }): void {
  const series = all.filter((s) => s.values.some((v) => v !== null));
  const style = getComputedStyle(element);
  const axis = { stroke: style.color, grid: { stroke: style.borderTopColor, width: 1 }, ticks: { show: false } };
  const lines = series.map(({ label, color, right, points }) => ({
    label,
    stroke: color,
    width: 2,
    scale: right ? "right" : "y",
    spanGaps: true,
    points: { show: !!points, size: 7, fill: color },
    value: (_: uPlot, v: number | null) => (v === null ? "–" : v.toPrecision(3)),
  }));
  const hasRight = series.some((s) => s.right);
  element.replaceChildren();
  new uPlot(
    {
      width: Math.max(element.clientWidth, 200),
      height: 240,
      scales: { x: { time: false } },
      axes: [
        { ...axis, incrs: MARKS, label: names.bottom, labelSize: 18, size: 30 },
        { ...axis, scale: "y", size: 44, label: names.left, labelSize: 18 },
        ...(hasRight ? [{ ...axis, scale: "right", side: 1 as const, size: 44, label: names.right, labelSize: 18, grid: { show: false } }] : []),
      ],
      series: [{ label: names.bottom }, ...lines],
      // Until the pointer is over the chart, the legend shows the last step.
      hooks: { ready: [(chart) => chart.setLegend({ idx: steps.length - 1 }, false)] },
    },
    [steps, ...series.map((s) => s.values)],
    element,
  );
}
