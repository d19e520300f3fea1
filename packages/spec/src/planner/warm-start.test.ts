import { expect, test } from "vitest";
import { RunSpec, type RunSpecInput } from "../contract/run-spec.ts";
import { warmStartMismatch } from "./warm-start.ts";

const specOf = (changes: Partial<RunSpecInput> = {}): RunSpec =>
  RunSpec.parse({ name: "birds", model: "qwen3-vl-2b", dataset: "birds@1", task: "vqa", ...changes });

test("a checkpoint serves runs that train the same weights, however they train them", () => {
  const other = specOf({ dataset: "fish@3", training: { learningRate: 1e-5, seed: 7, lora: { dropout: 0.3 } } });
  expect(warmStartMismatch(other, specOf())).toBeNull();
  expect(
    warmStartMismatch(specOf({ mode: "full", training: { lora: { rank: 4 } } }), specOf({ mode: "full" })),
  ).toBeNull();
});

test.each([
  [{ model: "qwen3-vl-4b" }, "model", 'is of model "qwen3-vl-2b", this run\'s is "qwen3-vl-4b"'],
  [{ mode: "full" as const }, "mode", 'is of mode "lora", this run\'s is "full"'],
  [{ training: { lora: { rank: 8 } } }, "training.lora.rank", "is of training.lora.rank 16, this run's is 8"],
  [
    { training: { lora: { useDora: true } } },
    "training.lora.useDora",
    "is of training.lora.useDora not set, this run's is true",
  ],
])("%o is refused at its field", (changes, path, message) => {
  const mismatch = warmStartMismatch(specOf(changes), specOf());
  expect(mismatch?.path).toBe(path);
  expect(mismatch?.message).toContain(message);
});
