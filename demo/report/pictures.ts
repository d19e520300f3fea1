import type { Box, Grounding } from "@drydock/spec";

/** One validation picture with the right box and what each model answered. */
export interface ShownSample {
  /** PNG as a data URL. */
  readonly picture: string;
  readonly question: string;
  readonly expected: readonly Grounding[];
  readonly answers: readonly {
    readonly model: string;
    readonly groundings: readonly Grounding[];
    readonly text: string;
    readonly isRight: boolean;
  }[];
}

const side = 168;
const rightColour = "#12a150";
const answerColour = "#e0245e";

/** A row of pictures: one a model, the right box dashed green, the model's red. */
export function drawSample({ picture, question, expected, answers }: ShownSample): string {
  const figures = answers.map(
    ({ model, groundings, text, isRight }) =>
      `<figure><svg viewBox="0 0 ${side} ${side}" width="${side}" height="${side}"><image href="${picture}" width="${side}" height="${side}" style="image-rendering:pixelated"/>${boxes(groundings, answerColour, "")}${boxes(expected, rightColour, "5 3")}</svg><figcaption><b>${model}</b> ${isRight ? "✓" : "✗"}<br><code>${escapeHtml(text.slice(0, 90))}</code></figcaption></figure>`,
  );
  return `<section class="sample"><p>${escapeHtml(question)}</p><div>${figures.join("")}</div></section>`;
}

function boxes(groundings: readonly Grounding[], colour: string, dashes: string): string {
  return groundings.flatMap((grounding) => grounding.boxes.map((box) => rectangle(box, colour, dashes))).join("");
}

function rectangle([left, top, right, bottom]: Box, colour: string, dashes: string): string {
  return `<rect x="${left * side}" y="${top * side}" width="${(right - left) * side}" height="${(bottom - top) * side}" fill="none" stroke="${colour}" stroke-width="2.5" stroke-dasharray="${dashes}"/>`;
}

export function escapeHtml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
