import { expect, test } from "vitest";
import { RunSpec } from "./run-spec.ts";

const minimal = { name: "weld", model: "qwen3-vl-4b", dataset: "weld@3", task: "vqa" };

test("a minimal spec gets every default", () => {
  const spec = RunSpec.parse(minimal);
  expect(spec).toMatchObject({
    mode: "lora",
    queue: "default",
    training: { epochs: 3, lora: { rank: 16, alpha: 32 }, baseWeights: "bf16" },
  });
});

test.each([
  ["an unknown key is named", { ...minimal, trainning: {} }, "trainning"],
  ["an unknown nested key is named", { ...minimal, training: { learning_rate: 1 } }, "learning_rate"],
  ["rank 0 is refused", { ...minimal, training: { lora: { rank: 0 } } }, "rank"],
  ["a wrong type is refused", { ...minimal, training: { epochs: "three" } }, "epochs"],
])("%s", (_name, body, word) => {
  const result = RunSpec.safeParse(body);
  expect(result.success).toBe(false);
  expect(JSON.stringify(result.error?.issues)).toContain(word);
});
