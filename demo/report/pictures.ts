import { boxColours, drawBoxes, escapeHtml } from "@drydock/data";
import type { Grounding } from "@drydock/spec";

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

/** A row of pictures: one a model, the right box dashed green, the model's red. */
export function drawSample({ picture, question, expected, answers }: ShownSample): string {
  const figures = answers.map(
    ({ model, groundings, text, isRight }) =>
      `<figure><svg viewBox="0 0 ${side} ${side}" width="${side}" height="${side}"><image href="${picture}" width="${side}" height="${side}" style="image-rendering:pixelated"/>${boxes(groundings, boxColours.answered, "")}${boxes(expected, boxColours.expected, "5 3")}</svg><figcaption><b>${model}</b> ${isRight ? "✓" : "✗"}<br><code>${escapeHtml(text.slice(0, 90))}</code></figcaption></figure>`,
  );
  return `<section class="sample"><p>${escapeHtml(question)}</p><div>${figures.join("")}</div></section>`;
}

function boxes(groundings: readonly Grounding[], colour: string, dashes: string): string {
  return drawBoxes(groundings, { width: side, height: side, colour, dashes });
}
