import { ConflictError, InvalidError, UnavailableError } from "@drydock/kit";
import { expect, test } from "vitest";
import { StaleEpochError } from "./checkpoint/fence.ts";
import { BadDataError, failureOf } from "./failure.ts";
import { DivergedError } from "./training/diverged-error.ts";

test.each([
  ["a bad row", new BadDataError("row 17: the answer is empty"), 65, "bad-data"],
  ["a bad field", new InvalidError("x", "training.lora.rank is 0"), 64, "bad-config"],
  ["a conflict", new ConflictError("x", "taken"), 64, "bad-config"],
  [
    "storage that is away",
    new UnavailableError("storage_unavailable", "storage answers 503"),
    75,
    "storage-unavailable",
  ],
  ["a newer attempt", new StaleEpochError(1, 2), 130, "worker-lost"],
  ["a loss that is not finite", new DivergedError(5, 3, 0.1, null), 64, "diverged"],
  [
    "no memory for a tensor",
    new Error("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 4194304"),
    71,
    "out-of-memory",
  ],
  ["no memory for an array", new RangeError("Array buffer allocation failed"), 71, "out-of-memory"],
  ["a broken GPU", new Error("CUDA failure: uncorrectable ECC error encountered"), 86, "hardware"],
  ["a mistake of ours", new TypeError("x is undefined"), 1, "internal-error"],
])("%s has its exit code and reason", (_case, error, exitCode, reason) => {
  expect(failureOf(error)).toMatchObject({ exitCode, reason });
});

test("a diverged run is told what learning rate to try", () => {
  expect(new DivergedError(12, 3, 0.01, 10).message).toBe(
    "the loss or its gradient was not finite for 3 steps in a row, up to step 12, at a learning rate of 0.01; the best checkpoint (step 10) is kept: submit the run again with training.learningRate 0.001 or less",
  );
});
