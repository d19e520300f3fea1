import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import {
  ConversationEncoder,
  TextTokenizer,
  loadImageProcessor,
  type ChatMessage,
  type ImageProcessor,
  type Model,
  type ProcessedImage,
} from "@drydock/engine";
import { recordDifference } from "./fidelity-record.ts";
import { readFloats } from "./parity-case.ts";

interface Case {
  readonly name: string;
  readonly messages: readonly ChatMessage[];
  readonly isPrompt: boolean;
  readonly images: readonly string[];
  readonly ids: readonly number[];
  readonly trained: readonly string[] | null;
  readonly form: string | null;
}

interface Cases {
  readonly pictures: Readonly<
    Record<string, { readonly grid: readonly [number, number, number]; readonly tokens: number }>
  >;
  readonly cases: readonly Case[];
}

/**
 * Picture files and conversations as a family's own processor of `transformers` makes them, from a folder as users have it:
 * token ids are the same, pixel values those of Pillow's resize (which ours is bit for bit).
 *
 * @param open  the model of the folder, or of another published form of it
 */
export async function describePreprocessing(
  family: string,
  open: (folder: string, form: string | null) => Promise<Model>,
  reference = "transformers",
): Promise<void> {
  const directory = resolve(import.meta.dirname, family, "preprocessing");
  const folder = join(directory, "model");
  const { pictures, cases } = JSON.parse(await readFile(join(directory, "preprocessing.json"), "utf8")) as Cases;
  const fileOf = (name: string): string => {
    const own = join(directory, name);
    return existsSync(own) ? own : resolve(import.meta.dirname, "../images", name);
  };

  describe(`${family}, preprocessing, against ${reference}`, () => {
    let model: Model;
    let images: ImageProcessor;
    let expected: ReadonlyMap<string, Float32Array>;
    beforeAll(async () => {
      model = await open(folder, null);
      images = await loadImageProcessor(model, folder);
      expected = await readFloats(join(directory, "preprocessing.safetensors"));
    });
    const seen = async (names: readonly string[]): Promise<ProcessedImage[]> =>
      await Promise.all(
        names.map(async (name) => {
          const isAlone = cases.every((each) => each.images.length === 1 || !each.images.includes(name));
          const processor = isAlone ? images : (images.ofSeveral ?? images);
          return await processor.process(fileOf(name), name);
        }),
      );

    test.each(Object.keys(pictures))("pixel values and tokens of %s", async (name) => {
      const [picture] = await seen([name]);
      const { grid, tokens } = pictures[name] as Cases["pictures"][string];
      expect(picture?.grid).toEqual({ time: grid[0], height: grid[1], width: grid[2] });
      // 0: a family whose tiles have no number of tokens of their own; the ids below say how many there are.
      expect(tokens > 0 ? picture?.tokens : 0).toBe(tokens);
      const values = expected.get(name) as Float32Array;
      expect(picture?.patches).toHaveLength(values.length);
      let largest = 0;
      values.forEach((value, index) => {
        largest = Math.max(largest, Math.abs(value - (picture?.patches[index] as number)));
      });
      recordDifference({ family, shape: "-", check: "pixel values", difference: largest });
      expect(largest).toBeLessThan(1e-5);
    });

    test.each(cases)("token ids: $name", async ({ messages, isPrompt, images: names, ids, trained, form }) => {
      const own = await open(folder, form);
      const tokenizer = await TextTokenizer.load(folder, own);
      const encoder = new ConversationEncoder(tokenizer, own);
      const row = encoder.encode("row", messages, await seen(names), { forAnswer: isPrompt });
      const different = ids.filter((id, index) => id !== row.inputIds[index]).length;
      recordDifference({ family, shape: "-", check: "token ids that differ", difference: different });
      expect(row.inputIds).toEqual(ids);
      expect(trainedRuns(row.labels).map((run) => tokenizer.decodeWithSpecials(run))).toEqual(trained ?? []);
    });
  });
}

/** Labels of each answer: what stands between those that are not trained. */
function trainedRuns(labels: readonly number[]): number[][] {
  const runs: number[][] = [];
  labels.forEach((label, position) => {
    if (label === -100) return;
    if (position === 0 || labels[position - 1] === -100) runs.push([]);
    runs.at(-1)?.push(label);
  });
  return runs;
}
