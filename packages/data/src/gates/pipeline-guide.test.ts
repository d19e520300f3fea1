import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { PipelineSpec, checkPipeline } from "@drydock/spec";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { checkGateRules, parseGateRule } from "../index.ts";

test("the pipeline that the guide shows is one", async () => {
  const guide = await readFile(join(import.meta.dirname, "../../../../docs/guides/pipelines.md"), "utf8");
  const [, text = ""] = /```yaml\n([\s\S]+?)```/.exec(guide) ?? [];
  const spec = PipelineSpec.parse(parse(text));
  const { task } = checkPipeline(spec);
  const gate = spec.steps.find((step) => step.type === "gate");
  expect(() => checkGateRules((gate?.rules ?? []).map(parseGateRule), { task, slices: null })).not.toThrow();
  expect(spec.triggers.map(({ type }) => type)).toEqual(["dataset", "cron", "webhook", "metric"]);
});
