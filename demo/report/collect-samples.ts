import type { DrydockClient } from "@drydock/cli";
import type { Evaluated } from "../journey.ts";
import { boxesMetric, namesMetric } from "../recipe.ts";
import type { ShownSample } from "./pictures.ts";

const titles = { base: "base", lora: "LoRA", full: "full" } as const;

/** The first rows of an evaluation with the answers of all three models. */
export async function collectSamples(
  client: DrydockClient,
  answered: Readonly<Record<keyof typeof titles, Evaluated>>,
  kind: "boxes" | "names",
  count: number,
): Promise<ShownSample[]> {
  const models = Object.keys(titles) as (keyof typeof titles)[];
  const pages = await Promise.all(
    models.map((model) => client.listSamples(answered[model][kind].id, { limit: count })),
  );
  const [first] = pages;
  return await Promise.all(
    (first?.items ?? []).map(async (sample, index) => ({
      picture:
        sample.imageUrl === null
          ? ""
          : `data:image/png;base64,${Buffer.from(await client.getBytes(sample.imageUrl)).toString("base64")}`,
      question: sample.prompt,
      expected: sample.expectedGroundings,
      answers: pages.flatMap(({ items }, page) => {
        const item = items[index];
        if (item === undefined) return [];
        const score = item.scores[kind === "boxes" ? boxesMetric : namesMetric] ?? item.scores["iou"] ?? 0;
        return [
          {
            model: titles[models[page]!],
            groundings: item.answeredGroundings,
            text: item.answer,
            isRight: score >= 50,
          },
        ];
      }),
    })),
  );
}
