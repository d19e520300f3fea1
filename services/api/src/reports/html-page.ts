import { escapeHtml } from "@drydock/data";
import type { ScoreInterval } from "@drydock/spec";

/** What is already HTML. {@link html} escapes everything else, so that a plain text cannot be taken for it. */
export class Html {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

type Part = Html | string | number | readonly Html[];

/** HTML from a template: every value that is not HTML itself is escaped. */
export function html(parts: TemplateStringsArray, ...values: readonly Part[]): Html {
  const written = parts.map((part, index) => {
    const value = values[index];
    return part + (value === undefined ? "" : write(value));
  });
  return new Html(written.join(""));
}

function write(value: Part): string {
  if (value instanceof Html) return value.text;
  if (typeof value === "string") return escapeHtml(value);
  if (typeof value === "number") return String(value);
  return value.map(({ text }) => text).join("");
}

/** A page that needs nothing else: no script, no font, no file. */
export function page(title: string, body: Html): string {
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>${title}</title>
        <style>
          ${style}
        </style>
      </head>
      <body>
        ${body}
      </body>
    </html> `.text;
}

/** Says to a browser what {@link page} needs: pictures in the page, its own style, and nothing else. */
export const contentSecurityPolicy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";

/** `81.2` and, smaller, where it lies in 95 % of samples. */
export function scoreText(score: number | undefined, interval: ScoreInterval | undefined): Html {
  if (score === undefined) return html`–`;
  if (interval === undefined) return html`${score.toFixed(1)}`;
  return html`${score.toFixed(1)} <small>${interval.low.toFixed(1)}–${interval.high.toFixed(1)}</small>`;
}

/** A score and its interval on a line from 0 to `most`. */
export function scoreBar(score: number, interval: ScoreInterval | undefined, most: number): Html {
  const at = (value: number): string => String((Math.max(0, Math.min(most, value)) / most) * 200);
  const line =
    interval === undefined
      ? html``
      : html`<line
          x1="${at(interval.low)}"
          x2="${at(interval.high)}"
          y1="7"
          y2="7"
          stroke="#2563eb"
          stroke-width="4"
          stroke-opacity="0.35"
        />`;
  return html`<svg viewBox="0 0 200 14" width="200" height="14" role="img">
    <line x1="0" x2="200" y1="7" y2="7" stroke="#e3e6ea" />
    ${line}
    <circle cx="${at(score)}" cy="7" r="4" fill="#2563eb" />
  </svg>`;
}

const style = new Html(
  `body{font:16px/1.55 system-ui,sans-serif;max-width:1000px;margin:2.5rem auto;padding:0 1rem;color:#1d2330}h1{font-size:1.7rem;margin-bottom:.3rem}h2{margin-top:2.2rem;font-size:1.25rem}.lead,small{color:#4a5263}table{border-collapse:collapse;margin:.6rem 0;font-variant-numeric:tabular-nums}th,td{padding:.35rem .8rem;border-bottom:1px solid #e3e6ea;text-align:right;vertical-align:middle}th:first-child,td:first-child{text-align:left;overflow-wrap:anywhere}thead th{color:#4a5263;font-weight:600}.scroll{overflow-x:auto}.sample{border-top:1px solid #e3e6ea;padding:.8rem 0;display:flex;gap:1.2rem;align-items:flex-start}.sample figure{margin:0;flex:0 0 340px}.sample svg{width:100%;height:auto;background:#f5f6f8;border-radius:6px}.sample div{flex:1;min-width:0}dl{display:grid;grid-template-columns:5.5rem 1fr;gap:.2rem .8rem;margin:0}dt{color:#4a5263}dd{margin:0;overflow-wrap:anywhere}dd span{white-space:pre-wrap}.right{color:#0c7a3d}.wrong{color:#b01048}.key{display:inline-block;width:1.6rem;border-top:3px solid;margin:0 .3rem .25rem 0}@media(max-width:700px){.sample{flex-direction:column}.sample figure{flex-basis:auto;width:100%}}`,
);
