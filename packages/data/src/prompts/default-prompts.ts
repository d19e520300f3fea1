import type { BoxConvention, Task } from "@drydock/spec";

/** The four elements of a system prompt, each a sentence or two. */
export interface PromptParts {
  /** Who the model is. */
  readonly role: string;
  /** What to look for. */
  readonly attention: string;
  /** What the answer looks like. */
  readonly outputFormat: string;
  /** What not to make up. */
  readonly hallucinationGuard: string;
}

/** The parts as one prompt, in their order, empty ones left out. */
export function composePrompt(parts: PromptParts): string {
  return [parts.role, parts.attention, parts.outputFormat, parts.hallucinationGuard]
    .map((part) => part.trim())
    .filter((part) => part !== "")
    .join(" ");
}

/** Default parts for questions about pictures. */
export const vqaPromptParts: PromptParts = {
  role: "You are an assistant that answers questions about pictures.",
  attention: "Look at the objects, their number, colours, positions and any text.",
  outputFormat: "Answer with a word or a short phrase.",
  hallucinationGuard: "Use only what the picture shows; if it cannot be seen, say so.",
};

const boxFormats: Readonly<Record<BoxConvention, string>> = {
  "json-relative-1000":
    'Answer with a JSON list of {"bbox_2d": [x1, y1, x2, y2], "label": phrase}, coordinates 0 to 1000; [] if there is none.',
  "json-resized-pixels":
    'Answer with a JSON list of {"bbox_2d": [x1, y1, x2, y2], "label": phrase}, coordinates in pixels; [] if there is none.',
  "internvl-ref-box":
    "Answer with <ref>phrase</ref><box>[[x1, y1, x2, y2]]</box> for each phrase, coordinates 0 to 1000; None if there is none.",
  "paligemma-loc":
    "Answer with <locYYYY><locXXXX><locYYYY><locXXXX> phrase for each box: top, left, bottom, right, 0000 to 1023, with ; between them; None if there is none.",
  undocumented:
    'Answer with a JSON list of {"bbox_2d": [x1, y1, x2, y2], "label": phrase}, coordinates 0 to 1000; [] if there is none.',
};

/** Default parts for phrase grounding; the output format is that of the model's box convention. */
export function groundingPromptParts(convention: BoxConvention): PromptParts {
  return {
    role: "You are an assistant that locates objects in pictures.",
    attention: "Find every instance of each phrase you are given.",
    outputFormat: boxFormats[convention],
    hallucinationGuard: "Give boxes only for what the picture shows.",
  };
}

/** The system prompt of a task when the user gives none. `chat` has none: conversations bring their own. */
export function defaultSystemPrompt(task: Task, convention: BoxConvention = "json-relative-1000"): string {
  switch (task) {
    case "vqa":
      return composePrompt(vqaPromptParts);
    case "phrase-grounding":
      return composePrompt(groundingPromptParts(convention));
    case "chat":
      return "";
  }
}

/**
 * The system prompt that a run or an evaluation uses: the user's own, else the task's default. An empty one of the
 * user's means none at all.
 *
 * @param convention  of the model, for the output format of phrase grounding
 */
export function effectiveSystemPrompt(
  spec: { readonly task: Task; readonly systemPrompt?: string | undefined },
  convention: BoxConvention = "json-relative-1000",
): string {
  return spec.systemPrompt ?? defaultSystemPrompt(spec.task, convention);
}
