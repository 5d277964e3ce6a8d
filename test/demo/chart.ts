// A line chart as SVG: Dice over rounds, from 0 to 1.

export type Series = {
  readonly name: string;
  readonly points: readonly { readonly x: number; readonly y: number | null }[];
};

const [width, height, left, bottom, top, right] = [290, 200, 34, 32, 26, 10];
/** Distinct on light and dark, also for most colour-blind readers (Okabe and Ito 2008). */
const colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

export function lineChart({ title, series }: { title: string; series: readonly Series[] }): string {
  const xs = series.flatMap(({ points }) => points.map(({ x }) => x));
  const [first, last] = [Math.min(...xs, 1), Math.max(...xs, 2)];
  const x = (value: number): number => left + ((value - first) / (last - first)) * (width - left - right);
  const y = (value: number): number => height - bottom - value * (height - bottom - top);
  const grid = [0, 0.25, 0.5, 0.75, 1].map(
    (value) =>
      `<line x1="${left}" x2="${width - right}" y1="${y(value)}" y2="${y(value)}" stroke="currentColor" opacity=".15"/><text x="${left - 6}" y="${y(value) + 4}" text-anchor="end" font-size="10" fill="currentColor" opacity=".7">${value}</text>`,
  );
  const step = Math.max(1, Math.ceil((last - first) / 8));
  const ticks = Array.from(
    { length: Math.floor((last - first) / step) + 1 },
    (_, at) => first + at * step,
  ).map(
    (value) =>
      `<text x="${x(value)}" y="${height - bottom + 14}" text-anchor="middle" font-size="10" fill="currentColor" opacity=".7">${value}</text>`,
  );
  const lines = series.map(({ points }, at) => {
    const known = points
      .filter((point): point is { x: number; y: number } => point.y !== null)
      .sort((a, b) => a.x - b.x);
    const colour = colours[at % colours.length];
    const path = known
      .map((point, index) => `${index === 0 ? "M" : "L"}${x(point.x).toFixed(1)} ${y(point.y).toFixed(1)}`)
      .join("");
    return `<path d="${path}" fill="none" stroke="${colour}" stroke-width="2"/>${known.map((point) => `<circle cx="${x(point.x).toFixed(1)}" cy="${y(point.y).toFixed(1)}" r="2.5" fill="${colour}"/>`).join("")}`;
  });
  const legend = series.map(
    ({ name }, at) =>
      `<tspan fill="${colours[at % colours.length]}" dx="${at === 0 ? 0 : 8}">${name}</tspan>`,
  );
  return `<svg role="img" aria-label="${title}" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}"><text x="${left}" y="12" font-size="12" font-weight="600" fill="currentColor">${title}</text>${grid.join("")}${ticks.join("")}${lines.join("")}<text x="${left}" y="${height - 4}" font-size="10">${legend.join("")}</text></svg>`;
}
