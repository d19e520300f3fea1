import { expect, test } from "vitest";
import { deviceFrom } from "./device-choice.ts";

test("without a word the worker computes on the CPU", () => {
  expect(deviceFrom({}, 4)).toBeNull();
  expect(deviceFrom({ DRYDOCK_DEVICE: "cpu" }, 4)).toBeNull();
});

test("a GPU is chosen by its number, with products in bfloat16 unless told otherwise", () => {
  expect(deviceFrom({ DRYDOCK_DEVICE: "cuda" }, 4)).toEqual({
    kind: "cuda",
    index: 0,
    threads: 4,
    matrices: "bfloat16",
  });
  expect(deviceFrom({ DRYDOCK_DEVICE: "cuda:2", DRYDOCK_MATRICES: "float16" }, 1)).toEqual({
    kind: "cuda",
    index: 2,
    threads: 1,
    matrices: "float16",
  });
});

test("what is not understood is named", () => {
  expect(() => deviceFrom({ DRYDOCK_DEVICE: "gpu" }, 1)).toThrow('DRYDOCK_DEVICE "gpu" is not cpu, cuda or cuda:N');
  expect(() => deviceFrom({ DRYDOCK_DEVICE: "cuda", DRYDOCK_MATRICES: "fp8" }, 1)).toThrow(
    'DRYDOCK_MATRICES "fp8" is not one of float32, bfloat16, float16',
  );
});
