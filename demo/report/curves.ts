/** One line of a chart. */
export interface Curve {
  readonly name: string;
  readonly colour: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

const [width, height, left, bottom, top, right] = [680, 300, 52, 40, 16, 16];

/** Curves over steps as an inline SVG; y starts at 0. */
export function drawCurves(curves: readonly Curve[], yTitle: string): string {
  const xMax = Math.max(1, ...curves.flatMap(({ points }) => points.map(([x]) => x)));
  const yMax = niceAbove(Math.max(1e-6, ...curves.flatMap(({ points }) => points.map(([, y]) => y))));
  const x = (value: number): number => left + (value / xMax) * (width - left - right);
  const y = (value: number): number => height - bottom - (value / yMax) * (height - top - bottom);
  const ticks = Array.from({ length: 5 }, (_, index) => (yMax * index) / 4);
  const grid = ticks.map(
    (tick) =>
      `<line x1="${left}" x2="${width - right}" y1="${y(tick)}" y2="${y(tick)}" stroke="#e3e6ea"/><text x="${left - 8}" y="${y(tick) + 4}" text-anchor="end">${Number(tick.toPrecision(3))}</text>`,
  );
  const steps = [0, 0.25, 0.5, 0.75, 1]
    .map((share) => Math.round(xMax * share))
    .map((step) => `<text x="${x(step)}" y="${height - bottom + 18}" text-anchor="middle">${step}</text>`);
  const lines = curves.map(
    ({ colour, points }) =>
      `<polyline fill="none" stroke="${colour}" stroke-width="1.8" points="${points.map(([px, py]) => `${x(px).toFixed(1)},${y(py).toFixed(1)}`).join(" ")}"/>`,
  );
  const legend = curves.map(
    ({ name, colour }, index) =>
      `<rect x="${width - 130}" y="${top + index * 20}" width="14" height="4" y2="0" fill="${colour}"/><text x="${width - 110}" y="${top + 6 + index * 20}">${name}</text>`,
  );
  return `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${yTitle} by step" font-size="12" fill="#333">${grid.join("")}${steps.join("")}${lines.join("")}${legend.join("")}<text x="${(width + left) / 2}" y="${height - 6}" text-anchor="middle">step</text><text x="14" y="${height / 2}" transform="rotate(-90 14 ${height / 2})" text-anchor="middle">${yTitle}</text></svg>`;
}

/** Each value as the mean of itself and those up to `window` before it: steps are noisy. */
export function smooth(points: readonly (readonly [number, number])[], window: number): [number, number][] {
  return points.map(([x], index) => {
    const part = points.slice(Math.max(0, index - window + 1), index + 1);
    return [x, part.reduce((sum, [, y]) => sum + y, 0) / part.length];
  });
}

function niceAbove(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= value) ?? value;
}
