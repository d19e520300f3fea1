import { expect, test } from "vitest";
import { PipelineSpec } from "../contract/pipeline.ts";
import { checkCycle, checkPipeline } from "./check-pipeline.ts";
import { dueTimes, nextScheduled } from "./schedule.ts";

const run = { name: "weld", model: "drydock-tiny-vl", task: "vqa" };
const aPipeline = (change: object = {}): PipelineSpec =>
  PipelineSpec.parse({ name: "nightly", dataset: "weld", steps: [{ type: "train", run }], ...change });
const cron = (expression: string, timeZone = "UTC") => ({ type: "cron", expression, timeZone });

test.each<[string, object, string]>([
  ["nothing that trains", { steps: [{ type: "evaluate" }] }, 'a pipeline needs a step "train" or "sweep"'],
  [
    "steps out of order",
    { steps: [{ type: "evaluate" }, { type: "train", run }] },
    'step "train" cannot come after "evaluate": the order is validate, train or sweep, evaluate, gate',
  ],
  [
    "a step twice",
    {
      steps: [
        { type: "train", run },
        { type: "train", run },
      ],
    },
    'step "train" cannot come after "train"',
  ],
  [
    "a gate over nothing",
    {
      steps: [
        { type: "train", run },
        { type: "gate", rules: ["candidate.anls > 3"] },
      ],
    },
    'step "gate" needs a step "evaluate" before it',
  ],
  ["a run spec that is none", { steps: [{ type: "train", run: { ...run, task: "sing" } }] }, "steps.0.run.task:"],
  [
    "a sweep over nothing",
    { steps: [{ type: "sweep", sweep: { name: "s", run, space: {}, search: { kind: "grid" } } }] },
    "the space is empty",
  ],
  [
    "a schedule that never comes",
    { triggers: [cron("0 0 31 2 *")] },
    'the schedule "0 0 31 2 *" never comes: no date fits it',
  ],
  [
    "a schedule that cannot be read",
    { triggers: [cron("every day")] },
    'the schedule "every day" (UTC) cannot be read:',
  ],
  ["a time zone that there is not", { triggers: [cron("0 3 * * *", "Mars/Olympus")] }, "cannot be read"],
  ["itself as what starts it", { triggers: [{ type: "pipeline", pipeline: "nightly" }] }, "is started by itself"],
])("%s is refused", (_name, change, sentence) => {
  expect(() => checkPipeline(aPipeline(change))).toThrow(sentence);
});

test("pipelines that start one another in a circle are refused with the circle", () => {
  const after = (name: string, source: string): PipelineSpec =>
    aPipeline({ name, triggers: [{ type: "pipeline", pipeline: source }] });
  const others = [after("b", "a"), after("c", "b")];
  expect(() => checkCycle(after("a", "c"), others)).toThrow(
    "these pipelines would start one another for ever: a → b → c → a",
  );
  expect(() => checkCycle(after("d", "c"), [...others, aPipeline({ name: "a" })])).not.toThrow();
  expect(() => checkCycle(after("d", "e"), others)).toThrow('there is no pipeline "e"');
});

const at = (text: string): Date => new Date(text);

test("a schedule is kept in its own time zone", () => {
  const spec = aPipeline({ triggers: [cron("30 2 * * *", "Europe/Berlin")] });
  expect(nextScheduled(spec, at("2026-11-23T00:00:00Z"))).toEqual(at("2026-11-23T01:30:00Z"));
  expect(nextScheduled(aPipeline(), at("2026-11-23T00:00:00Z"))).toBeNull();
});

test("after a time when nothing looked, none, the last or each of the times that passed is started", () => {
  const due = (catchUp: string, now: string): string[] =>
    dueTimes(aPipeline({ catchUp, triggers: [cron("0 * * * *")] }), at("2026-11-23T00:30:00Z"), at(now), 60_000).map(
      (time) => time.toISOString().slice(11, 16),
    );
  expect(due("latest", "2026-11-23T03:30:00Z")).toEqual(["03:00"]);
  expect(due("all", "2026-11-23T03:30:00Z")).toEqual(["01:00", "02:00", "03:00"]);
  expect(due("none", "2026-11-23T03:30:00Z")).toEqual([]);
  expect(due("none", "2026-11-23T03:00:20Z")).toEqual(["03:00"]);
  expect(due("all", "2026-11-23T00:59:59Z")).toEqual([]);
  expect(due("all", "2026-12-23T00:00:00Z")).toHaveLength(20);
});
