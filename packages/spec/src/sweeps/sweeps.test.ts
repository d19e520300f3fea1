import { expect, test } from "vitest";
import { SweepSpec, type SweepFacts, type SweepRung } from "../contract/sweep.ts";
import { checkSweep } from "./check-sweep.ts";
import { bestOf, decideSweep } from "./decide-sweep.ts";
import { cutOf, rungSteps } from "./rungs.ts";
import { trialRun } from "./space.ts";
import { plannedTrials, trialParameters } from "./trial-parameters.ts";

const run = { name: "weld", model: "drydock-tiny-vl", dataset: "weld@1", task: "vqa", training: { lora: { rank: 4 } } };
const aSweep = (change: object = {}): SweepSpec =>
  SweepSpec.parse({
    name: "rates",
    run,
    space: { "training.learningRate": { type: "log", low: 1e-5, high: 1e-3 } },
    search: { kind: "random", trials: 4, seed: 7 },
    ...change,
  });
const asha = { kind: "asha", trials: 8, seed: 1, minSteps: 2, maxSteps: 18, reductionFactor: 3 } as const;

test.each<[string, object, string]>([
  ["an empty space", { space: {} }, "space: the space is empty: name at least one field to vary"],
  [
    "an unknown field",
    { space: { "training.learningRat": { type: "log", low: 1e-5, high: 1e-3 } } },
    "space.training.learningRat: 0.00001 does not fit training.learningRat: Unrecognized key",
  ],
  [
    "words for a number",
    { space: { "training.learningRate": { type: "choice", values: ["fast", "slow"] } } },
    'space.training.learningRate: "fast" does not fit training.learningRate: Invalid input: expected number, received string',
  ],
  [
    "fractions for a whole number",
    { space: { "training.lora.rank": { type: "linear", low: 2, high: 8.5 } } },
    "space.training.lora.rank: 8.5 does not fit training.lora.rank: Invalid input: expected int, received number",
  ],
  [
    "fractions between whole numbers",
    { search: { kind: "grid", points: 3 }, space: { "training.lora.rank": { type: "linear", low: 2, high: 9 } } },
    "space.training.lora.rank: 5.5 does not fit training.lora.rank: Invalid input: expected int, received number",
  ],
  [
    "an end that is out of bounds",
    { space: { "training.lora.dropout": { type: "linear", low: 0, high: 1 } } },
    "space.training.lora.dropout: 1 does not fit training.lora.dropout: Too big",
  ],
  [
    "a range from high to low",
    { space: { "training.learningRate": { type: "log", low: 1, high: 0.1 } } },
    "space.training.learningRate: low (1) must be below high (0.1): nothing lies between them",
  ],
  [
    "a logarithm of zero",
    { space: { "training.learningRate": { type: "log", low: 0, high: 0.1 } } },
    "space.training.learningRate: low (0) must be above 0 for a logarithmic range",
  ],
  [
    "what all trials share",
    { space: { dataset: { type: "choice", values: ["weld@1", "weld@2"] } } },
    "space.dataset: dataset is the same for all trials and cannot be varied",
  ],
  [
    "a field inside another",
    {
      space: {
        "training.lora": { type: "choice", values: [{ rank: 2 }] },
        "training.lora.rank": { type: "int", low: 2, high: 8 },
      },
    },
    "space.training.lora.rank: training.lora.rank lies inside training.lora, which is varied too",
  ],
  [
    "weights that a shared checkpoint does not have",
    {
      run: { ...run, warmStart: { run: "run_1" } },
      space: {
        "training.lora.dropout": { type: "linear", low: 0, high: 0.1 },
        "training.lora.rank": { type: "int", low: 2, high: 8 },
      },
    },
    "space.training.lora.rank: trials of different training.lora.rank train different weights",
  ],
  [
    "what is no field of a run, but of every object",
    { space: { "__proto__.x": { type: "int", low: 2, high: 8 } } },
    "space.__proto__.x: __proto__.x is not a field of a run",
  ],
  [
    "steps that the search decides",
    { search: asha, space: { "training.maxSteps": { type: "int", low: 2, high: 8 } } },
    "space.training.maxSteps: the steps of a trial are the search's to decide",
  ],
  [
    "rungs that are none",
    { search: { ...asha, maxSteps: 2 } },
    "search.maxSteps: maxSteps (2) must be above minSteps (2)",
  ],
  [
    "a grid without end",
    {
      search: { kind: "grid", points: 100 },
      space: {
        "training.learningRate": { type: "log", low: 1e-5, high: 1e-3 },
        "training.weightDecay": { type: "linear", low: 0, high: 0.1 },
      },
    },
    "search: the grid has 10000 points, more than 500",
  ],
  [
    "a shared run that is not one",
    { run: { ...run, task: "sing" } },
    "run.task: the run spec that trials share is not valid",
  ],
])("%s is refused", (_name, change, sentence) => {
  expect(checkSweep(aSweep(change)).map(({ path, message }) => `${path}: ${message}`)[0]).toContain(sentence);
});

test("trials have the same settings whenever they are asked for, within their ranges", () => {
  const sweep = aSweep({
    space: {
      "training.learningRate": { type: "log", low: 1e-5, high: 1e-3 },
      "training.lora.rank": { type: "int", low: 2, high: 5 },
      "training.schedule": { type: "choice", values: ["cosine", "constant"] },
    },
    search: { kind: "random", trials: 200, seed: 7 },
  });
  const all = Array.from({ length: plannedTrials(sweep) }, (_, index) => trialParameters(sweep, index + 1));
  expect(trialParameters(sweep, 17)).toEqual(all[16]);
  const rates = all.map((each) => each["training.learningRate"] as number);
  expect(Math.min(...rates)).toBeGreaterThanOrEqual(1e-5);
  expect(Math.max(...rates)).toBeLessThanOrEqual(1e-3);
  // Half of a logarithmic range lies below its geometric middle.
  expect(rates.filter((rate) => rate < 1e-4).length / 200).toBeCloseTo(0.5, 1);
  expect(new Set(all.map((each) => each["training.lora.rank"]))).toEqual(new Set([2, 3, 4, 5]));
  expect(new Set(all.map((each) => each["training.schedule"])).size).toBe(2);
});

test.each(["log", "linear"] as const)("a %s range narrower than four digits is never left", (type) => {
  const [low, high] = [0.123_46, 0.123_49];
  const space = { "training.learningRate": { type, low, high } };
  const sweep = aSweep({ space, search: { kind: "random", trials: 50, seed: 1 } });
  const drawn = Array.from({ length: 50 }, (_, index) => trialParameters(sweep, index + 1)["training.learningRate"]);
  expect(Math.min(...(drawn as number[]))).toBeGreaterThanOrEqual(low);
  expect(Math.max(...(drawn as number[]))).toBeLessThanOrEqual(high);
});

test("a grid has every combination, ends included, and its trials are runs", () => {
  const sweep = aSweep({
    search: { kind: "grid", points: 3 },
    space: {
      "training.learningRate": { type: "log", low: 1e-4, high: 1e-2 },
      "training.lora.rank": { type: "choice", values: [2, 4] },
    },
  });
  const all = Array.from({ length: plannedTrials(sweep) }, (_, index) => trialParameters(sweep, index + 1));
  expect(all.map((each) => [each["training.learningRate"], each["training.lora.rank"]])).toEqual([
    [1e-4, 2],
    [1e-4, 4],
    [1e-3, 2],
    [1e-3, 4],
    [1e-2, 2],
    [1e-2, 4],
  ]);
  expect(trialRun(sweep, all[3]!)).toMatchObject({ name: "weld", training: { learningRate: 1e-3, lora: { rank: 4 } } });
  expect(run.training).toEqual({ lora: { rank: 4 } });
});

test("rungs grow by the reduction factor and end below the last step", () => {
  expect(rungSteps(asha)).toEqual([2, 6]);
  expect(trialRun(aSweep({ search: asha }), {})).toMatchObject({
    training: { maxSteps: 18 },
    evaluation: { atSteps: [2, 6] },
  });
});

test("a trial falls out at a rung where it is not among the best third, also when those come later", () => {
  const at = (score: number): SweepRung[] => [{ step: 2, score }];
  expect(cutOf(asha, "max", at(10), [at(10)])).toBeNull();
  expect(cutOf(asha, "max", at(10), [at(10), at(20)])).toEqual({ step: 2, score: 10, cutoff: 20, seen: 2 });
  expect(cutOf(asha, "max", at(20), [at(10), at(20)])).toBeNull();
  expect(cutOf(asha, "min", at(20), [at(10), at(20)])).toMatchObject({ cutoff: 10 });
  const six = [5, 4, 3, 2, 1, 0].map(at);
  expect(six.filter((own) => cutOf(asha, "max", own, six) === null)).toEqual([at(5), at(4)]);
  // Equal ones stay together.
  expect(cutOf(asha, "max", at(5), [at(5), at(5), at(5)])).toBeNull();
});

const trial = (number: number, change: Partial<SweepFacts["trials"][number]> = {}): SweepFacts["trials"][number] => ({
  number,
  runId: `run_${number}`,
  decision: "open",
  runState: "running",
  message: "",
  rungs: [],
  finalScore: null,
  scores: null,
  ...change,
});
const factsOf = (change: Partial<SweepFacts>): SweepFacts => ({
  id: "sweep_1",
  state: "running",
  search: asha,
  goal: "max",
  planned: 8,
  maxParallel: 3,
  gpuHours: 0,
  budgetGpuHours: null,
  trials: [],
  ...change,
});

test("no more trials start than may run side by side; one that was stopped holds its place until its run has ended", () => {
  expect(decideSweep(factsOf({}))).toEqual([1, 2, 3].map((number) => ({ kind: "start", trial: number })));
  const stopped = trial(1, { decision: "stopped" });
  expect(decideSweep(factsOf({ trials: [stopped, trial(2), trial(3)] }))).toEqual([]);
  expect(decideSweep(factsOf({ trials: [{ ...stopped, runState: "cancelled" }, trial(2), trial(3)] }))).toEqual([
    { kind: "start", trial: 4 },
  ]);
  expect(decideSweep(factsOf({ maxParallel: 2, trials: [trial(1), trial(2), trial(3)] }))).toEqual([]);
});

test("a trial that falls out is stopped with the reason, once", () => {
  const trials = [
    trial(1, { rungs: [{ step: 2, score: 40 }] }),
    trial(2, { rungs: [{ step: 2, score: 10 }] }),
    trial(3),
  ];
  const message = "stopped at 2 steps: its score of 10 is below 40, the best 1/3 of 2 trials there";
  expect(decideSweep(factsOf({ trials }))).toEqual([{ kind: "stop", trial: 2, message }]);
  trials[1] = { ...trials[1]!, decision: "stopped" };
  expect(decideSweep(factsOf({ trials }))).toEqual([]);
});

test("a pause holds what runs, going on releases what it held, and nothing that a person paused", () => {
  const trials = [trial(1), trial(2, { runState: "paused" }), trial(3, { runState: "pausing", decision: "held" })];
  expect(decideSweep(factsOf({ state: "paused", trials }))).toEqual([{ kind: "hold", trial: 1 }]);
  const held = [trial(1, { decision: "held", runState: "paused" }), trial(2, { runState: "paused" })];
  expect(decideSweep(factsOf({ maxParallel: 2, trials: held }))).toEqual([{ kind: "release", trial: 1 }]);
});

test("a cancelled sweep stops what runs and ends when that has ended", () => {
  expect(decideSweep(factsOf({ state: "cancelling", trials: [trial(1)] }))).toMatchObject([{ kind: "stop", trial: 1 }]);
  expect(decideSweep(factsOf({ state: "cancelling", trials: [trial(1, { decision: "stopped" })] }))).toEqual([]);
  expect(decideSweep(factsOf({ state: "cancelling", trials: [trial(1, { runState: "cancelled" })] }))).toMatchObject([
    { kind: "end", state: "cancelled" },
  ]);
});

test("a sweep whose budget is spent stops its trials and ends with its best", () => {
  const trials = [trial(1, { runState: "succeeded", finalScore: 51.25 }), trial(2)];
  const spent = { budgetGpuHours: 2, gpuHours: 2.1 };
  expect(decideSweep(factsOf({ ...spent, trials }))).toEqual([
    { kind: "stop", trial: 2, message: "the budget of 2 GPU hours is spent" },
  ]);
  trials[1] = trial(2, { runState: "cancelled", decision: "stopped" });
  expect(decideSweep(factsOf({ ...spent, trials }))).toEqual([
    {
      kind: "end",
      state: "succeeded",
      message: "the budget of 2 GPU hours is spent; trial 1 is the best of 2 with 51.25",
    },
  ]);
});

test("a trial that fails does not end the sweep; when all do, it fails with their reasons", () => {
  const failed = trial(1, { runState: "failed", message: "the loss is not finite" });
  const ended = factsOf({ planned: 2, trials: [failed, trial(2, { runState: "succeeded", finalScore: 3 })] });
  expect(decideSweep(ended)).toMatchObject([{ kind: "end", state: "succeeded" }]);
  const refused = trial(2, { runId: null, runState: null, message: "rank: too large" });
  expect(decideSweep(factsOf({ planned: 2, trials: [failed, refused] }))).toEqual([
    {
      kind: "end",
      state: "failed",
      message: "no trial of 2 ended with a score: the loss is not finite; rank: too large",
    },
  ]);
  expect(bestOf([trial(1, { runState: "cancelled", finalScore: 9 })], "max")).toBeNull();
});
